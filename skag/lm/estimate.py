"""How much memory a base model takes to answer or to be trained with LoRA, and how long a step lasts. No torch.

Counted from the numbers of `config.json` for networks built like Llama (Qwen, Mistral, SmolLM ... too); for others the
parameters are right to some per cent. What a training step keeps for its way back was counted tensor by tensor
and compared with what PyTorch keeps (`tests/test_lm_estimate.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import ModelError

BYTES = {"float32": 4.0, "bfloat16": 2.0}
NF4 = 0.5 + 4 / 64  # bytes of a weight in 4 bits: blocks of 64 share a float32 scale
TRAINED = 4 + 4 + 8  # bytes of a trained number: itself, its gradient and AdamW's two moments, in float32
CUDA_CONTEXT = 0.8e9  # bytes that CUDA and its libraries take before any tensor
SPARE = 1.05  # the allocator rounds up
USED = 0.4  # share of a card's peak that training a language model commonly reaches (PaLM, 2022, appendix B: 0.46)


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int  # of the feed-forward part
    vocabulary: int
    tied: bool  # the head is the word vectors

    @staticmethod
    def of(config: dict[str, Any]) -> Shape:
        """From `config.json`. Raises `ModelError` where it holds no decoder's sizes."""
        config = config.get("text_config") or config

        def size(*names: str, default: int | None = None) -> int:
            value = next((config[name] for name in names if isinstance(config.get(name), int)), default)
            if value is None or value <= 0:
                raise ModelError(f"the model's config.json names no {names[0]}: take a Llama or its like.")
            return value

        width, heads = size("hidden_size", "n_embd", "d_model"), size("num_attention_heads", "n_head")
        return Shape(
            width=width,
            layers=size("num_hidden_layers", "n_layer"),
            heads=heads,
            kv_heads=size("num_key_value_heads", default=heads),
            head_width=size("head_dim", default=width // heads),
            hidden=size("intermediate_size", "n_inner", "ffn_dim", default=4 * width),
            vocabulary=size("vocab_size"),
            tied=bool(config.get("tie_word_embeddings", True)),
        )

    @property
    def linear(self) -> int:
        """Parameters of all linear layers but the head."""
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.hidden)

    @property
    def parameters(self) -> int:
        words = self.vocabulary * self.width * (1 if self.tied else 2)
        return words + self.linear + self.width * (2 * self.layers + 1)

    def lora(self, rank: int, targets: tuple[str, ...] = ("q_proj", "v_proj")) -> int:
        """Parameters of LoRA on these matrices in all layers."""
        q, kv = self.heads * self.head_width, self.kv_heads * self.head_width
        sides = {
            "q_proj": self.width + q, "k_proj": self.width + kv, "v_proj": self.width + kv, "o_proj": q + self.width,
            "gate_proj": self.width + self.hidden, "up_proj": self.width + self.hidden,
            "down_proj": self.hidden + self.width,
        }  # fmt: skip
        if targets == ("all-linear",):
            targets = tuple(sides)
        return self.layers * rank * sum(sides.get(target, 2 * self.width) for target in targets)


@dataclass(frozen=True)
class Job:
    """A training step: `batch` prompts of `length` tokens at once, of which `answer` are learned."""

    batch: int = 4
    length: int = 256
    answer: int = 16
    rank: int = 64
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    checkpointing: bool = False  # activations of a layer are computed again on the way back
    own: int = 0  # parameters of the method's own modules, trained along


@dataclass(frozen=True)
class Memory:
    """Bytes, by what they are for."""

    weights: float
    trained: float = 0.0  # adapter and own modules with gradients and AdamW's moments
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0  # keys and values of an answer

    @property
    def total(self) -> float:
        return self.weights + self.trained + self.activations + self.logits + self.cache


def of_loading(shape: Shape, precision: str, quantisation: str = "none") -> Memory:
    """The weights alone."""
    if quantisation == "4bit":
        return Memory(shape.linear * NF4 + (shape.parameters - shape.linear) * BYTES[precision])
    return Memory(shape.parameters * BYTES[precision])


def of_answering(
    shape: Shape, precision: str, quantisation: str = "none", *, batch: int = 1, length: int = 2048
) -> Memory:
    """Weights, keys and values, and the logits of one position."""
    values = 2 * shape.layers * shape.kv_heads * shape.head_width * length * batch * BYTES[precision]
    prefill = batch * length * (6 * shape.width + 3 * shape.hidden) * BYTES[precision]
    return Memory(
        of_loading(shape, precision, quantisation).weights,
        activations=prefill,
        logits=4.0 * batch * shape.vocabulary,
        cache=values,
    )


def of_training(shape: Shape, precision: str, job: Job, quantisation: str = "none") -> Memory:
    """A training step with LoRA on frozen weights."""
    tokens = job.batch * job.length
    kept = _kept_by_layer(shape, precision, job) * tokens
    boundary = shape.width * BYTES[precision] * tokens
    activations = shape.layers * boundary + kept if job.checkpointing else shape.layers * kept
    learned = job.batch * (job.answer + 1) * shape.vocabulary
    return Memory(
        of_loading(shape, precision, quantisation).weights,
        trained=float(TRAINED * (shape.lora(job.rank, job.targets) + job.own)),
        activations=activations,
        logits=learned * (BYTES[precision] + 3 * 4),  # as computed, in float32, their softmax, their gradient
    )


def _kept_by_layer(shape: Shape, precision: str, job: Job) -> float:
    """Bytes a token and layer that a step keeps for its way back.

    Frozen matrices keep no input. Kept are: both norms' input in float32, queries, keys and values, what attention
    gives, gate, its activation, and up; for LoRA the input in float32, after dropout, with the mask, and A's output.
    """
    size = BYTES[precision]
    q, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    norms = 2 * (4 + (size if size < 4 else 4)) * shape.width
    attention = size * (2 * q + 2 * kv)
    forward = 3 * size * shape.hidden
    lora = len(job.targets) * ((4 + 1) * shape.width + 4 * job.rank)
    if job.targets == ("all-linear",):
        lora = 6 * (5 * shape.width + 4 * job.rank) + 5 * shape.hidden + 4 * job.rank
    return norms + attention + forward + lora


def operations(shape: Shape, job: Job) -> float:
    """Floating-point operations of a training step: forward, and back through frozen weights, which need no gradient
    of their own, so that the way back costs as much as the way there; once more forward with checkpointing."""
    tokens = job.batch * job.length
    forward = 2.0 * shape.linear * tokens + 2.0 * tokens * job.length * shape.layers * shape.heads * shape.head_width
    head = 2.0 * shape.vocabulary * shape.width * job.batch * (job.answer + 1)
    return (3 if job.checkpointing else 2) * forward + 2 * head


def step_seconds(shape: Shape, job: Job, peak: float) -> float:
    """Seconds of a training step on a card of `peak` floating-point operations a second, of which `USED` are had."""
    return operations(shape, job) / (USED * peak)


def available(device: str) -> float | None:
    """Bytes that are free on a device; None where it cannot be told."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    try:
        import psutil
    except ImportError:
        return None
    return float(psutil.virtual_memory().available)


def check_memory(needed: Memory, device: str, what: str) -> None:
    """Raise `ModelError` where `what` needs more than there is; one line with both numbers and what to do."""
    there = available(device)
    total = needed.total * SPARE + (CUDA_CONTEXT if device.startswith("cuda") else 0.0)
    if there is not None and total > there:
        place = "the GPU has" if device.startswith("cuda") else "there are"
        raise ModelError(
            f"{what} needs about {total / 1e9:.1f} GB and {place} {there / 1e9:.1f} GB free: take a smaller model or "
            "batch, bfloat16, 4 bits on CUDA, or more cards."
        )
