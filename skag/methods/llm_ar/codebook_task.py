"""The first stage, `codebook`: the action VQ-VAE learns to write clips as sentences of codes.

Letters of this file: N clips, M bodies, T frames, L codes of a clip, U codes of the codebook, d their width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import DataConfig
from ...device import trains_in_bf16
from ...skeleton.clips import Clips, augmented, num_draws, test_batches
from ...training import distributed
from ...training.batches import Batch, num_batches
from ..base import Facts, Step, Validation, Watcher
from .base_model import open_base_model
from .codebook import code_use
from .config import LlmArConfig
from .losses import HumanBias, draw_words
from .probe import linear_top1
from .reader import candidates
from .vqvae import ActionVqVae, VqVaeOutput, joint_error

_LOOKED_AT = 4096  # training clips by which the codebook begins and its use is told
_REVIVED_FROM = 256  # training clips whose latents dead codes begin anew as, or as many as there are codes
_PROBED_NUMBERS = 50_000_000  # most numbers that the linear classifiers are given
_PROBED = 1000  # and most clips
_COLLAPSED = 0.2  # a codebook with a smaller share of its codes in use is collapsing, or with a quarter as perplexity


@dataclass(frozen=True)
class NetworkShape:
    """What the VQ-VAE's shape follows from: data and base model."""

    num_joints: int
    num_bodies: int
    in_channels: int
    code_width: int
    num_classes: int


def make_vqvae(config: LlmArConfig, shape: NetworkShape) -> ActionVqVae:
    """The untrained VQ-VAE of a run."""
    return ActionVqVae(
        config.vqvae,
        config.codebook,
        shape.num_joints,
        shape.num_bodies,
        shape.in_channels,
        shape.code_width,
        shape.num_classes if config.vqvae.supervision else 0,
    )


class CodebookNetwork(nn.Module):
    """The VQ-VAE and the human-bias losses on its codes, as several processes train them together."""

    def __init__(self, config: LlmArConfig, shape: NetworkShape) -> None:
        super().__init__()
        self.space = config.read.space
        self.bf16 = False
        self.vqvae = make_vqvae(config, shape)
        self.bias = HumanBias(config.bias, config.codebook.num_codes)

    def forward(self, x: Tensor, words: Tensor) -> tuple[VqVaeOutput, dict[str, Tensor]]:
        """Clips `[N, M, T, V, C]` and word vectors `[m, d]` to what the VQ-VAE makes, and the losses by name."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.vqvae(x)
        return out, self.bias(out.distances, out.mask, self.vqvae.codebook.vectors(self.space), words)


class CodebookTask:
    """Trains the VQ-VAE; see `methods.base.Task`."""

    def __init__(self, config: LlmArConfig, facts: Facts, about: Mapping[str, Any], device: torch.device) -> None:
        self.config, self.settings, self.facts, self.device = config, config.train, facts, device
        self.model = CodebookNetwork(config, NetworkShape(**about["model"])).to(device)
        self.model.bf16 = trains_in_bf16(self.settings.precision, device)
        base = open_base_model(config, about["base_model"], facts.run, device)
        candidates(base, facts.classes)  # names that it cannot tell apart are found now, not after this stage
        self.words = base.words().float().clone()  # the base model itself is let go
        config.codebook.check(self._num_tokens())
        self._begin()
        self.forward = distributed.together(self.model, device)
        self.steps_per_epoch = num_batches(len(facts.training), self.settings)
        self.steps = 0  # done
        self.used = torch.zeros(config.codebook.num_codes, device=device)  # since the last revival
        self.told = False  # that the codebook collapses

    @property
    def trained(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters())}]

    # ---- an epoch

    def begin_epoch(self, epoch: int, network: nn.Module) -> None:
        """Nothing: batches differ by the loop's own numbers."""

    def step(self, batch: Batch, generator: torch.Generator) -> Step:
        """L_re + L_embed + commitment L_commit + weight L_human (paper, eq. 13 and 7), and what is beyond the paper."""
        self._revive()
        config, x, everyone = self.config, batch.x, batch.labels
        labels = everyone[distributed.part_of(len(everyone))]
        words = draw_words(self.words, config.codebook.num_codes, generator)
        out, biases = self.forward(x, words)
        own = (
            out.reconstruction_loss
            + config.codebook.embedding * out.embedding_loss
            + config.codebook.commitment * out.commitment_loss
        )
        terms = {
            "loss_reconstruction": out.reconstruction_loss,
            "loss_embedding": out.embedding_loss,
            "loss_commitment": out.commitment_loss,
        }
        for name, value in biases.items():
            own = own + config.bias.weight * getattr(config.bias, name) * value
            terms[f"loss_{name}"] = value
        if config.vqvae.velocity:
            own = own + config.vqvae.velocity * out.velocity_loss
            terms["loss_velocity"] = out.velocity_loss
        if out.class_logits is not None:
            supervised = F.cross_entropy(out.class_logits.float(), labels)
            own = own + config.vqvae.supervision * supervised
            terms["loss_supervision"] = supervised
        self.used += torch.bincount(out.codes[out.mask], minlength=len(self.used)).to(self.used.dtype)
        self.steps += 1
        share = len(labels) * distributed.size() / len(everyone)
        found = {"loss": own} | terms
        return Step(share * own, {name: value.detach() for name, value in found.items()}, len(labels))

    def validate(self, network: Any) -> Validation:
        """What the codebook does: the use of codes and the rim among training clips, the reconstruction of held-out
        ones in hundredths of the clips' unit, and top-1 of linear classifiers on the sentences and on the encoder's
        features. The first classifier's top-1 chooses the epoch."""
        distributed.share_buffers(network)
        network.eval()
        vqvae, config = network.vqvae, self.config.data
        training = some(self.facts.training, _LOOKED_AT)
        seen = look(vqvae, training, config, self.settings.batch_size)
        held_out = look(vqvae, self.facts.validation, config, self.settings.batch_size)
        held_out = [torch.from_numpy(_whole(each, self.facts)) for each in held_out]
        use = code_use(torch.bincount(seen[0][seen[1]], minlength=self.config.codebook.num_codes))
        labels = torch.from_numpy(self.facts.validation_labels)
        probed = min(_PROBED, len(training), max(1, _PROBED_NUMBERS // seen[2][0].numel()))
        places = torch.from_numpy(spread(len(training), probed))
        table = vqvae.codebook.vectors().detach().cpu()
        classes = len(self.facts.classes)

        def top1(train: Tensor, test: Tensor) -> float:
            return linear_top1(
                train[places].flatten(1), training.labels.cpu()[places], test.flatten(1), labels, classes
            )

        tokens = top1(words_of(seen[0], seen[1], table), words_of(held_out[0], held_out[1], table))
        metrics = {
            "codes_used": 100 * use.share,
            "perplexity": use.perplexity,
            "rim": 100 * at_rim(vqvae, seen[2][seen[1]]),
            "error_cm": 100 * self._error(vqvae),
            "tokens_top1": tokens,
            "features_top1": top1(seen[2], held_out[2]),
        }
        self.use = use
        return Validation({name: round(value, 4) for name, value in metrics.items()}, tokens, len(labels))

    def end_epoch(self, epoch: int, network: nn.Module, watcher: Watcher) -> None:
        """Say so where the codebook collapses, once; keep the count of used codes whole in the leader."""
        distributed.add_up(self.used)
        if not distributed.leads():
            self.used.zero_()
        codes = self.config.codebook.num_codes
        collapsing = self.use.share < _COLLAPSED or self.use.perplexity < _COLLAPSED / 4 * codes
        if collapsing and not self.told and epoch >= max(2, self.settings.epochs // 10):
            self.told = True
            cures = " ".join(f"--set {each}" for each in self.config.cures)
            step = f"train again with {cures}" if cures else "take fewer codes (codebook.num_codes) or more epochs"
            watcher.noted(
                f"the codebook collapses: {self.use.share:.0%} of {codes} codes are in use after epoch {epoch}. "
                f"Stop, and {step} (docs/llm-ar.md)."
            )

    # ---- the codebook

    def _num_tokens(self) -> int:
        """Tokens of the training clips that are looked at."""
        config, each = self.config.data, self.config.vqvae.frames_per_code
        present = [
            self.model.vqvae.present(x[:, 0]) for x in test_batches(some(self.facts.training, _LOOKED_AT), config, 256)
        ]
        joined = self.config.vqvae.bodies == "joined"
        return sum(len(found) if joined else int(found.sum()) for found in present) * (config.num_frames // each)

    @torch.no_grad()
    def _begin(self) -> None:
        """Standardise by training clips as they are shown, augmented, and let the codes begin as their latents where
        they are to. Without augmentation a coordinate that clips are turned by would hardly vary."""
        clips, config = self.facts.training, self.config
        generator = torch.Generator().manual_seed(self.settings.seed)
        chosen = torch.from_numpy(spread(len(clips), _LOOKED_AT))
        draws = torch.rand(len(chosen), num_draws(config.data, config.augment, clips.layout), generator=generator)
        parts = zip(chosen.split(256), draws.split(256), strict=True)
        shown = [augmented(clips, some, config.data, config.augment, draw) for some, draw in parts]
        self.model.vqvae.standardise_by(torch.cat(shown))
        if self.config.codebook.begin == "data":
            latents = torch.cat([self.model.vqvae.latents(x).flatten(0, 1) for x in shown])
            self.model.vqvae.codebook.begin(latents, generator)

    @torch.no_grad()
    def _revive(self) -> None:
        """Let dead codes begin anew after the steps that are due."""
        config = self.config.codebook
        if not self.steps or not config.revives(self.steps, self.steps_per_epoch * self.settings.epochs):
            return
        distributed.add_up(self.used)
        generator = torch.Generator().manual_seed(self.settings.seed + self.steps)
        clips = self.facts.training
        count = max(_REVIVED_FROM, config.num_codes)
        chosen = torch.randperm(len(clips), generator=generator)[:count].numpy()
        vqvae = self.model.vqvae
        latents = [vqvae.latents(x[:, 0]).flatten(0, 1) for x in test_batches(clips.at(chosen), self.config.data, 256)]
        vqvae.codebook.used.copy_(self.used)
        vqvae.codebook.revive(torch.cat(latents), generator)
        self.used.zero_()

    def _error(self, vqvae: ActionVqVae) -> float:
        """Mean distance of held-out joints to their reconstruction, over all processes."""
        total = torch.zeros(2, device=self.device)
        with torch.no_grad():
            for x in test_batches(self.facts.validation, self.config.data, self.settings.batch_size):
                off = joint_error(x[:, 0], vqvae(x[:, 0]).reconstruction)
                total += torch.stack([off * len(x), off.new_tensor(float(len(x)))])
        distributed.add_up(total)
        return float(total[0] / total[1])

    # ---- interruption

    def state(self) -> dict[str, Any]:
        """Counts that are no part of the network."""
        return {"steps": self.steps, "used": self.used, "told": self.told}

    def restore(self, state: Mapping[str, Any] | None, epoch: int) -> None:
        """Go on after `epoch`."""
        if state is not None:
            self.steps, self.told = int(state["steps"]), bool(state["told"])
            if distributed.leads():
                self.used.copy_(state["used"])

    def report(self) -> dict[str, Any]:
        """How the codebook was used at the end."""
        return {"codebook": asdict(self.use)}


def some(clips: Clips, most: int) -> Clips:
    """At most so many of the clips, evenly spread."""
    return clips if len(clips) <= most else clips.at(spread(len(clips), most))


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` numbers below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


@torch.no_grad()
def look(vqvae: ActionVqVae, clips: Clips, config: DataConfig, batch_size: int) -> list[Tensor]:
    """The sentences of clips as `ActionVqVae.look` gives them, on the CPU: codes, where somebody is, latents."""
    found = [vqvae.look(x[:, 0]) for x in test_batches(clips, config, batch_size)]
    return [torch.cat(each).cpu() for each in zip(*found, strict=True)]


def words_of(codes: Tensor, mask: Tensor, table: Tensor) -> Tensor:
    """Codes `[N, L]` as rows of `table` `[U, d]`, 0 where nobody is: `[N, L, d]`."""
    return table[codes.clamp(min=0)] * mask[:, :, None]


def at_rim(vqvae: ActionVqVae, latents: Tensor) -> float:
    """Share of latents, in tangent coordinates, that are as long as any may be."""
    limit = vqvae.codebook.limit
    longest = limit * (1 - 1e-4) if limit else math.inf
    return float((latents.norm(dim=1) > longest).double().mean())


def _whole(part: Tensor, facts: Facts) -> np.ndarray:
    """What all processes found of the held-out clips, from this one's part."""
    return distributed.interleave(part.numpy(), len(facts.validation_labels))
