"""The action VQ-VAE: 1-D convolutions over time to a quarter of the length, a codebook, and convolutions back.

Letters of this file: N clips, M bodies, T frames, V joints, C coordinates, B rows that are coded (clips, or bodies that
are there), F numbers of a row's frame, W codes of a row, L codes of a clip, U codes of the codebook, d their width.

Encoder and decoder have the published form that LLM-AR names (T2M-GPT, Zhang et al., CVPR 2023), written anew. Nothing
here knows files, a network or a training loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import RunError
from .codebook import Codebook
from .config import CodebookConfig, VqVaeConfig


class ResidualBlock(nn.Module):
    """B C T -> B C T: a dilated convolution over three frames and one over a single frame, beside the input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def _residual_stack(config: VqVaeConfig) -> nn.Sequential:
    """Residual blocks, the widest dilation first: in the published code the encoder's are in this order too."""
    return nn.Sequential(*(ResidualBlock(config.width, config.growth**i) for i in reversed(range(config.depth))))


def encoder(config: VqVaeConfig, numbers: int, code_width: int) -> nn.Sequential:
    """B F T -> B d T / 4 (with two halvings)."""
    halvings = (
        nn.Sequential(nn.Conv1d(config.width, config.width, 4, stride=2, padding=1), _residual_stack(config))
        for _ in range(config.halvings)
    )
    first, last = nn.Conv1d(numbers, config.width, 3, padding=1), nn.Conv1d(config.width, code_width, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), *halvings, last)


def decoder(config: VqVaeConfig, numbers: int, code_width: int) -> nn.Sequential:
    """B d W -> B F 4 W (with two halvings)."""
    width = config.width
    doublings = (
        nn.Sequential(_residual_stack(config), nn.Upsample(scale_factor=2), nn.Conv1d(width, width, 3, padding=1))
        for _ in range(config.halvings)
    )
    first, last = nn.Conv1d(code_width, width, 3, padding=1), nn.Conv1d(width, numbers, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), *doublings, nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), last)


@dataclass
class VqVaeOutput:
    """What the VQ-VAE makes of a batch of clips. The losses are means over what is there; their weights are not in."""

    reconstruction: Tensor  # [N, M, T, V, C] in the clips' own unit; 0 for absent bodies
    codes: Tensor  # [N, L] the clips' sentences, -1 where nobody is; with folded bodies one body's after another's
    mask: Tensor  # [N, L] where somebody is
    vectors: Tensor  # [N, L, d] the codes' tangent vectors as the decoder reads them; 0 where nobody is
    distances: Tensor  # [N, L, U] of every latent to every code; 0 where nobody is
    reconstruction_loss: Tensor  # L_re: smooth L1 of standardised coordinates (paper, eq. 11)
    velocity_loss: Tensor  # the same of differences between frames
    embedding_loss: Tensor  # L_embed
    commitment_loss: Tensor  # L_commit
    rim: Tensor  # share of latents that were cut to the longest tangent vector
    class_logits: Tensor | None = None  # [N, K] of a linear layer on the mean of a clip's vectors


class ActionVqVae(nn.Module):
    """Clips `[N, M, T, V, C]` to a `VqVaeOutput`; T must be a multiple of the frames per code.

    A body that is zero everywhere is absent: it is no part of the losses, and has no codes where bodies are folded. A
    clip in which nobody is keeps the codes of its first body, so that every clip has a sentence.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        config: VqVaeConfig,
        codebook: CodebookConfig,
        num_joints: int,
        num_bodies: int,
        in_channels: int,
        code_width: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.num_bodies = config, num_bodies
        points = num_joints + config.middle_apart
        numbers = points * in_channels * (num_bodies if config.bodies == "joined" else 1)
        self.encoder = encoder(config, numbers, code_width)
        self.codebook = Codebook(codebook, code_width)
        self.decoder = decoder(config, numbers, code_width)
        self.class_head = nn.Linear(code_width, num_classes) if num_classes else None
        self.register_buffer("mean", torch.zeros(points, in_channels))
        self.register_buffer("deviation", torch.ones(points, in_channels))

    @torch.no_grad()
    def standardise_by(self, x: Tensor) -> None:
        """Take mean and deviation of every joint's coordinates from the bodies that are there in training clips `x`
        `[N, M, T, V, C]`. What never moves keeps its size. Raises `RunError` where nobody is there."""
        found = self._points(x[x.flatten(2).any(2)].flatten(0, 1))  # frames V C
        if not len(found):
            raise RunError("the training clips hold nobody: look at them with `skag check`.")
        deviation = found.std(0, correction=0)
        self.mean.copy_(found.mean(0))
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def num_codes(self, num_frames: int) -> int:
        """L, the codes of a clip of `num_frames` frames. Raises `RunError` where it has too few, or some too many."""
        each = self.config.frames_per_code
        if num_frames < each:
            raise RunError(f"clips have {num_frames} frames and a code stands for {each}: set data.num_frames to more.")
        if num_frames % each:
            raise RunError(f"clips have {num_frames} frames, no multiple of the {each} of a code: set data.num_frames.")
        return num_frames // each * (1 if self.config.bodies == "joined" else self.num_bodies)

    def present(self, x: Tensor) -> Tensor:
        """Which bodies of clips `[N, M, T, V, C]` are there, `[N, M]`."""
        return x.flatten(2).any(2)

    def latents(self, x: Tensor) -> Tensor:
        """Clips to the encoder's output for all that is coded, `[B, W, d]`: what the codebook begins with, or dead
        codes are revived by."""
        return self.encoder(self._rows(x)[0]).transpose(1, 2)

    def forward(self, x: Tensor) -> VqVaeOutput:
        rows, coded, weight = self._rows(x)
        latents = self.encoder(rows).transpose(1, 2)  # B W d
        B, W = latents.shape[:2]
        counts = weight.flatten(1).any(1)[:, None].expand(B, W).flatten()
        quantised = self.codebook(latents.flatten(0, 1), counts)
        vectors = quantised.vectors.unflatten(0, (B, W))
        made = self.decoder(vectors.transpose(1, 2).to(rows.dtype))  # B F T
        by_clip = self._by_clip(vectors, coded)
        mask = coded[:, :, None].expand(-1, -1, W).flatten(1)
        logits = None
        if self.class_head is not None:
            logits = self.class_head(by_clip.sum(1) / mask.sum(1, keepdim=True) * self.codebook.scale)
        return VqVaeOutput(
            reconstruction=self._coordinates(made, coded) * self.present(x)[:, :, None, None, None],
            codes=self._by_clip(quantised.codes.view(B, W, 1) + 1, coded).squeeze(2) - 1,
            mask=mask,
            vectors=by_clip,
            distances=self._by_clip(quantised.distances.unflatten(0, (B, W)), coded),
            reconstruction_loss=_smooth_l1(made, rows, weight),
            velocity_loss=_smooth_l1(made.diff(dim=2), rows.diff(dim=2), weight),
            embedding_loss=quantised.embedding,
            commitment_loss=quantised.commitment,
            rim=quantised.rim,
            class_logits=logits,
        )

    @torch.no_grad()
    def tokenise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Clips to their sentences `[N, L]`, and where somebody is `[N, L]`; elsewhere the code is -1."""
        return self.look(x)[:2]

    @torch.no_grad()
    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `tokenise`, and the latents that the codes stand for, in the codes' tangent coordinates `[N, L, d]`."""
        rows, coded, _ = self._rows(x)
        latents = self.encoder(rows).transpose(1, 2)
        B, W = latents.shape[:2]
        training, self.codebook.training = self.codebook.training, False  # nothing is counted
        codes = self.codebook(latents.flatten(0, 1)).codes.view(B, W, 1)
        self.codebook.training = training
        placed = self.codebook.placed(latents.flatten(0, 1)).unflatten(0, (B, W))
        mask = coded[:, :, None].expand(-1, -1, W).flatten(1)
        return self._by_clip(codes + 1, coded).squeeze(2) - 1, mask, self._by_clip(placed, coded)

    @torch.no_grad()
    def moving(self, codes: Tensor) -> Tensor:
        """Codes of rows `[B, W]` as moving bodies `[B, M', T, V, C]` in the clips' unit: M' is 1 where bodies are
        folded."""
        vectors = self.codebook.vectors()[codes] / self.codebook.scale
        made = self.decoder(vectors.transpose(1, 2))
        return self._unstandardised(made.transpose(1, 2))

    def _rows(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised rows `[B, F, T]`, which places of which clip they are `[N, 1 or M]`, and what of them counts
        `[B, bodies of a row]`."""
        self.num_codes(x.shape[2])
        present = self.present(x)
        standard = (self._points(x) - self.mean) / self.deviation * present[:, :, None, None, None]  # N M T V C
        if self.config.bodies == "joined":
            rows = standard.permute(0, 1, 3, 4, 2).flatten(1, 3)  # N MVC T
            return rows, present.new_ones(len(x), 1), present
        coded = present | F.pad(~present.any(1, keepdim=True), (0, x.shape[1] - 1))
        return standard[coded].permute(0, 2, 3, 1).flatten(1, 2), coded, present[coded][:, None]

    def _by_clip(self, values: Tensor, coded: Tensor) -> Tensor:
        """Values of rows `[B, W, *]` in their clips `[N, L, *]`, 0 where no row is."""
        found = values.new_zeros(*coded.shape, *values.shape[1:])
        found[coded] = values
        return found.flatten(1, 2)

    def _coordinates(self, made: Tensor, coded: Tensor) -> Tensor:
        """Decoded rows `[B, F, T]` as clips `[N, M, T, V, C]` in their own unit."""
        bodies = self._unstandardised(made.transpose(1, 2))
        if self.config.bodies == "joined":
            return bodies
        clips = bodies.new_zeros(*coded.shape, *bodies.shape[2:])
        clips[coded] = bodies[:, 0]
        return clips

    def _unstandardised(self, made: Tensor) -> Tensor:
        """`[B, T, F]` to `[B, M', T, V, C]`."""
        points = made.unflatten(2, (-1, *self.mean.shape)).transpose(1, 2) * self.deviation + self.mean
        return points[..., :-1, :] + points[..., -1:, :] if self.config.middle_apart else points

    def _points(self, x: Tensor) -> Tensor:
        """Joints `[..., V, C]` as the points that are coded."""
        if not self.config.middle_apart:
            return x
        middle = x.mean(-2, keepdim=True)
        return torch.cat([x - middle, middle], -2)


def _smooth_l1(made: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Mean smooth L1 of `[B, F, T]` over the bodies that count, `weight` `[B, bodies of a row]`."""
    off = F.smooth_l1_loss(made, rows, reduction="none").unflatten(1, (weight.shape[1], -1))  # B bodies VC T
    return (off.sum((2, 3)) * weight).sum() / (weight.sum() * off.shape[2] * off.shape[3]).clamp(min=1)


def joint_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean distance between joints of clips `[N, M, T, V, C]` and of their reconstruction, in the clips' unit, over the
    bodies that are there; 0 where nobody is."""
    present = x.flatten(2).any(2)
    off = (x - reconstruction).norm(dim=-1).mean((2, 3))  # N M
    return (off * present).sum() / present.sum().clamp(min=1)
