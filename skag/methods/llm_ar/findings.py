"""What `skag analyze-confusion` shows of an LLM-AR run: the codebook's use, action words of classes, sentences.

Letters of this file: n clips, L codes of a clip, U codes, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import runs
from ...inference.loaded import Run
from ...inference.scores import Predictions
from ...results.analysis import Pair
from ...results.drawing import View, view_of
from ...results.report import Texts
from ...skeleton.clips import prepare, test_batches
from ...skeleton.store import SkeletonStore
from ..base import Findings
from .codebook import code_use
from .codebook_figures import codes_figure, use_figure, words_figure
from .codebook_task import look, spread
from .config import LlmArConfig
from .losses import zipf_loss
from .reader import Reader

_LOOKED_AT = 2000  # training clips by which words are told
_WORDS = 6  # of a class that are shown
_PLAYED = 24  # codes that the page plays
_DRAWN = 12  # and the figure draws
_BEFORE, _AFTER = 1, 1  # neighbours that are drawn with a code
_OCCURRENCES = 64  # of a code that are averaged


def findings(
    run: Run, store: SkeletonStore, predictions: Predictions, pairs: Sequence[Pair], reference: Path | None
) -> Findings:
    """Everything that the codebook and the sentences of clips say; `pairs` are the confused classes. Raises
    `RunError`."""
    reader = run.model
    assert isinstance(reader, Reader)
    device, config, config_of = reader.gain.device, run.config.data, run.config
    assert isinstance(config_of, LlmArConfig)
    numbers = _training(run, store)
    missing = []
    if not len(numbers):
        missing.append("training clips' words: the store is not the one that the run was trained on")
        numbers = store.splits[predictions.split]
    numbers = numbers[spread(len(numbers), _LOOKED_AT)]
    training = prepare(store, numbers, config, device)
    codes, mask, _ = look(reader.vqvae, training, config, 64)
    labels = store.labels[numbers].astype(np.int64)
    counts = word_counts(codes, mask, labels, len(run.classes), reader.vqvae.codebook.config.num_codes)
    shown = prepare(store, store.splits[predictions.split], config, device)
    sentences = [row[there].tolist() for row, there in zip(*look(reader.vqvae, shown, config, 64)[:2], strict=True)]
    total = counts.sum(0)
    use = code_use(torch.from_numpy(total))
    words = [class_words(counts, k) for k in range(len(run.classes))]
    if not any(words):
        missing.append("words of classes: no code comes oftener in one class than in the others")
    order = np.argsort(-total, kind="stable")
    order = order[total[order] > 0]
    rows = [_pair_row(pair, run.classes, predictions, sentences) for pair in pairs]
    made = code_views(reader, codes, mask, training, config, order[:_PLAYED], total, run)
    share = total / max(total.sum(), 1)

    def draw(folder: Path, confused: Sequence[int], seed: int) -> dict[str, Path]:
        drawn = {
            name: folder / f"{name}.png" for name in ("code-use", "codes", *(["class-words"] if any(words) else []))
        }
        use_figure(np.sort(share)[::-1], drawn["code-use"])
        codes_figure(made[:_DRAWN], drawn["codes"])
        if any(words):
            words_figure(counts, run.classes, words, drawn["class-words"])
        return drawn

    return Findings(
        document={
            "codebook": {
                "codes": len(total),
                "used": int((total > 0).sum()),
                "perplexity": round(use.perplexity, 2),
                "zipf_divergence": round(float(zipf_loss(torch.from_numpy(share))), 4),
                "shares": [round(float(each), 6) for each in np.sort(share)[::-1]],
            },
            "words": {name: words[k] for k, name in enumerate(run.classes)},
        },
        pairs=rows,
        page=lambda texts: _page(run, words, pairs, rows, texts),
        facts={"Base model": config_of.lm.base_model, "Codes": f"{int((total > 0).sum())} of {len(total)} in use"},
        moving=made,
        missing=missing,
        draw=draw,
    )


def word_counts(codes: Tensor, mask: Tensor, labels: np.ndarray, num_classes: int, num_codes: int) -> np.ndarray:
    """How often clips of each class use each code `[K, U]`, of codes and mask `[n, L]`."""
    counts = np.zeros((num_classes, num_codes), np.int64)
    for row, there, label in zip(codes, mask, labels, strict=True):
        if label >= 0:
            counts[label] += np.bincount(row[there].numpy(), minlength=num_codes)
    return counts


def class_words(counts: np.ndarray, k: int) -> list[dict[str, Any]]:
    """The codes that tell most of a class: by share in the class times the logarithm of how much larger that is than
    in the others. Shares are percentages of tokens."""
    own = counts[k] / max(counts[k].sum(), 1)
    others = counts.sum(0) - counts[k]
    elsewhere = others / max(others.sum(), 1)
    told = own * np.log((own + 1e-4) / (elsewhere + 1e-4))
    return [
        {"code": int(u), "share": round(100 * float(own[u]), 1), "elsewhere": round(100 * float(elsewhere[u]), 1)}
        for u in np.argsort(-told, kind="stable")[:_WORDS]
        if told[u] > 0
    ]


def code_views(
    reader: Reader, codes: Tensor, mask: Tensor, training: Any, config: Any, wanted: Sequence[int], total: Any, run: Run
) -> list[View]:
    """What codes look like where they stand: the decoded frames of a code with its neighbours, mean over some of the
    places of training clips in which it comes."""
    vqvae, each = reader.vqvae, reader.vqvae.config.frames_per_code
    joined = vqvae.config.bodies == "joined"
    places: dict[int, list[tuple[int, int]]] = {int(u): [] for u in wanted}
    for n, (row, there) in enumerate(zip(codes.tolist(), mask.tolist(), strict=True)):
        for at, code in enumerate(row):
            if there[at] and code in places and len(places[code]) < _OCCURRENCES:
                places[code].append((n, at))
    needed = {n for found in places.values() for n, _ in found}
    decoded: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for start, x in zip(range(0, len(training), 64), test_batches(training, config, 64), strict=False):
            if any(start + at in needed for at in range(len(x))):
                made = vqvae(x[:, 0]).reconstruction.cpu().numpy()
                decoded |= {start + at: made[at] for at in range(len(x)) if start + at in needed}
    per_body = config.num_frames // each
    views = []
    for u, found in places.items():
        pieces = []
        for n, at in found:
            body, at = (slice(None), at) if joined else (slice(at // per_body, at // per_body + 1), at % per_body)
            frames = np.arange((at - _BEFORE) * each, (at + 1 + _AFTER) * each).clip(0, config.num_frames - 1)
            pieces.append(decoded[n][body][:, frames])
        share = 100 * total[u] / max(total.sum(), 1)
        views.append(view_of(np.mean(pieces, axis=0), run.layout, f"word {u}", f"{share:.1f} % of tokens"))
    return views


def _training(run: Run, store: SkeletonStore) -> np.ndarray:
    """Numbers of the clips that the run was trained on, none where the store is another one."""
    found = runs.read_json(run.folder, runs.DATA).get("training")
    known = isinstance(found, list) and store.fingerprint == run.fingerprint
    return np.array(found if known else [], np.int64)


def _pair_row(
    pair: Pair, classes: Sequence[str], predictions: Predictions, sentences: Sequence[list[int]]
) -> dict[str, Any]:
    """Sentences side by side: of the clip that was taken for the other class most surely, and of that class's surest
    right one."""
    true, other = classes.index(pair.true), classes.index(pair.predicted)
    sure, predicted = predictions.probabilities.max(1), predictions.probabilities.argmax(1)

    def surest(label: int) -> int | None:
        found = np.flatnonzero((predictions.labels == label) & (predicted == other))
        return None if not len(found) else int(found[sure[found].argmax()])

    row: dict[str, Any] = {}
    for side, label in (("true", true), ("predicted", other)):
        at = surest(label)
        row[f"{side}_clip"] = None if at is None else predictions.names[at]
        row[f"{side}_codes"] = None if at is None else sentences[at]
    both = [set(row[f"{side}_codes"] or ()) for side in ("true", "predicted")]
    row["words_shared"] = sorted(both[0] & both[1])
    return row


def _page(
    run: Run, words: Sequence[list[dict[str, Any]]], pairs: Sequence[Pair], rows: Sequence[dict[str, Any]], texts: Texts
) -> dict[str, Any]:
    """Texts of classes and pairs for the page."""
    number = {name: k for k, name in enumerate(run.classes)}
    of_class = [
        [
            [
                "Action words",
                texts(
                    "\n".join(
                        f"word {w['code']}: {w['share']} % of its tokens, elsewhere {w['elsewhere']} %" for w in own
                    )
                ),
            ]
        ]
        if own
        else []
        for own in words
    ]
    of_pair = {}
    for pair, row in zip(pairs, rows, strict=True):
        said = []
        for side, what in (("true", pair.true), ("predicted", pair.predicted)):
            if row[f"{side}_codes"] is not None:
                said.append([f"{row[f'{side}_clip']}, {what}", texts(" ".join(map(str, row[f"{side}_codes"])))])
        if said:
            shared = ", ".join(map(str, row["words_shared"])) or "none"
            said.append(["Words of both sentences", texts(shared)])
        of_pair[f"{number[pair.true]}-{number[pair.predicted]}"] = said
    helped = (
        "The commonest codes as the decoder shows them: four frames of the code and four of each neighbour, mean over "
        "places of training clips in which it stands."
    )
    return {"of_class": of_class, "of_pair": of_pair, "made": {"title": "Action words", "help": helped}}
