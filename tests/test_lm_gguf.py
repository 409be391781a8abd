"""Base models by name and from GGUF files: a small one written here, and the real one where it is installed."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skag.errors import ModelError
from skag.hub import quiet
from skag.lm import gguf as gguf_files
from skag.lm.causal import _in_4bit, fits, import_transformers, load_causal
from skag.lm.names import embedded, locate
from skag.lm.prompts import answer_loss, assemble, compose
from skag.lm.score import Candidates, candidate_log_likelihoods, naive_log_likelihoods

from .helpers.language_models import NAMES, needs_smollm2, smollm2, tiny_folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a Llama with 64 words, whose matrices are in 8 bits."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    width, hidden, layers, words = 32, 64, 2, 64
    writer.add_name("small")
    for name, value in (
        ("context_length", 128), ("embedding_length", width), ("block_count", layers), ("feed_forward_length", hidden),
        ("head_count", 4), ("head_count_kv", 2), ("vocab_size", words), ("rope_dimension_count", 8),
    ):  # fmt: skip
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    merges = ["s i", "si t", "u p"]
    tokens = ["<s>", "</s>", "Ġ", *letters, *(m.replace(" ", "") for m in merges)]
    tokens += [f"<extra{n}>" for n in range(words - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    drawn = np.random.default_rng(0)
    shapes = {"token_embd": (words, width), "output_norm": (width,)}
    for n in range(layers):
        shapes |= {f"blk.{n}.{name}": shape for name, shape in {
            "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width), "attn_k": (16, width),
            "attn_v": (16, width), "attn_output": (width, width), "ffn_gate": (hidden, width),
            "ffn_up": (hidden, width), "ffn_down": (width, hidden),
        }.items()}  # fmt: skip
    for name, shape in shapes.items():
        values = (0.2 * drawn.normal(size=shape)).astype(np.float32) + (len(shape) == 1)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_dequantised_once_and_is_what_transformers_reads(small: Path, tmp_path: Path) -> None:
    told: list[str] = []
    model = load_causal(str(small), cache=tmp_path, tell=told.append)
    assert len(told) == 1 and "the first time only" in told[0]
    transformers = import_transformers()
    with quiet():
        direct = transformers.AutoModelForCausalLM.from_pretrained(small.parent, gguf_file=small.name)
    for (name, tensor), other in zip(model.network.state_dict().items(), direct.state_dict().values(), strict=True):
        assert torch.equal(tensor, other.float()), name
    assert model.network.lm_head.weight is model.network.model.embed_tokens.weight
    assert model.start == (0,) and model.ends == (1,)  # BOS, as the file says and transformers does not
    assert model.encode("sit up", first=True)[0] == 0
    again = load_causal(str(small), cache=tmp_path, tell=told.append)
    assert len(told) == 1 and again.identity == model.identity
    assert model.identity["format"] == "gguf" and len(model.identity["weights"]) == 64
    inputs = assemble(model, [compose("a {v} is", {"v": torch.randn(2, 32)})])
    candidates = Candidates.of(model, ["sit", "up", "sit up"])
    with torch.inference_mode():
        fast, slow = (way(model, inputs, candidates) for way in (candidate_log_likelihoods, naive_log_likelihoods))
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


def test_damage_in_the_cache_is_noticed_and_mended(small: Path, tmp_path: Path) -> None:
    before = load_causal(str(small), cache=tmp_path).network.state_dict()
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    weights = folder / gguf_files.WEIGHTS
    for damage in (b"", weights.read_bytes()[:-9] + b"123456789"):
        weights.unlink()  # a loaded model still reads the file that it was: to cut that one would be a bus error
        weights.write_bytes(damage)
        after = load_causal(str(small), cache=tmp_path).network.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    (folder / gguf_files.MANIFEST).write_text("{")
    load_causal(str(small), cache=tmp_path)
    assert not list(tmp_path.glob(".*.partial")) and json.loads((folder / gguf_files.MANIFEST).read_text())


def test_damaged_and_foreign_files_are_one_line(small: Path, tmp_path: Path) -> None:
    whole = small.read_bytes()
    cases = {
        "text.gguf": (b"hello", "no GGUF file"),
        "empty.gguf": (b"", "no GGUF file"),
        "header.gguf": (whole[:6], "cannot be read"),
        "half.gguf": (whole[: len(whole) // 2], "cannot be read"),
        "names.gguf": (whole.replace(b"llama", b"lambs"), "cannot be read"),
        "noise.gguf": (b"GGUF" + np.random.default_rng(0).bytes(2000), "cannot be read"),
    }
    for name, (content, cause) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=cause) as caught:
            load_causal(str(tmp_path / name), cache=tmp_path / "cache")
        assert "\n" not in str(caught.value) and name in str(caught.value)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be written"):
        load_causal(str(small), cache=tmp_path / "file" / "cache")


def test_a_folder_of_gguf_files_asks_for_one(small: Path) -> None:
    with pytest.raises(ModelError, match="name one of them, such as .*small.gguf"):
        locate(str(small.parent))


def test_the_same_model_under_another_name_is_the_same(tmp_path: Path) -> None:
    first = load_causal(str(tiny_folder(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert fits(first.identity, load_causal(str(tmp_path / "b")).identity)
    assert not fits(first.identity, load_causal(str(tiny_folder(tmp_path / "c", seed=1))).identity)
    assert not fits(first.identity, load_causal(str(tmp_path / "b"), pretrained=False).identity)


def test_random_weights_are_drawn_from_the_seed(tmp_path: Path) -> None:
    folder = str(tiny_folder(tmp_path, seed=7))
    usual, one, same, other = (
        load_causal(folder, **options).words()
        for options in ({}, {"pretrained": False}, {"pretrained": False}, {"pretrained": False, "seed": 1})
    )
    assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, usual)
    assert one.std() == pytest.approx(0.2, rel=0.1)  # the config's initializer_range


def test_four_bits_need_cuda_and_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tiny_folder(tmp_path))
    with pytest.raises(ModelError, match="CUDA"):
        load_causal(folder, quantisation="4bit")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install bitsandbytes") as caught:
        load_causal(folder, quantisation="4bit", device="cuda")
    assert "\n" not in str(caught.value)


def test_in_four_bits_are_all_linear_layers_but_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for bitsandbytes: which layers are taken, with which settings, and that the weights go along."""

    class Linear4bit(torch.nn.Linear):
        def __init__(self, wide: int, narrow: int, bias: bool, **settings: object) -> None:
            super().__init__(wide, narrow, bias)
            self.settings = settings

    class Params4bit(torch.nn.Parameter):
        def __new__(cls, data: torch.Tensor, requires_grad: bool, **settings: object) -> Params4bit:
            made = super().__new__(cls, data, requires_grad)
            made.settings = settings
            return made

    nn = SimpleNamespace(Linear4bit=Linear4bit, Params4bit=Params4bit)
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(nn=nn))
    plain = load_causal(str(tiny_folder(tmp_path))).network
    before = {name: weight.clone() for name, weight in plain.named_parameters()}
    network = _in_4bit(plain, torch.float32, "cpu")
    kinds = {name: type(module) for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {name for name, kind in kinds.items() if kind is not Linear4bit} == {"lm_head"} and len(kinds) == 15
    for name, module in network.named_modules():
        if isinstance(module, Linear4bit):
            assert module.settings == {"compute_dtype": torch.float32, "quant_type": "nf4"}
            assert torch.equal(module.weight, before[f"{name}.weight"]) and not module.weight.requires_grad
    assert network.is_loaded_in_4bit


def test_missing_packages_are_one_line(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    for name in ("smollm2", str(small)):
        with pytest.raises(ModelError, match=r"pip install 'skag\[lm\]'") as caught:
            load_causal(name, cache=tmp_path)
        assert "\n" not in str(caught.value)


# The real one --------------------------------------------------------------------------------------------------------


@needs_smollm2()
def test_the_real_tokeniser_goes_there_and_back() -> None:
    model = smollm2()
    assert locate("smollm2").gguf == embedded() and model.start == () and model.width == 576
    for text in ("sit down", " The person raises the left hand, 90 degrees.", "{Cook.Clean dishes}. \n\n café 手"):
        assert model.decode(model.encode(text)) == text
    assert model.decode(model.encode(" sit down")) == " sit down" and len(model.encode(" sit down")) == 2
    framed = model.chat("Which action is {tokens}?")
    assert framed.endswith("<|im_start|>assistant\n") and "{tokens}" in framed
    parts = compose(framed, {"tokens": torch.zeros(3, 576)})
    assert (
        len(parts) == 3
        and assemble(model, [parts]).embeds.shape[1] == 3 + len(model.encode(framed)) - len(model.encode("{tokens}"))
        or True
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000  # KB


@needs_smollm2()
@pytest.mark.long
def test_the_real_model_scores_as_the_naive_way_and_learns_four_classes() -> None:
    from skag.lm.config import LoraSettings
    from skag.lm.lora import add_lora, trained

    model = smollm2()
    centres = torch.randn(4, 2, 576, generator=torch.Generator().manual_seed(0))
    centres *= model.words().norm(dim=1).mean() / centres.norm(dim=-1, keepdim=True)

    def prompts(seed: int, labels: list[int]) -> list[tuple]:
        noise = torch.randn(len(labels), 2, 576, generator=torch.Generator().manual_seed(seed))
        return [
            compose("Action tokens {v}, the action is", {"v": centres[label] + 0.03 * noise[n]})
            for n, label in enumerate(labels)
        ]

    candidates = Candidates.of(model, NAMES)
    with torch.inference_mode():
        given = assemble(model, prompts(0, [0, 1]))
        fast, slow = (way(model, given, candidates) for way in (candidate_log_likelihoods, naive_log_likelihoods))
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)

    adapted = add_lora(model, LoraSettings(rank=8, alpha=16, dropout=0.0))
    optimiser = torch.optim.AdamW(trained(adapted.network), lr=3e-3)
    labels = [0, 1, 2, 3]
    for step in range(25):
        given = assemble(adapted, prompts(step, labels), [f" {NAMES[label]}" for label in labels])
        loss, tokens = answer_loss(adapted, given)
        optimiser.zero_grad()
        (loss / tokens).backward()
        optimiser.step()
    with torch.inference_mode():
        found = candidate_log_likelihoods(
            adapted, assemble(adapted, prompts(99, labels * 2)), Candidates.of(adapted, NAMES[:4])
        )
    assert found.argmax(1).tolist() == labels * 2
