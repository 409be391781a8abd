"""A causal language model, frozen: loaded without running any code of its folder, with text to tokens and back.

N texts, L tokens, D the width of a word vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelError
from ..hub import Files, quiet, read_weights
from ..weights import listed, mend_torchvision, one_line
from . import gguf
from .estimate import Memory, Shape, check_memory, of_loading
from .names import CACHE, Located, locate

Precision = Literal["float32", "bfloat16"]
Quantisation = Literal["none", "4bit"]
_PROBE = "\n"  # text before a continuation, see `CausalModel.encode`
_UNTRAINED = 0.02  # standard deviation of random weights where a config names none


@dataclass(frozen=True, eq=False)
class CausalModel:
    """A base model, perhaps with an adapter, and its tokeniser."""

    network: Any  # torch.nn.Module: transformers' model for causal language modelling, or peft's around it
    tokeniser: Any
    identity: dict[str, Any]  # name, revision and checksums; `pretrained` and `quantisation` where they are not usual
    start: tuple[int, ...]  # tokens that every text begins with, often none
    ends: tuple[int, ...]  # tokens that end an answer; an answer to be learned ends with the first

    @property
    def base(self) -> Any:
        """transformers' model, without peft's wrapping."""
        return self.network.get_base_model() if hasattr(self.network, "get_base_model") else self.network

    @property
    def config(self) -> Any:
        return self.base.config.get_text_config(decoder=True)

    @property
    def width(self) -> int:
        """D: the width of a word vector, and so of any vector in a prompt."""
        return self.base.get_input_embeddings().weight.shape[1]

    @property
    def device(self) -> Any:
        return self.base.get_input_embeddings().weight.device

    @property
    def context(self) -> int:
        """The most tokens of prompt and answer together."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 1 << 20)

    def attends(self, longest: int = 0) -> bool:
        """Whether the network is attention alone, with no window of fewer than `longest` tokens: it needs nothing but
        keys and values to go on, and sees all that a mask lets it see."""
        window = getattr(self.config, "sliding_window", None)
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        is_attention = getattr(self.config, "num_attention_heads", None) is not None
        return (
            is_attention and kinds <= {"full_attention", "sliding_attention"} and (window is None or longest < window)
        )

    def words(self) -> Any:
        """The word vectors `[V, D]`, frozen: what LLM-AR's codes are drawn to."""
        return self.base.get_input_embeddings().weight.detach()

    def embed(self, tokens: Any) -> Any:
        """Word vectors of token numbers, `[...]` to `[..., D]`."""
        return self.base.get_input_embeddings()(tokens)

    def encode(self, text: str, *, first: bool = False) -> list[int]:
        """Tokens of a text; `first` where nothing comes before it, else as it continues a prompt.

        Llama's tokenisers put a space before any text they are given, and not before one that goes on. So a
        continuation is encoded behind a line feed, whose tokens are taken off again; where the two melt into one
        token, the text is encoded by itself, which is right for tokenisers that add no space.
        """
        if first:
            return [*self.start, *self._tokens(text)]
        before, both = self._tokens(_PROBE), self._tokens(_PROBE + text)
        return both[len(before) :] if both[: len(before)] == before else self._tokens(text)

    def decode(self, tokens: Any) -> str:
        """The text of tokens, without the special ones."""
        return self.tokeniser.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def chat(self, text: str, system: str | None = None) -> str:
        """A user's text in the frame of the model's chat template, the assistant's turn begun; slots are kept.

        Raises `ModelError` for a model without a template.
        """
        messages = [{"role": "user", "content": text}]
        return self.converse([{"role": "system", "content": system}, *messages] if system else messages)

    def converse(self, messages: list[dict[str, str]], **switches: Any) -> str:
        """A conversation as the text that the model was trained on, the assistant's turn begun. Raises `ModelError`.

        A template that takes no system message gets it as the beginning of the user's first one.
        """
        if not self.tokeniser.chat_template:
            raise ModelError(
                f"{self.identity['base_model']} has no chat template: take an instruction-tuned model to answer."
            )
        merged = messages
        if len(messages) > 1 and messages[0]["role"] == "system":
            first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
            merged = [first, *messages[2:]]
        for attempt in (messages, merged):
            try:
                return self.tokeniser.apply_chat_template(
                    attempt, tokenize=False, add_generation_prompt=True, **switches
                )
            except Exception as error:  # whatever the template raises, jinja's errors among it
                problem = error
        raise ModelError(f"the chat template of {self.identity['base_model']} does not work ({one_line(problem)}).")

    def _tokens(self, text: str) -> list[int]:
        # A language model's answer may hold half a character (a lone surrogate), which no tokeniser can read.
        text = text.encode("utf-8", "replace").decode("utf-8")
        return self.tokeniser(text, add_special_tokens=False, verbose=False)["input_ids"]


def load_causal(
    name: str,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    quantisation: Quantisation = "none",
    pretrained: bool = True,
    seed: int = 0,
    cache: Path = CACHE,
    needed: Callable[[Shape], Memory] | None = None,
    tell: Callable[[str], None] | None = None,
) -> CausalModel:
    """The base model of that name, frozen and in evaluation mode.

    `pretrained=False` draws its weights at random, from `seed`: the same network without what it has learned.
    `4bit` needs CUDA and bitsandbytes. `needed` says what is to be done with it (`estimate.of_training`,
    `of_answering`): before anything is read, that is compared with the memory that is free; by default the weights
    alone are. `tell` is told of long waits. Raises `ModelError` for a model that is missing,
    gated, damaged, of code of its own, or too large for the memory there is.
    """
    transformers = import_transformers()
    import torch

    if quantisation == "4bit":
        _check_4bit(device)
    located = locate(name)
    files = _folder(located, cache, tell)
    config = _config(files)
    shape = Shape.of(config.to_dict())
    size = needed(shape) if needed else of_loading(shape, precision, quantisation)
    check_memory(size, device, f"{name} in {'4 bits' if quantisation == '4bit' else precision}")
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    network = _network(transformers, files, config, dtype, pretrained, seed)
    if quantisation == "4bit":
        network = _in_4bit(network, dtype, device)
    network = network.eval().requires_grad_(False).to(device)
    identity = _identity(located, quantisation, pretrained, seed)
    tokeniser = _tokeniser(transformers, files)
    return with_tokeniser(network, tokeniser, identity, gguf.begins_with_bos(files.folder))


def look_at(
    name: str,
    *,
    quantisation: Quantisation = "none",
    pretrained: bool = True,
    seed: int = 0,
    cache: Path = CACHE,
    tell: Callable[[str], None] | None = None,
) -> tuple[Shape, dict[str, Any]]:
    """The sizes of a base model and the identity it will have when it is loaded, which it is not here. Raises
    `ModelError`."""
    located = locate(name)
    shape = Shape.of(_config(_folder(located, cache, tell)).to_dict())
    return shape, _identity(located, quantisation, pretrained, seed)


def _identity(located: Located, quantisation: Quantisation, pretrained: bool, seed: int) -> dict[str, Any]:
    identity = located.identity() | ({} if pretrained else {"pretrained": False, "seed": seed})
    return identity | ({} if quantisation == "none" else {"quantisation": quantisation})


def with_tokeniser(network: Any, tokeniser: Any, identity: dict[str, Any], bos: bool | None = None) -> CausalModel:
    """A network and its tokeniser as a `CausalModel`; `bos` where it is known whether texts begin with BOS."""
    plain, usual = (tokeniser("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    start = tuple(usual[: len(usual) - len(plain)]) if usual[-len(plain) :] == plain else ()
    if bos is not None:
        start = (tokeniser.bos_token_id,) if bos and tokeniser.bos_token_id is not None else ()
    ends = getattr(network.generation_config, "eos_token_id", None)
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    if tokeniser.eos_token_id is not None:  # what the tokeniser calls the end comes first: an answer is taught with it
        ends = [tokeniser.eos_token_id, *(end for end in ends if end != tokeniser.eos_token_id)]
    if not ends:
        raise ModelError(f"{identity.get('base_model')} names no token that ends a text: take another model.")
    return CausalModel(network, tokeniser, identity, start, tuple(ends))


def import_transformers() -> Any:
    """transformers, with torchvision mended first. Raises `ModelError` where it is missing."""
    mend_torchvision()
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            f"language models inside skag need transformers ({one_line(error)}): pip install 'skag[lm]'."
        ) from None
    return transformers


def fits(identity: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two identities are of the same weights and tokeniser, under whatever names."""
    names = ("weights", "config", "tokeniser", "pretrained", "seed")
    return all(identity.get(name) == other.get(name) for name in names)


# Loading -------------------------------------------------------------------------------------------------------------


def _folder(located: Located, cache: Path, tell: Callable[[str], None] | None) -> Files:
    return located.in_folder if located.gguf is None else gguf.dequantised(located.gguf, cache, tell)


def _config(files: Files) -> Any:
    """The configuration of a model whose architecture is one of transformers' own. Raises `ModelError`."""
    transformers = import_transformers()
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                files.folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # the readers of damaged and foreign files raise whatever they stumble over
        own = "auto_map" in (files.folder / "config.json").read_text(encoding="utf-8", errors="replace")
        cause = "it needs code of its own, which skag does not run" if own else one_line(error)
        raise ModelError(f"{files.folder} cannot be used ({cause}): take a model that transformers knows.") from None
    if type(config) not in transformers.AutoModelForCausalLM._model_mapping:
        raise ModelError(
            f"{files.folder} holds a {config.model_type}, which is no causal language model: take a Llama or its like."
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"{files.folder} holds weights that are quantised already: take the unquantised model, or its GGUF file."
        )
    return config


def _network(transformers: Any, files: Files, config: Any, dtype: Any, pretrained: bool, seed: int) -> Any:
    """The network with its weights. Raises `ModelError` where weights and architecture do not fit.

    transformers is given the weights, not the folder: a folder can name an adapter, another weights file, or
    attention code that is fetched from elsewhere.
    """
    import torch

    options = {"trust_remote_code": False, "attn_implementation": "sdpa", "dtype": dtype}
    if not pretrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if not getattr(config, "initializer_range", None):
                config.initializer_range = _UNTRAINED
            return transformers.AutoModelForCausalLM.from_config(config, **options)
    try:
        with quiet():
            with torch.device("meta"):
                empty = transformers.AutoModelForCausalLM.from_config(config, **options)
            network, found = type(empty).from_pretrained(
                None,
                config=config,
                state_dict=read_weights(files.weights),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, in one line
                dtype=dtype,
                attn_implementation="sdpa",
            )
    except Exception as error:  # as above
        raise _unfit(files, one_line(error)) from None
    if wrong := sorted(name for name, *_ in found["mismatched_keys"]):
        raise _unfit(files, f"another shape: {listed(wrong)}")
    if missing := sorted(found["missing_keys"]):
        raise _unfit(files, f"missing: {listed(missing)}")
    return network


def _tokeniser(transformers: Any, files: Files) -> Any:
    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(
                files.folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # as above
        raise ModelError(
            f"the tokeniser in {files.folder} does not load ({one_line(error)}): get the model again."
        ) from None


def _unfit(files: Files, cause: str) -> ModelError:
    return ModelError(f"the weights in {files.folder} do not fit its config.json ({cause}): get the model again.")


# 4 bits --------------------------------------------------------------------------------------------------------------


def _check_4bit(device: str) -> None:
    import importlib.util

    if not device.startswith("cuda"):
        raise ModelError("weights in 4 bits need a CUDA device: leave the quantisation out, or use --device cuda.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("weights in 4 bits need bitsandbytes: pip install bitsandbytes.")


def _in_4bit(network: Any, dtype: Any, device: str) -> Any:
    """All linear layers but the head as NF4 (Dettmers et al., 2023, section 3); they are quantised on their way to the
    device. peft finds them by their class and by `is_loaded_in_4bit`."""
    import bitsandbytes
    import torch

    head = network.get_output_embeddings()
    for module in list(network.modules()):
        for name, linear in list(module.named_children()):
            if type(linear) is torch.nn.Linear and linear is not head:
                small = bitsandbytes.nn.Linear4bit(
                    linear.in_features, linear.out_features, linear.bias is not None, compute_dtype=dtype,
                    quant_type="nf4",
                )  # fmt: skip
                small.weight = bitsandbytes.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
                small.bias = linear.bias
                setattr(module, name, small.to(device))
    network.is_loaded_in_4bit = True
    return network
