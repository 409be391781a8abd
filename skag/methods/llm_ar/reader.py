"""A base model that reads sentences of codes: the frozen VQ-VAE, the adapted language model, and prompts between them.

Letters of this file: N clips, L codes of a clip, U codes, d the width of a code and of a word, K names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import RunError
from ...lm.causal import CausalModel
from ...lm.lora import adapter_state, add_lora, load_adapter_state, trained
from ...lm.prompts import Inputs, Part, assemble, compose
from ...lm.score import Candidates
from . import hyperbolic
from .config import LlmArConfig
from .vqvae import ActionVqVae

# Paper, section 3.2; the second is its prompt for classes that were not trained.
INSTRUCTION = "Given a sequence of action tokens {tokens}, please predict the corresponding action."
FROM_LIST = "Given a sequence of action tokens {tokens}, please predict the corresponding action from {list}."
_FRAMES = {  # MotionGPT's headings; not stated in the paper
    "plain": "{instruction}",
    "alpaca": "### Instruction:\n{instruction}\n\n### Response:",
}
BEFORE = " "  # an answer
_VQVAE, _ADAPTER, _BASE, _GAIN = "vqvae.", "adapter.", "base.", "gain"


def candidates(lm: CausalModel, names: Sequence[str]) -> Candidates:
    """Names as answers. Raises `RunError` where two are the same to the base model."""
    try:
        return Candidates.of(lm, names, before=BEFORE)
    except ValueError:
        raise RunError(f"two of the names are the same to the base model: {', '.join(names)}.") from None


class Reader(nn.Module):
    """What the second stage trains. Its `state_dict` holds the VQ-VAE with its codebook, the factor with which codes
    are read and what is trained of the base model, and never the frozen base model itself."""

    gain: Tensor

    def __init__(self, config: LlmArConfig, vqvae: ActionVqVae, base: CausalModel) -> None:
        super().__init__()
        self.config = config
        self.vqvae = vqvae.requires_grad_(False)
        self.lm = base
        if config.lm.adapt == "lora":
            self.lm = add_lora(base, config.lm.lora, config.train.seed)
        elif config.lm.adapt == "all":
            base.network.requires_grad_(True)
        self.network = self.lm.network
        self.register_buffer("gain", torch.ones((), device=base.device))

    def begin(self) -> None:
        """Take the factor that brings the codes to the words' mean norm, where they are to be."""
        if self.config.read.word_norm:
            lengths = self.table().norm(dim=1).mean().clamp(min=1e-8)
            self.gain.copy_(self.lm.words().float().norm(dim=1).mean() / lengths)

    @property
    def trained(self) -> list[nn.Parameter]:
        return list(trained(self.network))

    def table(self) -> Tensor:
        """All codes as they are read, but for the factor, `[U, d]`."""
        return self.vqvae.codebook.vectors(self.config.read.space).detach()

    # ---- sentences

    @torch.no_grad()
    def sentences(self, x: Tensor) -> list[Part]:
        """Clips `[N, M, T, V, C]` as what stands for the tokens in a prompt: vectors `[l, d]`, or digits."""
        codes, mask, features = self.vqvae.look(x)
        if self.config.read.tokens == "digits":
            return [" ".join(map(str, row[there].tolist())) for row, there in zip(codes, mask, strict=True)]
        if self.config.read.tokens == "features":
            codebook = self.vqvae.codebook
            in_ball = codebook.hyperbolic and self.config.read.space == "ball"
            vectors = hyperbolic.exp0(features, codebook.config.curvature) if in_ball else features
        else:
            vectors = self.table()[codes.clamp(min=0)]
        return [self.gain * row[there] for row, there in zip(vectors, mask, strict=True)]

    def prompt(self, sentence: Part, names: Sequence[str] = ()) -> tuple[Part, ...]:
        """The paper's instruction with a clip's sentence in it; with `names`, these are listed."""
        frame, instruction = self.config.read.frame, FROM_LIST if names else INSTRUCTION
        text = self.lm.chat(instruction) if frame == "chat" else _FRAMES[frame].replace("{instruction}", instruction)
        return compose(text, {"tokens": sentence, "list": ", ".join(names)})

    def inputs(self, x: Tensor, names: Sequence[str] = (), answers: Sequence[str] | None = None) -> Inputs:
        """A batch of clips as prompts, with `answers` to be learned."""
        prompts = [self.prompt(sentence, names) for sentence in self.sentences(x)]
        return assemble(self.lm, prompts, None if answers is None else [BEFORE + each for each in answers])

    # ---- what is kept

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]  # no prefix: it is whole
        """See the class."""
        found = {_VQVAE + name: value for name, value in self.vqvae.state_dict().items()} | {_GAIN: self.gain.detach()}
        if self.config.lm.adapt == "all":
            return found | {_BASE + name: value for name, value in self.network.state_dict().items()}
        return found | {_ADAPTER + name: value for name, value in adapter_state(self.lm).items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """The inverse. Raises `RunError` for an adapter without its codebook, `ModelError` and what torch raises for
        weights of another network."""
        parts: dict[str, dict[str, Any]] = {_VQVAE: {}, _ADAPTER: {}, _BASE: {}}
        for name, value in state.items():
            for start, part in parts.items():
                if name.startswith(start):
                    part[name.removeprefix(start)] = value
        if not parts[_VQVAE] or _GAIN not in state:
            raise RunError(
                "an adapter without its codebook, which it cannot be used without: take the run's own best.pt."
            )
        self.vqvae.load_state_dict(parts[_VQVAE])
        self.gain.copy_(state[_GAIN])
        if self.config.lm.adapt == "all":
            self.network.load_state_dict(parts[_BASE])
        else:
            load_adapter_state(self.lm, parts[_ADAPTER])
        return None
