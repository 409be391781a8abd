"""LLM-AR's configuration: the action VQ-VAE, its codebook, the human-bias losses, and how a language model reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ...checks import MANY, within
from ...config import Config, TrainConfig
from ...errors import RunError
from ...lm.config import BaseModelConfig


@dataclass(frozen=True)
class VqVaeConfig:
    """Encoder and decoder of the action VQ-VAE. The width of a code is that of the base model's words."""

    width: int = 512  # channels of the convolutions (T2M-GPT; not stated in the paper)
    depth: int = 3  # residual blocks after every change of length (T2M-GPT; not stated in the paper)
    growth: int = 3  # factor from one residual block's dilation to the next's (T2M-GPT; not stated in the paper)
    halvings: int = 2  # of the length: 2 leave a quarter of it (paper, section 4.2)
    # What one sentence is about. joined: a frame's numbers are those of all bodies, absent ones 0 (the likely reading).
    # folded: every body is coded by itself, and a clip's sentence holds the codes of all who are there. Not stated in
    # the paper.
    bodies: Literal["folded", "joined"] = "folded"
    # Joints are coded relative to their mean in every frame, and the mean as one more point, so that where somebody
    # stands does not outweigh what the arms do. Beyond the paper, which says nothing of it.
    middle_apart: bool = False
    velocity: float = 0.0  # weight of the same loss on differences of frames (T2M-GPT 0.5; the paper prints none)
    supervision: float = 0.0  # weight of a linear classifier's cross-entropy on the codes (0: off; beyond the paper)

    def __post_init__(self) -> None:
        within(self, 1, MANY, "width", "depth", "growth")
        within(self, 1, 5, "halvings")
        within(self, 0, MANY, "velocity", "supervision")

    @property
    def frames_per_code(self) -> int:
        return 2**self.halvings


@dataclass(frozen=True)
class CodebookConfig:
    """The codes, how they are found, and how they are kept in use."""

    num_codes: int = 512  # U (paper, section 4.2)
    geometry: Literal["hyperbolic", "euclidean"] = "hyperbolic"
    curvature: float = 1.0  # c of the ball (paper)
    # What the encoder's output is multiplied with before it is coded. width: 1 / sqrt(code width), with which latents
    # keep off the rim of the ball. none: 1. Not stated in the paper.
    latent_scale: Literal["width", "none"] = "width"
    max_norm: float = 2.3  # longest latent after scaling, in tangent coordinates (0: any; not stated in the paper)
    # Embedding and commitment as squared distances (sum over a code's numbers) or as mean squares, which let the
    # codebook collapse here. Not stated in the paper (eq. 11 prints norms).
    code_loss: Literal["squared_distance", "mean_square"] = "squared_distance"
    embedding: float = 1.0  # weight of L_embed (paper, eq. 11)
    commitment: float = 0.25  # weight of L_commit (0.02 in the paper)
    # Where the gradient passes straight through: between tangent vectors, or in the ball. Not stated in the paper.
    straight_through: Literal["tangent", "ball"] = "tangent"
    # What codes begin as: latents of the first clips, or small normal numbers. Not stated in the paper.
    begin: Literal["data", "normal"] = "data"
    revive_every: int = 200  # steps between revivals of dead codes (0: never; not stated in the paper)
    revive_until: float = 0.7  # share of the training after which none is revived (not stated in the paper)
    revive_below: float = 1.0  # a code that was chosen fewer times since the last revival is dead (T2M-GPT)
    of: str = ""  # a run folder whose codebook is read instead of training one; of the same data and held-out clips

    def __post_init__(self) -> None:
        within(self, 2, MANY, "num_codes")
        if self.num_codes % 2:
            raise RunError(f"num_codes is {self.num_codes}; codes come in pairs, so it must be even.")
        within(self, 1e-4, MANY, "curvature")
        within(self, 0, MANY, "max_norm", "embedding", "commitment", "revive_every", "revive_below")
        within(self, 0, 1, "revive_until")

    def revives(self, step: int, steps: int) -> bool:
        """Whether dead codes are revived after step `step` (from 1) of `steps`."""
        due = self.revive_every and step % self.revive_every == 0
        return bool(due) and step <= self.revive_until * steps

    def check(self, tokens: int) -> None:
        """Raise `RunError` where the codes are more than the `tokens` of the training clips can fill."""
        if tokens < self.num_codes:
            raise RunError(
                f"num_codes is {self.num_codes}, but the training clips have {tokens} tokens: "
                f"set it to {max(2, tokens // 4 * 2)} or less."
            )


@dataclass(frozen=True)
class BiasConfig:
    """The human-bias losses: `weight * (zipf L_Zipf + context L_context + mmd MMD)` (paper, eq. 3 to 7)."""

    weight: float = 0.05  # 0.2 in the paper, with which the codebook collapsed here
    zipf: float = 1.0  # weight of L_Zipf: how often codes are used (0: off)
    context: float = 1.0  # weight of L_context: codes u and u + U/2 come together (0: off)
    mmd: float = 1.0  # weight of the MMD between codes and the base model's words (0: off)
    tau: float = 1.0  # temperature of the Gumbel softmax (not stated in the paper)
    # Steps over which the use of codes is counted for L_Zipf, with weights that fall by 1/e over that many; 0: each
    # batch by itself, which must then hold at least as many tokens as there are codes. Not stated in the paper.
    zipf_memory: int = 20
    # Words are compared with codes at the codes' mean norm, as codes are read at the words'; or as they are, which
    # pulls codes to the rim. Not stated in the paper.
    mmd_words: Literal["scaled", "as_is"] = "scaled"

    def __post_init__(self) -> None:
        within(self, 0, MANY, "weight", "zipf", "context", "mmd", "zipf_memory")
        within(self, 1e-3, MANY, "tau")


@dataclass(frozen=True)
class ReadConfig:
    """How the base model reads a clip's sentence, and how its answer is found."""

    # vectors: codes stand in the prompt as input vectors (as the code width and the MMD let expect). digits: their
    # numbers are written out (MotionGPT). features (ablation): the encoder's output, before any code stands for it.
    # Not stated in the paper.
    tokens: Literal["vectors", "digits", "features"] = "vectors"
    # Coordinates in which codes are read, and compared with words: points of the ball (as the paper's section 3.2
    # likely means), or tangent vectors. Not stated in the paper.
    space: Literal["ball", "tangent"] = "ball"
    # Codes are read at the words' mean norm, all with one factor. Not stated in the paper.
    word_norm: bool = True
    # What is around the instruction. plain: nothing. alpaca: headings as in MotionGPT. chat: the base model's own
    # template. Not stated in the paper.
    frame: Literal["plain", "alpaca", "chat"] = "plain"
    lists: float = 0.0  # share of training prompts that list classes to choose from, as prompts of unseen classes do
    listed: int = 5  # classes in such a list, the true one among them
    # score: the class with the highest log-likelihood. generate: what the model writes; a clip whose answer is no class
    # has none. Not stated in the paper.
    answer: Literal["score", "generate"] = "score"

    def __post_init__(self) -> None:
        within(self, 0, 1, "lists")
        within(self, 2, MANY, "listed")


# What lets the codebook collapse where recordings are few, and what to set instead (docs/llm-ar.md).
CURES = (
    ("codebook.begin", "data"),
    ("codebook.latent_scale", "width"),
    ("codebook.max_norm", 2.3),
    ("codebook.code_loss", "squared_distance"),
    ("codebook.commitment", 0.25),
    ("codebook.revive_every", 200),
    ("bias.weight", 0.05),
    ("bias.mmd_words", "scaled"),
)


@dataclass(frozen=True)
class LlmArConfig(Config):
    """Everything that fixes a run but the data and the base model's weights.

    `train` is of the first stage, the codebook, and holds what is the whole run's: seed and choice of the epoch.
    `tune` is of the second; its `seed` and `select_on` are not read.
    """

    method: ClassVar[str] = "llm-ar"
    vqvae: VqVaeConfig = field(default_factory=VqVaeConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    bias: BiasConfig = field(default_factory=BiasConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    lm: BaseModelConfig = field(default_factory=BaseModelConfig)
    tune: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.lm.adapt == "nothing":
            raise RunError("lm.adapt is nothing, but the base model has to learn the codes: set it to lora or all.")

    @property
    def cures(self) -> list[str]:
        """FIELD=VALUE: what to set against a codebook that collapses, as far as it is not so."""
        return [
            f"{name}={value}"
            for name, value in CURES
            if getattr(getattr(self, name.partition(".")[0]), name.partition(".")[2]) != value
        ]
