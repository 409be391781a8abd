"""Prompts of text with slots for vectors, as one batch of input vectors; and cross-entropy on their answers.

A prompt is a sequence of parts, texts and vectors `[l, D]` in any order. Text is looked up among the word vectors, so
that both enter alike, as `inputs_embeds`. N prompts, L positions, D the width of a word vector.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .causal import CausalModel

IGNORE = -100  # where nothing is to be learned
Part = str | Tensor
_SLOT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Inputs:
    """What goes into the network. Padding is masked, and positions count without it."""

    embeds: Tensor  # [N, L, D]
    mask: Tensor  # [N, L], 1 where there is something
    positions: Tensor  # [N, L]
    targets: Tensor  # [N, L]: the token at each position of an answer, else IGNORE

    @property
    def lengths(self) -> Tensor:
        """Positions of each prompt without padding `[N]`."""
        return self.mask.sum(1)


def compose(template: str, values: Mapping[str, str | Tensor]) -> tuple[Part, ...]:
    """The parts of a template: `{name}` is replaced by its value, a text or vectors `[l, D]`, once.

    What has no value stays as it is, so that `{class}` can be meant literally.
    """
    parts: list[Part] = []
    text, end = "", 0
    for slot in _SLOT.finditer(template):
        value = values.get(slot[1], slot[0])
        text += template[end : slot.start()]
        end = slot.end()
        if isinstance(value, str):
            text += value
        else:
            parts += [text, value]
            text = ""
    parts.append(text + template[end:])
    return tuple(part for part in parts if not isinstance(part, str) or part)


def assemble(
    model: CausalModel,
    prompts: Sequence[Sequence[Part | list[int]]],
    answers: Sequence[str] | None = None,
    *,
    side: Literal["left", "right"] = "left",
    until: Sequence[str] | None = None,
) -> Inputs:
    """A batch of prompts, each followed by its answer and the token that ends it where `answers` are given.

    Parts that are tokens are taken as they are. `side` is the side of the padding; the numbers are the same (to
    rounding), and answers stand closer together on the left. `until` are texts of the answers that are not learned,
    such as what they all begin with: each has to be the beginning of its answer. Raises `ValueError` for vectors of
    another width than D.
    """
    rows = [_row(model, prompt, None if answers is None else answers[n]) for n, prompt in enumerate(prompts)]
    if until is not None:
        for (_, targets), start in zip(rows, until, strict=True):
            given = len(model.encode(start))
            first = next(i for i, target in enumerate(targets) if target != IGNORE)
            targets[first : first + given] = [IGNORE] * given
    length = max(len(targets) for _, targets in rows)
    embeds, masks, targets_NL = [], [], []
    for vectors, targets in rows:
        gap = length - len(targets)
        pad = (gap, 0) if side == "left" else (0, gap)
        embeds.append(functional.pad(vectors, (0, 0, *pad)))
        masks.append(functional.pad(torch.ones(len(targets), dtype=torch.long), pad))
        targets_NL.append(functional.pad(torch.tensor(targets, dtype=torch.long), pad, value=IGNORE))
    mask = torch.stack(masks).to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return Inputs(torch.stack(embeds), mask, positions, torch.stack(targets_NL).to(model.device))


def _row(model: CausalModel, prompt: Sequence[Part | list[int]], answer: str | None) -> tuple[Tensor, list[int]]:
    """Vectors `[l, D]` of a prompt and its answer, and the targets at their positions."""
    parts: list[list[int] | Tensor] = []
    length = 0
    for number, part in enumerate(prompt):
        if isinstance(part, str):
            tokens = model.encode(part, first=number == 0)
            parts.append(tokens)
            length += len(tokens)
            continue
        if isinstance(part, list):
            parts.append(part)
            length += len(part)
            continue
        if part.dim() != 2 or part.shape[1] != model.width:
            raise ValueError(f"vectors {tuple(part.shape)} in a prompt for word vectors of width {model.width}")
        if number == 0 and model.start:
            parts.append(list(model.start))
            length += len(model.start)
        parts.append(part)
        length += len(part)
    targets = [IGNORE] * length
    if answer is not None:
        tokens = [*model.encode(answer), model.ends[0]]
        parts.append(tokens)
        targets += tokens
    if not targets:
        raise ValueError("a prompt of nothing")
    return torch.cat([_vectors(model, part) for part in parts]), targets


def _vectors(model: CausalModel, part: list[int] | Tensor) -> Tensor:
    if isinstance(part, Tensor):
        return part.to(model.words().dtype)
    return model.embed(torch.tensor(part, dtype=torch.long, device=model.device))


def answer_loss(model: CausalModel, inputs: Inputs) -> tuple[Tensor, int]:
    """Cross-entropy on the tokens of the answers, summed, and the number of these tokens.

    Divide for the mean; over several batches divide by the tokens of all (`spread.accumulate` does). Logits are
    computed only where an answer's token is to be told.
    """
    loss, count, _ = answers_told(model, inputs)
    return loss, count


def answers_told(model: CausalModel, inputs: Inputs) -> tuple[Tensor, int, Tensor]:
    """As `answer_loss`, and which prompts' answers would be generated, bool `[N]`: each of their tokens is the
    likeliest after those before it."""
    wanted_NL = inputs.targets[:, 1:] != IGNORE
    columns = wanted_NL.any(0).nonzero()[:, 0]  # of the positions before the answers' tokens
    logits_NlV = forward(model, inputs, keep=columns)
    targets_Nl = inputs.targets[:, 1:][:, columns]
    loss = functional.cross_entropy(
        logits_NlV.float().flatten(0, 1), targets_Nl.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    told_N = ((logits_NlV.argmax(-1) == targets_Nl) | (targets_Nl == IGNORE)).all(1)
    return loss, int(wanted_NL.sum()), told_N


def forward(model: CausalModel, inputs: Inputs, keep: Tensor | None = None) -> Tensor:
    """Logits `[N, L, V]`, or only those of the columns `keep`, `[N, l, V]`."""
    return model.network(
        inputs_embeds=inputs.embeds,
        attention_mask=inputs.mask,
        position_ids=inputs.positions,
        use_cache=False,
        **({} if keep is None else {"logits_to_keep": keep}),
    ).logits


def matched(answer: str, names: Iterable[str]) -> str | None:
    """The name that a free answer is, up to case, spaces and the marks around it; None where it is none of them.

    Of an answer that says more, its beginning up to the first `.`, `}` or line feed counts too.
    """
    known = {_plain(name): name for name in names}
    whole, start = _plain(answer), _plain(re.split(r"[.}\n]", answer.strip().lstrip("{"), maxsplit=1)[0])
    return known.get(whole) or known.get(start)


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()
