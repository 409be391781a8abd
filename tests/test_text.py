"""Text encoders: vectors that repeat, weights that are never random, a cache that is never unreadable."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from skag import text
from skag.errors import TextError
from skag.text import embed, length_remark, token_count

from .helpers.text_towers import add_model

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "golden"
GOLDEN = SHARED / "clip_text_tiny.npz"
LOOK_ALIKES = [
    "The person raises the right hand from the hip to the head and holds it there.",
    "The person lowers the right hand from the head to the hip and holds it there.",
    "The person raises the left hand from the hip to the head and holds it there.",
    "The person raises both hands from the hips to the head and holds them there.",
    "The person waves the right hand beside the head and keeps the feet still.",
    "The person waves the right hand beside the hip and keeps the feet still.",
    "The person bends the right knee and puts a shoe on the right foot.",
    "The person bends the right knee and takes a shoe off the right foot.",
    "The person sits down slowly on the chair with both hands on the knees.",
    "The person stands up slowly from the chair with both hands on the knees.",
]


def one_line(caught: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "hint"),
    [
        ("lexcial", "nearest: lexical"),
        ("ViT-B-32", "nearest: open_clip:ViT-B-32"),
        ("open_clip:", "open_clip:MODEL"),
        ("bert", "use lexical"),
        ("hf:", "hf:MODEL"),
        ("bert-base-uncased", "nearest: hf:bert-base-uncased"),
    ],
)
def test_unknown_encoders_are_refused_with_what_is_near(encoder, hint, tmp_path):
    with pytest.raises(TextError, match="no text encoder") as caught:
        embed(["a"], encoder, cache=tmp_path / "text.h5")
    assert hint in one_line(caught)
    assert not list(tmp_path.iterdir())


def test_lexical_takes_no_weights(tmp_path):
    with pytest.raises(TextError, match="leave out --text-weights"):
        embed(["a"], "lexical", weights=tmp_path / "clip.pt", cache=tmp_path / "text.h5")


def test_importing_the_module_loads_nothing_heavy():
    code = "import sys, skag.text; assert not {'torch', 'open_clip', 'h5py', 'filelock'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# Lexical -------------------------------------------------------------------------------------------------------------


def test_lexical_separates_sentences_that_share_most_words(tmp_path):
    vectors = embed(LOOK_ALIKES, "lexical", cache=tmp_path / "text.h5")
    assert (vectors.shape, vectors.dtype) == ((10, 512), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = (vectors @ vectors.T)[~np.eye(10, dtype=bool)]
    assert cosines.mean() < 0.25
    assert cosines.max() < 0.75


def test_lexical_finds_related_sentences_nearer_than_unrelated_ones(tmp_path):
    sentences = ["The arm is raised slowly.", "Slowly raising both arms", "A ball is kicked with force."]
    raised, raising, kicked = embed(sentences, "lexical", cache=tmp_path / "text.h5")
    assert raised @ raising > raised @ kicked + 0.15


def test_lexical_embeds_a_sentence_the_same_whatever_stands_beside_it(tmp_path):
    alone = embed(LOOK_ALIKES[:1], "lexical", cache=tmp_path / "a.h5")
    together = embed(LOOK_ALIKES, "lexical", cache=tmp_path / "b.h5")
    np.testing.assert_array_equal(alone[0], together[0])


@pytest.mark.parametrize("sentence", ["", "   ", "the a of", "!!!", "动作", "\ud800", "\x00", "a" * 10_000])
def test_lexical_has_a_vector_for_any_text(sentence, tmp_path):
    vectors = embed([sentence, "wave"], "lexical", cache=tmp_path / "text.h5")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] < 0.9


def test_no_sentences_give_an_empty_table(tmp_path):
    assert embed([], "lexical", cache=tmp_path / "text.h5").shape == (0, 512)


def test_lexical_is_the_same_in_every_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; from skag.text import embed;"
        "vectors = embed(['raise the right hand', 'sit down'], 'lexical', cache=Path(sys.argv[1]));"
        "sys.stdout.buffer.write(vectors.tobytes())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / f"{seed}.h5"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 2 * 512 * 4


def test_lexical_has_no_token_limit():
    assert token_count("word " * 500, "lexical") is None
    assert length_remark(["a"], ["word " * 500], "lexical") is None


# The cache -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch) -> list[list[str]]:
    """The sentences that were really encoded, call by call."""
    calls: list[list[str]] = []
    encode = text._lexical
    monkeypatch.setattr(text, "_lexical", lambda sentences: (calls.append(list(sentences)), encode(sentences))[1])
    return calls


def test_each_sentence_is_computed_once_and_the_missing_together(tmp_path, computed):
    cache = tmp_path / "new" / "text.h5"
    first = embed(["a b", "c d"], "lexical", cache=cache)
    again = embed(["e f", "c d", "g h", "a b", "e f"], "lexical", cache=cache)
    assert computed == [["a b", "c d"], ["e f", "g h"]]
    np.testing.assert_array_equal(again[[3, 1]], first)
    np.testing.assert_array_equal(again[0], again[4])
    embed(["g h"], "lexical", cache=cache)
    assert len(computed) == 2


def test_encoders_do_not_mix_in_a_cache(tmp_path, monkeypatch):
    cache = tmp_path / "text.h5"
    lexical = embed(["sit"], "lexical", cache=cache)
    other = text.Encoder('{"encoder": "other"}', lambda sentences: np.eye(7, dtype=np.float32)[: len(sentences)])
    with monkeypatch.context() as patch:
        patch.setattr(text, "open_encoder", lambda *args, **options: other)
        assert embed(["sit"], "open_clip:any", cache=cache).shape == (1, 7)
    np.testing.assert_array_equal(embed(["sit"], "lexical", cache=cache), lexical)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped"])
def test_a_damaged_cache_is_put_aside_and_rebuilt(damage, tmp_path, caplog, computed):
    cache = tmp_path / "text.h5"
    sound = embed(LOOK_ALIKES, "lexical", cache=cache)
    data = bytearray(cache.read_bytes())
    position = data.find(sound[3].tobytes())
    assert position > 0
    if damage == "flipped":
        data[position] ^= 1
    cache.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"hello\n" * 99}.get(damage, data))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(embed(LOOK_ALIKES, "lexical", cache=cache), sound)
    assert len(computed) == 2
    assert "damaged" in caplog.text
    assert (tmp_path / "text.h5.damaged-1").exists()
    embed(LOOK_ALIKES, "lexical", cache=cache)
    assert len(computed) == 2  # the rebuilt one is sound


def test_another_hdf5_file_is_refused_and_left_alone(tmp_path):
    other = tmp_path / "recordings.h5"
    with h5py.File(other, "w") as file:
        file.attrs["format"] = "skag-skeletons"
    before = other.read_bytes()
    with pytest.raises(TextError, match="another kind of HDF5 file") as caught:
        embed(["a"], "lexical", cache=other)
    one_line(caught)
    assert other.read_bytes() == before


def test_places_that_cannot_be_written_are_one_line(tmp_path):
    with pytest.raises(TextError, match="is no file"):
        embed(["a"], "lexical", cache=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TextError, match="cannot write the text cache") as caught:
        embed(["a"], "lexical", cache=tmp_path / "file" / "text.h5")
    one_line(caught)


def test_a_write_that_fails_leaves_the_old_cache(tmp_path, monkeypatch, computed):
    cache = tmp_path / "text.h5"
    embed(["a b"], "lexical", cache=cache)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TextError, match="No space left"):
            embed(["c d"], "lexical", cache=cache)
    embed(["a b"], "lexical", cache=cache)
    assert computed == [["a b"], ["c d"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.h5", "text.h5.lock"]


def test_a_killed_writer_leaves_a_readable_cache(tmp_path, caplog):
    cache = tmp_path / "text.h5"
    code = (
        "import sys; from pathlib import Path; from skag.text import embed\n"
        "for i in range(10**6):\n"
        "    embed([f'{sys.argv[2]} {i}'], 'lexical', cache=Path(sys.argv[1]))\n"
        "    print(i, flush=True)\n"
    )
    for turn in range(4):
        command = [sys.executable, "-c", code, str(cache), f"turn {turn}"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            time.sleep(0.02 + 0.013 * turn)
            process.send_signal(signal.SIGKILL)
            written = 1 + len(process.stdout.readlines())
        held = text._read(cache, set_aside=False)
        kept = next(iter(held.values()))
        assert all(text._sentence_hash(f"turn {turn} {i}") in kept for i in range(written))
        assert all(text._sentence_hash(f"turn {earlier} 0") in kept for earlier in range(turn))
    assert embed(["after"], "lexical", cache=cache).shape == (1, 512)
    assert "damaged" not in caplog.text


def test_two_writers_at_once_end_with_one_complete_cache(tmp_path):
    cache = tmp_path / "text.h5"
    code = (
        "import sys; from pathlib import Path; from skag.text import embed\n"
        "for i in range(15): embed([f'{sys.argv[2]} {i}', f'both {i}'], 'lexical', cache=Path(sys.argv[1]))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(cache), name], cwd=ROOT) for name in ("one", "two")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(next(iter(text._read(cache, set_aside=False).values()))) == 45


# open_clip -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Two tiny models known to open_clip, one with weights: `(folder, model)`."""
    folder = tmp_path_factory.mktemp("clip")
    add_model(folder, "skag-tiny")
    add_model(folder, "skag-tiny-wide", width=48)
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("skag-tiny", load_weights=False).eval()
    torch.save(model.state_dict(), folder / "tiny.pt")
    save_file(model.state_dict(), folder / "tiny.safetensors")
    return folder, model


def test_vectors_are_the_text_towers_own(tiny, tmp_path):
    import open_clip
    import torch

    folder, model = tiny
    sentences = ["sit down", "stand up from the chair"]
    with torch.no_grad():
        wanted = model.encode_text(open_clip.get_tokenizer("skag-tiny")(sentences), normalize=True).numpy()
    for file in ("tiny.pt", "tiny.safetensors"):
        found = embed(sentences, "open_clip:skag-tiny", weights=folder / file, cache=tmp_path / f"{file}.h5")
        assert (found.shape, found.dtype) == ((2, 16), np.float32)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_golden_text_tower_is_met(tmp_path):
    if not GOLDEN.is_file():
        pytest.skip("the reference's golden vectors are not beside the project")
    import torch

    from skag.text import open_clip as text_open_clip

    add_model(tmp_path, "skag-golden", quick_gelu=True, embed_dim=64, vocab_size=600, width=128, heads=2, layers=3)
    import open_clip

    golden = np.load(GOLDEN)
    state = {name[6:]: torch.from_numpy(golden[name]) for name in golden if name.startswith("state/")}
    whole = open_clip.create_model("skag-golden", load_weights=False).state_dict()
    assert state.keys() <= whole.keys()
    torch.save(whole | state, tmp_path / "golden.pt")
    tower = text_open_clip._load("skag-golden", True, tmp_path / "golden.pt", "", "cpu")
    wanted = golden["text_features"] / np.linalg.norm(golden["text_features"], axis=1, keepdims=True)
    found = text_open_clip.encode_tokens(tower, torch.from_numpy(golden["tokens"]).long())
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_cached_sentences_load_no_tower_and_new_weights_are_not_mistaken_for_old(tiny, tmp_path, monkeypatch):
    import torch

    from skag.text import open_clip as text_open_clip

    folder, model = tiny
    weights, cache = tmp_path / "mine.pt", tmp_path / "text.h5"
    weights.write_bytes((folder / "tiny.pt").read_bytes())
    first = embed(["sit"], "open_clip:skag-tiny", weights=weights, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(text_open_clip, "_load", lambda *args: pytest.fail("loaded the tower for a cached sentence"))
        np.testing.assert_array_equal(embed(["sit"], "open_clip:skag-tiny", weights=weights, cache=cache), first)
    state = dict(model.state_dict())
    state["token_embedding.weight"] = state["token_embedding.weight"].flip(0)
    torch.save(state, weights)
    assert not np.allclose(embed(["sit"], "open_clip:skag-tiny", weights=weights, cache=cache), first, atol=1e-3)


def test_long_sentences_are_cut_before_the_end_token(tiny, tmp_path):
    import open_clip

    folder, _ = tiny
    sentence = "the right hand moves up and then " * 20
    tokens = open_clip.get_tokenizer("skag-tiny")([sentence])[0]
    assert (len(tokens), int(tokens[-1])) == (77, 49407)
    assert token_count(sentence, "open_clip:skag-tiny") == 7 * 20 + 2
    assert token_count("sit down", "open_clip:skag-tiny") == 4
    assert np.isfinite(
        embed([sentence], "open_clip:skag-tiny", weights=folder / "tiny.pt", cache=tmp_path / "t.h5")
    ).all()


@pytest.mark.parametrize("dataset", ["nturgbd_60", "nturgbd_120", "finegym", "k400", "uav_human"])
def test_the_golden_sentences_have_the_reference_tokens(dataset):
    if not (SHARED / "losses_stats_text.npz").is_file():
        pytest.skip("the reference's golden vectors are not beside the project")
    from skag.text.open_clip import _tokenizer

    tokeniser = _tokenizer("ViT-B-32")
    with np.load(SHARED / "losses_stats_text.npz") as golden:
        tokens_KL = golden[f"text/{dataset}/tokens"]
    sentences = [tokeniser.decode(row[(row > 0) & (row < 49406)].tolist()) for row in tokens_KL]
    np.testing.assert_array_equal(tokeniser(sentences).numpy(), tokens_KL)
    counts = [token_count(sentence, "open_clip:ViT-B-32") for sentence in sentences]
    assert counts == (tokens_KL > 0).sum(1).tolist()
    assert length_remark([str(k) for k in range(len(counts))], sentences, "open_clip:ViT-B-32") is None


def test_sentences_near_the_limit_are_remarked_upon_longest_first():
    names = [f"class {n}" for n in (10, 67, 68, 75, 76, 90)]
    sentences = ["up " * int(name.split()[1]) for name in names]  # one token each, start and end besides
    remark = length_remark(names, sentences, "open_clip:ViT-B-32")
    assert remark == (
        "open_clip:ViT-B-32 reads 77 tokens of a sentence; "
        "cut at the limit: class 90 (92), class 76 (78); near it: class 75 (77), class 68 (70)."
    )
    many = length_remark([str(n) for n in range(30)], ["up " * 80] * 30, "open_clip:ViT-B-32")
    assert "9 (82) and 20 more." in many and "10 (82)" not in many


def hub_folder(folder: Path, weights: Path, **config: object) -> Path:
    """A folder as open_clip's own `push_to_hf_hub` makes it."""
    folder.mkdir()
    (folder / "open_clip_pytorch_model.bin").write_bytes(weights.read_bytes())
    if config:
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


def test_a_folder_of_weights_says_which_activation_it_needs(tiny, tmp_path):
    text_cfg = {"context_length": 77, "width": 32, "heads": 2, "layers": 2}
    plain = hub_folder(tmp_path / "plain", tiny[0] / "tiny.pt", text_cfg=text_cfg)
    quick = hub_folder(tmp_path / "quick", tiny[0] / "tiny.pt", text_cfg=text_cfg, quick_gelu=True)
    silent = hub_folder(tmp_path / "silent", tiny[0] / "tiny.pt")
    options = {"encoder": "open_clip:skag-tiny", "cache": tmp_path / "text.h5"}
    wanted = embed(["sit"], weights=tiny[0] / "tiny.pt", **options)
    for folder in (plain, silent):
        np.testing.assert_allclose(embed(["sit"], weights=folder, **options), wanted, atol=1e-6)
    assert np.abs(embed(["sit"], weights=quick, **options) - wanted).max() > 1e-4


def test_a_folder_that_does_not_fit_is_refused(tiny, tmp_path):
    other = hub_folder(tmp_path / "other", tiny[0] / "tiny.pt", text_cfg={"heads": 4, "width": 32})
    damaged = hub_folder(tmp_path / "damaged", tiny[0] / "tiny.pt", text_cfg=None)
    for folder, cause in ((tmp_path, "has none of"), (other, "heads differ"), (damaged, "is damaged")):
        with pytest.raises(TextError, match=cause) as caught:
            embed(["sit"], "open_clip:skag-tiny", weights=folder, cache=tmp_path / "text.h5")
        one_line(caught)


def test_another_tokeniser_is_not_mistaken_for_the_old(tiny, tmp_path, monkeypatch):
    from skag.text import open_clip as text_open_clip

    options = {"weights": tiny[0] / "tiny.pt", "cache": tmp_path / "text.h5"}
    embed(["sit"], "open_clip:skag-tiny", **options)
    (tmp_path / "merges.gz").write_bytes(b"other byte pairs")
    monkeypatch.setattr(text_open_clip, "_vocabulary", lambda: tmp_path / "merges.gz")
    embed(["sit"], "open_clip:skag-tiny", **options)
    assert len(text._read(tmp_path / "text.h5", set_aside=False)) == 2


def bad_weights(kind: str, folder: Path, target: Path) -> None:
    import torch

    state = torch.load(folder / "tiny.pt", weights_only=True)
    if kind == "a part is missing":
        del state["transformer.resblocks.1.ln_1.weight"]
    elif kind == "no vision tower":
        state = {name: value for name, value in state.items() if not name.startswith("visual")}
    elif kind == "fewer positions":
        state["positional_embedding"] = state["positional_embedding"][:40]
    elif kind == "NaN":
        state["text_projection"] = state["text_projection"] * float("nan")
    if kind == "damaged":
        target.write_bytes((folder / "tiny.pt").read_bytes()[:5000])
    elif kind == "code":
        torch.save({"state_dict": os.system}, target)
    elif kind == "a list":
        torch.save([1, 2, 3], target)
    else:
        torch.save(state, target)


@pytest.mark.parametrize(
    "kind", ["a part is missing", "no vision tower", "fewer positions", "NaN", "damaged", "code", "a list"]
)
def test_weights_that_do_not_fit_are_refused(kind, tiny, tmp_path):
    bad_weights(kind, tiny[0], tmp_path / "bad.pt")
    with pytest.raises(TextError, match="do not fit skag-tiny") as caught:
        embed(["sit"], "open_clip:skag-tiny", weights=tmp_path / "bad.pt", cache=tmp_path / "text.h5")
    assert len(one_line(caught)) < 400 + len(str(tmp_path))
    assert not (tmp_path / "text.h5").exists()


def test_weights_of_another_model_are_refused(tiny, tmp_path):
    with pytest.raises(TextError, match="do not fit skag-tiny-wide"):
        embed(["sit"], "open_clip:skag-tiny-wide", weights=tiny[0] / "tiny.pt", cache=tmp_path / "text.h5")


@pytest.mark.parametrize(("file", "cause"), [("absent.pt", "no weights file"), ("notes.txt", "takes .pt")])
def test_files_that_are_no_weights_are_refused(file, cause, tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(TextError, match=cause) as caught:
        embed(["sit"], "open_clip:skag-tiny", weights=tmp_path / file, cache=tmp_path / "text.h5")
    one_line(caught)


@pytest.mark.parametrize(
    ("encoder", "cause"),
    [
        ("open_clip:ViT-B32", "nearest are ViT-B-32"),
        ("open_clip:ViT-B-32:mine", "it has openai"),
        ("open_clip:roberta-ViT-B-32", "tokeniser"),
        ("open_clip:skag-tiny", "no weights for skag-tiny on the hub"),
    ],
)
def test_models_that_cannot_be_had_are_refused(encoder, cause, tiny, tmp_path):
    with pytest.raises(TextError, match=cause) as caught:
        embed(["sit"], encoder, cache=tmp_path / "text.h5")
    one_line(caught)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and a hub that may not be asked."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_missing_weights_fail_at_once_offline(tiny, hub, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(TextError, match="HF_HUB_OFFLINE") as caught:
        embed(["sit"], "open_clip:ViT-B-32", cache=tmp_path / "text.h5")
    assert "--text-encoder lexical" in one_line(caught)
    assert "--text-weights FILE" in str(caught.value)


def test_an_unreachable_hub_is_asked_once_with_a_limit(tiny, hub, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def unreachable(url: str, *, timeout: float) -> None:
        asked.append(timeout)
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a: pytest.fail("went on to download"))
    with pytest.raises(TextError, match="no route to host") as caught:
        embed(["sit"], "open_clip:ViT-B-32", cache=tmp_path / "text.h5")
    assert "--text-encoder lexical" in one_line(caught)
    assert len(asked) == 1
    assert asked[0] <= 10


def test_cached_weights_are_used_with_the_activation_they_were_trained_with(tiny, hub, tmp_path, monkeypatch):
    """OpenAI's weights need QuickGELU, which neither open_clip's `ViT-B-32` nor the file says."""
    import open_clip.pretrained

    folder, _ = tiny
    entry = {"hf_hub": "someone/tiny/", "quick_gelu": True}
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, "skag-tiny", {"laion": entry | {"quick_gelu": False}, "openai": entry}
    )
    snapshot = hub / "models--someone--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes())
    (hub / "models--someone--tiny" / "refs").mkdir()
    (hub / "models--someone--tiny" / "refs" / "main").write_text("abc")
    quick = embed(["sit down"], "open_clip:skag-tiny", cache=tmp_path / "text.h5")
    plain = embed(["sit down"], "open_clip:skag-tiny:laion", cache=tmp_path / "text.h5")
    own = embed(["sit down"], "open_clip:skag-tiny:laion", weights=folder / "tiny.pt", cache=tmp_path / "other.h5")
    np.testing.assert_allclose(plain, own, atol=1e-6)
    assert np.abs(quick - plain).max() > 1e-4
