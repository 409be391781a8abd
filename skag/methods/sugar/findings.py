"""What `skag analyze-confusion` shows of a SUGAR run: which text of which class clips lie nearest to, how alike the
classes' texts are, and where clips lay before and after training.

Letters of this file: N clips, K classes, n texts of a class, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...dialogue.exchanges import spec_of
from ...errors import RunError
from ...inference.loaded import Run
from ...inference.scores import Predictions, embed_clips
from ...results import analysis
from ...results.report import Texts, said
from ...skeleton.clips import prepare
from ...skeleton.store import SkeletonStore
from ..base import Findings
from .config import SugarConfig
from .descriptions import FILE, Text, recorded_exchanges, recorded_texts
from .figures import alike_figure, embedding_figure
from .losses import nearest_text
from .network import Aligner, Sugar
from .task import BEFORE

_MOST_PAIRS = 20  # of classes whose texts are alike, in the document
_SHOWN_CLASSES = 10


@dataclass(frozen=True)
class Nearest:
    """Where the clips of a split lie among the texts."""

    embeddings: np.ndarray  # [N, D]
    labels: np.ndarray  # [N]
    classes: np.ndarray  # [N], of the nearest text of all
    own: np.ndarray  # [N], which of the nearest class's texts that is
    cosine: np.ndarray  # [N, K], with the nearest text of each class


def findings(run: Run, store: SkeletonStore, predictions: Predictions, pairs: Sequence[analysis.Pair]) -> Findings:
    """Everything that the run's folder and its encoder say; `pairs` are those it confuses. Raises `RunError`."""
    config, encoder = run.config, run.model.encoder if isinstance(run.model, Sugar) else run.model
    assert isinstance(config, SugarConfig) and isinstance(encoder, Aligner)
    if not (run.folder / FILE).exists():
        raise RunError(f"{run.folder} is no complete run folder, {FILE} is missing: train it again.")
    added = len(run.classes) - len(run.trained)  # by `skag add`, of which nothing is told
    texts: list[tuple[Text, ...]] = [*recorded_texts(run.folder, run.trained), *[()] * added]
    exchanges = recorded_exchanges(run.folder)
    facts = {"Class named by": _named_by(config)}
    if config.has_texts:
        llms = sorted({spec_of(each.identity) for each in exchanges.values()})
        facts["Texts"] = f"{config.texts.knowledge}, by {', '.join(llms) or 'nobody'}"
    if not config.learns_texts:
        page = _page(run, texts, exchanges, None, None)
        missing = ["nearest texts and embeddings: the encoder learned from the classes alone"]
        return Findings(page=page, facts=facts, missing=missing)
    nearest = _nearest(run, encoder, store, predictions)
    alike = np.pad(_alike(encoder), (0, added))
    before = _before(run, encoder, store)

    def draw(folder: Path, confused: Sequence[int], seed: int) -> dict[str, Path]:
        drawn = {"texts-alike": folder / "texts-alike.png"}
        alike_figure(alike, run.classes, drawn["texts-alike"])
        if before is not None:
            drawn["embeddings"] = folder / "embeddings.png"
            first = encoder.texts[:, 0].cpu().numpy()
            shown = sorted([k for k in confused if k < len(run.trained)][:_SHOWN_CLASSES])
            embedding_figure(before, first, run.classes, shown, drawn["embeddings"])
        return drawn

    document: dict[str, Any] = {
        "nearest_texts": [_of_class(k, texts[k], nearest, run.classes) for k in range(len(run.classes))],
        "texts_alike": _most_alike(alike, run.classes),
    }
    if before is not None:
        document["nearest_is_own"] = {
            when: analysis.nearest_is_own(found, before["labels"], encoder.texts[:, 0].cpu().numpy())
            for when, found in (("before", before["before"]), ("kept", before["after"]))
        }
    return Findings(
        document=analysis.rounded(document),
        pairs=[_of_pair(pair, nearest, alike, texts, run.classes) for pair in pairs],
        page=_page(run, texts, exchanges, nearest, alike),
        facts=facts,
        missing=[] if before is not None else [f"embeddings before training: the run has no {BEFORE} of these clips"],
        draw=draw,
    )


def _named_by(config: SugarConfig) -> str:
    if config.tunes:
        return f"{config.lm.base_model}, bridge {config.bridge.kind}"
    return "the nearest text" if config.learns_texts else "the encoder's class head"


def _nearest(run: Run, encoder: Aligner, store: SkeletonStore, predictions: Predictions) -> Nearest:
    numbers = store.splits[predictions.split]
    embeddings = _embedded(run, encoder, store, numbers)
    device = encoder.texts.device
    cosine, which = nearest_text(torch.from_numpy(embeddings).to(device), encoder.texts, encoder.available)
    best = cosine.argmax(1)
    own = which.gather(1, best[:, None])[:, 0]
    labels = store.labels[numbers].astype(np.int64)
    return Nearest(embeddings, labels, best.cpu().numpy(), own.cpu().numpy(), cosine.cpu().numpy())


def _embedded(run: Run, encoder: Aligner, store: SkeletonStore, numbers: np.ndarray) -> np.ndarray:
    device = encoder.texts.device
    clips = prepare(store, numbers, run.config.data, device)
    return embed_clips(encoder, clips, run.config.data, 64).astype(np.float32)


def _alike(encoder: Aligner) -> np.ndarray:
    """`[K, K]`, the mean cosine between the texts of two classes."""
    units = torch.nn.functional.normalize(encoder.texts, dim=-1) * encoder.available[..., None]
    means = units.sum(1) / encoder.available.sum(1, keepdim=True).clamp(min=1)
    return (means @ means.T).cpu().numpy()


def _before(run: Run, encoder: Aligner, store: SkeletonStore) -> dict[str, np.ndarray] | None:
    """Embeddings of the clips that chose the epoch, before anything was learned and of the kept encoder, and their
    labels; None where they are not known, or the store is another one now."""
    path = run.folder / BEFORE
    if not path.exists() or store.fingerprint != run.fingerprint:
        return None
    try:
        with np.load(path, allow_pickle=False) as saved:
            before, numbers = saved["embeddings"].astype(np.float32), saved["numbers"]
    except Exception as error:  # zip, numpy and key errors alike
        raise RunError(f"{path} is damaged ({error}): take it from a copy, or train the run again.") from None
    labels = store.labels[numbers].astype(np.int64)
    return {"before": before, "after": _embedded(run, encoder, store, numbers), "labels": labels}


def _of_class(k: int, texts: Sequence[Text], nearest: Nearest, classes: Sequence[str]) -> dict[str, Any]:
    """Of one class: its texts with how many of its clips lie nearest to each, and which other class's texts take how
    many of its clips."""
    mine = nearest.labels == k
    own = nearest.own[mine & (nearest.classes == k)]
    others = np.bincount(nearest.classes[mine & (nearest.classes != k)], minlength=len(classes))
    return {
        "class": classes[k],
        "clips": int(mine.sum()),
        "nearest_is_own": None if not mine.any() else 100 * float((nearest.classes[mine] == k).mean()),
        "texts": [
            {"kind": each.kind, "text": each.text, "clips": int((own == i).sum())} for i, each in enumerate(texts)
        ],
        "taken_by": [{"class": classes[int(n)], "clips": int(others[n])} for n in np.argsort(-others)[:3] if others[n]],
    }


def _most_alike(alike: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    rows, columns = np.triu_indices(len(classes), 1)
    order = np.argsort(-alike[rows, columns], kind="stable")[:_MOST_PAIRS]
    return [
        {"classes": [classes[rows[i]], classes[columns[i]]], "cosine": float(alike[rows[i], columns[i]])} for i in order
    ]


def _of_pair(
    pair: analysis.Pair, nearest: Nearest, alike: np.ndarray, texts: Sequence[Sequence[Text]], classes: Sequence[str]
) -> dict[str, Any]:
    m, n = classes.index(pair.true), classes.index(pair.predicted)
    mine, cosine = nearest.labels == m, np.pad(nearest.cosine, ((0, 0), (0, len(classes) - nearest.cosine.shape[1])))
    return {
        "texts_alike": float(alike[m, n]),
        "true_text": texts[m][0].text if texts[m] else None,
        "predicted_text": texts[n][0].text if texts[n] else None,
        "nearer_to_predicted": 100 * float((cosine[mine, n] > cosine[mine, m]).mean()),
    }


def _page(
    run: Run,
    texts: Sequence[Sequence[Text]],
    exchanges: dict[str, Any],
    nearest: Nearest | None,
    alike: np.ndarray | None,
):
    """The method's parts of the page: dialogues, the texts of every class, and how alike they are."""

    def parts(page: Texts) -> dict[str, Any]:
        by_class: dict[str, list[dict[str, Any]]] = {name: [] for name in run.classes}
        for exchange in exchanges.values():
            if exchange.class_name in by_class:
                by_class[exchange.class_name].append(said(exchange, page))
        found: dict[str, Any] = {"dialogues": [by_class[name] for name in run.classes]}
        found |= {"critical": None, "refreshes": []}
        if nearest is not None and alike is not None:
            rows = [_of_class(k, texts[k], nearest, run.classes) for k in range(len(run.classes))]
            found["told"] = [
                {
                    "nearest": row["nearest_is_own"],
                    "texts": [each | {"text": page(each["text"])} for each in row["texts"]],
                }
                for row in rows
            ]
            found["alike"] = np.round(alike.astype(float), 3).tolist()
            found["most_alike"] = float(alike[~np.eye(len(alike), dtype=bool)].max()) if len(alike) > 1 else 1.0
        return found

    return parts
