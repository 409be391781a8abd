"""Sentence encoders of transformers, on a tiny random BERT: means over the mask, no code, no random weights."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from skag import hub as hub_files
from skag import text
from skag.errors import TextError
from skag.text import embed, length_remark, token_count
from skag.text import hf as text_hf
from skag.weights import mend_torchvision

WORDS = ["the", "person", "raises", "right", "hand", "and", "then", "sits", "down", "stands", "up", "##ly", "."]
SENTENCES = ["The person raises the right hand.", "the person sits down", "then stands up and sits down and stands up"]


def one_line(caught: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and a hub that may not be asked; transformers is not needed to get that far."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(text_hf, "_import_transformers", lambda: None)
    return tmp_path / "hub"


# Without transformers ------------------------------------------------------------------------------------------------


def test_missing_transformers_is_one_line_with_the_import_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for call in (
        lambda: embed(["a"], "hf:bert-base-uncased", cache=tmp_path / "text.h5"),
        lambda: token_count("a", "hf:bert-base-uncased"),
    ):
        with pytest.raises(TextError, match=r"pip install 'skag\[hf\]'") as caught:
            call()
        assert "transformers" in one_line(caught).split("(")[1]
    assert not (tmp_path / "text.h5").exists()


def test_missing_models_fail_at_once_offline(hub, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(TextError, match="HF_HUB_OFFLINE") as caught:
        embed(["sit"], "hf:bert-base-uncased", cache=tmp_path / "text.h5")
    assert "--text-encoder lexical" in one_line(caught) and "--text-weights FOLDER" in str(caught.value)


def test_an_unreachable_hub_is_asked_once_with_a_limit(hub, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    asked = []

    def unreachable(api: object, name: str, *, timeout: float) -> None:
        asked.append((name, timeout))
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("went on to download"))
    with pytest.raises(TextError, match="no route to host") as caught:
        embed(["sit"], "hf:bert-base-uncased", cache=tmp_path / "text.h5")
    one_line(caught)
    assert [name for name, _ in asked] == ["bert-base-uncased"] and asked[0][1] <= 10


def test_of_a_repository_only_one_form_of_the_weights_is_fetched():
    small = ["config.json", "tokenizer.json", "vocab.txt", "sentencepiece.bpe.model"]
    rest = ["README.md", "tf_model.h5", "onnx/model.onnx", "onnx/config.json", "modeling_evil.py", "rust_model.ot"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    both = [*rest, *small, "pytorch_model.bin", "model.safetensors"]
    assert hub_files.wanted(both) == [*small, "model.safetensors"]
    assert hub_files.wanted([*rest, *small, "pytorch_model.bin"]) == [*small, "pytorch_model.bin"]
    assert hub_files.wanted([*small, *shards]) == [*small, *shards]


def test_damaged_and_foreign_folders_are_refused(hub, tmp_path):
    def files(name: str, **contents: str) -> Path:
        (tmp_path / name).mkdir()
        for file, content in contents.items():
            (tmp_path / name / file.replace("__", ".")).write_text(content)
        return tmp_path / name

    bert = '{"model_type": "bert"}'
    cases = [
        (tmp_path / "nowhere", "no folder"),
        (files("empty"), "config.json: missing"),
        (files("no json", config__json="{"), "holds no model"),
        (files("another", config__json="[]"), "names no model_type"),
        (files("bare", config__json=bert), "lacks weights"),
        (files("mute", config__json=bert, model__safetensors=""), "lacks a tokeniser"),
        (
            files(
                "shard",
                config__json=bert,
                **{"model__safetensors__index__json": '{"weight_map": {"a": "model-1.safetensors"}}'},
            ),
            "lacks weights .model-1.safetensors",
        ),
        (
            files(
                "outside",
                config__json=bert,
                **{"model__safetensors__index__json": '{"weight_map": {"a": "../x.safetensors"}}'},
            ),
            "is damaged",
        ),
    ]
    for folder, cause in cases:
        for arguments in ({"encoder": f"hf:{folder}"}, {"encoder": "hf:any", "weights": folder}):
            with pytest.raises(TextError, match=cause) as caught:
                embed(["sit"], cache=tmp_path / "text.h5", **arguments)
            one_line(caught)
    with pytest.raises(TextError, match="no name on the hub and no folder"):
        embed(["sit"], "hf:a/b/c", cache=tmp_path / "text.h5")


# With transformers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> tuple[Path, object]:
    """A tiny random BERT in a folder, and the model itself: 24 positions, 16 numbers."""
    mend_torchvision()
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'skag[hf]'")
    import torch

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=24).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    model = transformers.BertModel(config).eval()
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def copy(bert, tmp_path) -> Path:
    """A copy of the tiny BERT's folder that a test may change."""
    return Path(shutil.copytree(bert[0], tmp_path / "bert"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_vectors_are_means_over_tokens_that_are_no_padding(bert, tmp_path):
    import torch
    from transformers import AutoTokenizer

    folder, model = bert
    tokeniser = AutoTokenizer.from_pretrained(folder)
    wanted = []
    for sentence in SENTENCES:  # one by one: no padding there
        with torch.no_grad():
            hidden = model(**tokeniser(sentence, return_tensors="pt")).last_hidden_state[0]
        wanted.append(hidden.mean(0) / hidden.mean(0).norm())
    found = embed(SENTENCES, f"hf:{folder}", cache=tmp_path / "text.h5")
    assert (found.shape, found.dtype) == ((3, 16), np.float32)
    np.testing.assert_allclose(found, torch.stack(wanted).numpy(), atol=1e-6)
    assert embed([], f"hf:{folder}", cache=tmp_path / "text.h5").shape == (0, 16)


def test_the_folder_may_be_given_by_name_or_beside_it_and_may_move(bert, copy, tmp_path, monkeypatch):
    cache = tmp_path / "text.h5"
    first = embed(SENTENCES, f"hf:{bert[0]}", cache=cache)
    monkeypatch.setattr(text_hf, "_load", lambda *args: pytest.fail("loaded the model for cached sentences"))
    np.testing.assert_array_equal(embed(SENTENCES, "hf:someone/name", weights=copy, cache=cache), first)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(embed(SENTENCES, "hf:bert", cache=cache), first)


def test_models_in_the_hubs_cache_are_used(bert, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    kept = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(bert[0], kept / "snapshots" / "abc")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    found = embed(SENTENCES, "hf:someone/tiny", cache=tmp_path / "a.h5")
    np.testing.assert_array_equal(found, embed(SENTENCES, f"hf:{bert[0]}", cache=tmp_path / "b.h5"))
    (kept / "snapshots" / "abc" / "model.safetensors").unlink()
    with pytest.raises(TextError, match="lacks weights") as caught:
        embed(["sits"], "hf:someone/tiny", cache=tmp_path / "a.h5")
    assert "HF_HUB_OFFLINE" in one_line(caught)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_other_weights_tokenisers_and_configurations_are_computed_anew(file, bert, copy, tmp_path):
    cache = tmp_path / "text.h5"
    embed(["sits"], f"hf:{copy}", cache=cache)
    if file == "model.safetensors":
        from safetensors.torch import load_file, save_file

        state = load_file(copy / file)
        save_file({name: value * 1.5 for name, value in state.items()}, copy / file)
    else:
        (copy / file).write_text((copy / file).read_text() + "\n")
    embed(["sits"], f"hf:{copy}", cache=cache)
    assert len(text._read(cache, set_aside=False)) == 2


def test_pickled_weights_of_another_head_are_read_and_their_code_is_not_run(bert, copy, tmp_path):
    import torch

    wanted = embed(SENTENCES, f"hf:{bert[0]}", cache=tmp_path / "a.h5")
    (copy / "model.safetensors").unlink()
    state = {f"bert.{name}": value for name, value in bert[1].state_dict().items()}
    torch.save(state | {"cls.predictions.bias": torch.zeros(3)}, copy / "pytorch_model.bin")
    np.testing.assert_allclose(embed(SENTENCES, f"hf:{copy}", cache=tmp_path / "b.h5"), wanted, atol=1e-6)
    torch.save({"embeddings.LayerNorm.weight": os.system}, copy / "pytorch_model.bin")
    with pytest.raises(TextError, match="do not fit"):
        embed(SENTENCES, f"hf:{copy}", cache=tmp_path / "b.h5")


def test_weights_in_shards_are_read(bert, tmp_path):
    shutil.copytree(bert[0], tmp_path / "shards", ignore=shutil.ignore_patterns("model.safetensors"))
    bert[1].save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    found = embed(SENTENCES, f"hf:{tmp_path / 'shards'}", cache=tmp_path / "a.h5")
    np.testing.assert_allclose(found, embed(SENTENCES, f"hf:{bert[0]}", cache=tmp_path / "b.h5"), atol=1e-6)


def break_weights(folder: Path, kind: str) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    state = load_file(path)
    if kind == "missing":
        del state["encoder.layer.1.output.dense.weight"]
    elif kind == "shape":
        state["embeddings.word_embeddings.weight"] = state["embeddings.word_embeddings.weight"][:9]
    elif kind == "NaN":
        state["embeddings.LayerNorm.bias"] *= float("nan")
    save_file(state, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "vocabulary":
        change(folder / "config.json", vocab_size=9)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("missing", "missing: encoder.layer.1.output.dense.weight"),
        ("shape", "another shape: embeddings.word_embeddings.weight"),
        ("vocabulary", "another shape"),
        ("truncated", "do not fit"),
        ("NaN", "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(kind, cause, copy, tmp_path):
    break_weights(copy, kind)
    with pytest.raises(TextError, match=cause) as caught:
        embed(SENTENCES, f"hf:{copy}", cache=tmp_path / "text.h5")
    one_line(caught)
    assert not (tmp_path / "text.h5").exists()


def test_code_adapters_and_other_files_that_a_folder_names_are_not_used(bert, copy, tmp_path):
    wanted = embed(SENTENCES, f"hf:{bert[0]}", cache=tmp_path / "a.h5")
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nraise SystemExit\n")
    change(copy / "config.json", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"})
    change(copy / "config.json", transformers_weights="other.safetensors", attn_implementation="someone/kernel")
    change(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else", "peft_type": "LORA"}')
    found = embed(SENTENCES, f"hf:{copy}", cache=tmp_path / "b.h5")
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    change(copy / "config.json", model_type="evil")
    with pytest.raises(TextError, match="does not load") as caught:
        embed(["sits"], f"hf:{copy}", cache=tmp_path / "b.h5")
    one_line(caught)
    assert not (tmp_path / "executed").exists()


def test_models_that_are_no_encoders_are_refused(bert, copy, tmp_path):
    import transformers

    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    transformers.T5Model(config).save_pretrained(copy)
    with pytest.raises(TextError, match="cannot read sentences") as caught:
        embed(["sits"], f"hf:{copy}", cache=tmp_path / "text.h5")
    one_line(caught)


def test_tokens_are_counted_and_the_limit_is_the_smallest_told(copy, tmp_path):
    encoder = f"hf:{copy}"
    assert token_count("The person sits down.", encoder) == 2 + 5
    assert token_count("raises quickly", encoder) == 2 + 2  # an unknown word is one token
    names, sentences = ["short", "near", "full", "long"], ["up " * n for n in (3, 20, 22, 23)]
    remark = length_remark(names, sentences, encoder)
    assert remark.endswith("reads 24 tokens of a sentence; cut at the limit: long (25); near it: full (24), near (22).")
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 10}')
    assert "reads 10 tokens" in length_remark(["long"], ["up " * 30], "hf:any", weights=copy)


def test_long_sentences_are_cut_before_the_end_token(bert, tmp_path):
    long, full = "up " * 100, "up " * 22
    found = embed([long, full], f"hf:{bert[0]}", cache=tmp_path / "text.h5")
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_loading_prints_nothing(bert, tmp_path, capfd):
    embed(SENTENCES, f"hf:{bert[0]}", cache=tmp_path / "text.h5")
    text_hf._load.cache_clear()
    embed(["sits"], f"hf:{bert[0]}", cache=tmp_path / "text.h5")
    assert capfd.readouterr() == ("", "")
