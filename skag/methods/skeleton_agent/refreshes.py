"""What the refreshes of a run did: what they asked, what they changed, and what became of confused pairs.

Read from the run folder alone: `refreshes.jsonl`, `metrics.jsonl` and `refreshes/epoch-NNN.npz`. A run without agents
has no refreshes, an earlier skag wrote no snapshots; of these, what is asked for is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import runs
from ...dialogue.exchanges import Exchange
from ...errors import RunError
from ...results.analysis import Pair
from .agents import REFRESHES
from .class_knowledge import ClassKnowledge, History

SNAPSHOTS = "refreshes"  # folder of a run


@dataclass(frozen=True)
class RefreshRecord:
    """One line of `refreshes.jsonl`."""

    epoch: int  # after which confusions were counted
    effective: int  # the first epoch trained with its answers
    confusions: np.ndarray  # int64 [K, K], true class by predicted class, of that epoch
    asked: np.ndarray  # bool [K, K]: what tells the one class from the other was asked, and answered
    changed: dict[str, tuple[ClassKnowledge, ClassKnowledge]]  # class -> what was known before and after
    exchanges: frozenset[str]  # keys of its round 6 exchanges
    record: dict[str, Any]  # the line itself


@dataclass(frozen=True)
class PairChange:
    """Clips of a pair's true class taken for the other one in training: counted before a refresh that asked about the
    pair, and at the first count after an epoch trained with the answers (None where training ended before)."""

    epoch: int
    before: int
    before_clips: int  # of the true class
    after_epoch: int | None
    after: int | None
    after_clips: int | None

    @property
    def change(self) -> float | None:
        """Of the share that was confused, in percentage points."""
        if self.after is None or not self.before_clips or not self.after_clips:
            return None
        return 100 * (self.after / self.after_clips - self.before / self.before_clips)


@dataclass(frozen=True)
class ExplainedPair:
    """A confused pair, what tells its classes apart, and what its refreshes did.

    `joints_apart` are critical for one of both classes and not for the other. Without a dialogue nothing is known.
    """

    pair: Pair
    true: ClassKnowledge | None
    predicted: ClassKnowledge | None
    joints_apart: tuple[str, ...]
    refreshes: tuple[PairChange, ...]


@dataclass(frozen=True)
class RefreshSummary:
    """What a refresh asked, and shares of training clips in percent that were confused before and after it.

    `asked_*` are confusions of the pairs it asked about, `other_*` of all other pairs, `reference_*` all of a run to
    compare with, after the same epochs. Pairs are asked about because they are confused much, and training goes on:
    both alone make `asked_after` smaller. None where a number is not known.
    """

    epoch: int
    effective: int
    classes: int
    pairs: int
    changed: int
    asked_before: float | None
    asked_after: float | None
    other_before: float | None
    other_after: float | None
    reference_before: float | None = None
    reference_after: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """What `refreshes/epoch-NNN.npz` holds, after epoch `epoch` (0: before training)."""

    epoch: int
    text_before: np.ndarray  # float32 [K, D], embeddings of the sentences trained with up to here
    text: np.ndarray  # float32 [K, D], of those from here on
    joints_before: np.ndarray  # uint8 [K, V], critical joints
    joints: np.ndarray
    clip_embeddings: np.ndarray  # float [n, D], of the clips that choose the epoch
    clip_labels: np.ndarray  # int64 [n]
    clip_numbers: np.ndarray  # int64 [n] in the skeleton store


def read_refreshes(
    run: Path, classes: Sequence[str], dialogue: Mapping[str, Exchange], history: History
) -> list[RefreshRecord]:
    """The refreshes of a run, in order; none without agents. `dialogue` and `history` are what `class_knowledge` reads.

    Raises `RunError` for a damaged file.
    """
    path = run / REFRESHES
    index = {name: k for k, name in enumerate(classes)}
    try:
        return [_refresh(record, index, dialogue, history) for record in runs.read_lines(path)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RunError(f"{path} is damaged ({cause}): take it from a copy, or train the run again.") from None


def _refresh(
    record: dict[str, Any], index: dict[str, int], dialogue: Mapping[str, Exchange], history: History
) -> RefreshRecord:
    K = len(index)
    confusions, asked = np.zeros((K, K), np.int64), np.zeros((K, K), bool)
    for true, predicted, count in record["confusions"]:
        confusions[true, predicted] = count
    # not all similar classes were asked about: some had been before, failed, or were over the budget
    for name in {dialogue[key].class_name for key in record["exchanges"] if key in dialogue}:
        asked[index[name], [index[other] for other in record["similar"].get(name, ())]] = True
    effective = int(record.get("effective", record["epoch"] + 1))
    before, after = history.at(effective - 1), history.at(effective)
    changed = {}
    if before is not None and after is not None:
        pairs = zip(history.classes, before, after, strict=True)
        changed = {
            name: (old, new) for name, old, new in pairs if (old.sentence, old.joints) != (new.sentence, new.joints)
        }
    return RefreshRecord(
        epoch=int(record["epoch"]),
        effective=effective,
        confusions=confusions,
        asked=asked,
        changed=changed,
        exchanges=frozenset(record["exchanges"]),
        record=record,
    )


def explain_pairs(
    pairs: Sequence[Pair],
    classes: Sequence[str],
    known: Sequence[ClassKnowledge] | None,
    refreshes: Sequence[RefreshRecord],
) -> list[ExplainedPair]:
    """Each confused pair with what is known of both classes, and the refreshes that asked about it."""
    index = {name: k for k, name in enumerate(classes)}
    found = []
    for pair in pairs:
        m, n = index[pair.true], index[pair.predicted]
        true, predicted = (None, None) if known is None else (known[m], known[n])
        apart = () if true is None or predicted is None else _apart(true.joints, predicted.joints)
        found.append(ExplainedPair(pair, true, predicted, apart, pair_changes(refreshes, m, n)))
    return found


def _apart(joints: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    return (*(j for j in joints if j not in others), *(j for j in others if j not in joints))


def pair_changes(refreshes: Sequence[RefreshRecord], true: int, predicted: int) -> tuple[PairChange, ...]:
    """What became, in training, of class `true` taken for class `predicted` after each refresh that asked about it."""
    found = []
    for refresh in refreshes:
        if not refresh.asked[true, predicted]:
            continue
        after = _next(refreshes, refresh)
        counts = refresh.confusions
        found.append(
            PairChange(
                epoch=refresh.epoch,
                before=int(counts[true, predicted]),
                before_clips=int(counts[true].sum()),
                after_epoch=None if after is None else after.epoch,
                after=None if after is None else int(after.confusions[true, predicted]),
                after_clips=None if after is None else int(after.confusions[true].sum()),
            )
        )
    return tuple(found)


def _next(refreshes: Sequence[RefreshRecord], refresh: RefreshRecord) -> RefreshRecord | None:
    """The first whose confusions were counted in an epoch trained with the answers of `refresh`."""
    return next((other for other in refreshes if other.epoch >= refresh.effective), None)


def summarise(refreshes: Sequence[RefreshRecord], reference: Path | None = None) -> list[RefreshSummary]:
    """One summary per refresh; `reference` is the folder of a run to compare the course of training with."""
    course = {} if reference is None else _training_errors(reference)
    found = []
    for refresh in refreshes:
        after = _next(refreshes, refresh)
        other_KK = ~refresh.asked & ~np.eye(len(refresh.asked), dtype=bool)
        found.append(
            RefreshSummary(
                epoch=refresh.epoch,
                effective=refresh.effective,
                classes=int(refresh.asked.any(axis=1).sum()),
                pairs=int(refresh.asked.sum()),
                changed=len(refresh.changed),
                asked_before=_share(refresh, refresh.asked),
                asked_after=_share(after, refresh.asked),
                other_before=_share(refresh, other_KK),
                other_after=_share(after, other_KK),
                reference_before=course.get(refresh.epoch),
                reference_after=None if after is None else course.get(after.epoch),
            )
        )
    return found


def _share(refresh: RefreshRecord | None, cells_KK: np.ndarray) -> float | None:
    if refresh is None or not (clips := refresh.confusions.sum()):
        return None
    return 100 * float(refresh.confusions[cells_KK].sum() / clips)


def _training_errors(run: Path) -> dict[int, float]:
    """Percent of the training clips that were wrong, by epoch."""
    try:
        return {int(row["epoch"]): 100 - float(row["train_top1"]) for row in runs.read_lines(run / runs.METRICS)}
    except (ValueError, TypeError, KeyError):
        raise RunError(f"{run / runs.METRICS} is damaged: take it from a copy, or train the run again.") from None


def read_snapshots(run: Path, most: int | None = None) -> list[Snapshot]:
    """The snapshots of a run by epoch, at most `most` of them, evenly; none where there are none.

    Raises `RunError` for a damaged file.
    """
    paths = sorted((run / SNAPSHOTS).glob("epoch-*.npz"))
    if most is not None and len(paths) > most:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, most).round().astype(int)]
    return [_snapshot(path) for path in paths]


def _snapshot(path: Path) -> Snapshot:
    try:
        with np.load(path, allow_pickle=False) as saved:
            names = [name for name in Snapshot.__dataclass_fields__ if name != "epoch"]
            found = Snapshot(int(path.stem.removeprefix("epoch-")), **{name: saved[name] for name in names})
        count, (num_classes, width) = len(found.clip_labels), found.text.shape
        if (
            found.text_before.shape != found.text.shape
            or found.joints_before.shape != found.joints.shape
            or found.clip_embeddings.shape != (count, width)
            or not count
            or not (found.clip_labels >= 0).all()
            or not (found.clip_labels < num_classes).all()
        ):
            raise ValueError("its arrays do not fit each other")
    except Exception as error:  # zip, numpy and key errors alike: the file is not what training wrote
        raise RunError(f"{path} is damaged ({error}): remove it, or train the run again.") from None
    return found
