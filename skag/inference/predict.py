"""New recordings in, classes out: calibrated probabilities, the reason in words and joints, "none of these".

A `Predictor` is one run or several that are fused, made by `open_predictor` or from runs that are loaded already.
Recordings are prepared by the same functions as `skag eval` prepares clips of a store.

Letters of this file: N recordings, M bodies, T frames, V joints, C coordinates, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from .. import metrics, runs
from ..errors import DataError, RunError, SkagError
from ..methods import method
from ..methods.base import Candidate, Describer
from ..readers.archives import printable
from ..readers.source import Unusable
from ..skeleton import clips as data
from ..skeleton.layouts import Layout
from ..skeleton.profile import compare, shows_no_action
from ..skeleton.store import Clip, SkeletonStore
from . import calibration, discriminant
from .calibration import Calibration
from .candidates import check_answers, make_candidates, said_of, without_descriptions
from .familiarity import profile_of_run
from .fusion import stream_weight
from .loaded import Run, check_same_clips, held_out_clips, load_run, open_run
from .opinions import Chooser, held_out_opinions, open_chooser
from .recordings import Failure, InputRecording, cleaned, of_array
from .scores import predict_clips, predict_prepared

T = TypeVar("T")
NONE_OF_THESE = "none of these"
MOST_CARRIERS = 5  # joints that are held still together
MAX_BATCH_FRAMES = 1 << 16  # of all recordings of a batch; a longer recording is a batch of its own


@dataclass(frozen=True)
class JointEffect:
    """What the class loses when a joint is held still."""

    joint: str
    drop: float  # of its probability, 1 at most; negative where the joint spoke for other classes


@dataclass(frozen=True)
class Evidence:
    """Which joints carried a decision, measured by holding joints still (`held_still`) and looking again."""

    joints: tuple[JointEffect, ...]  # each held still alone, the most telling first: by the odds that it takes away
    carried_by: tuple[str, ...]  # the fewest of the first joints that, held still together, change the answer
    instead: tuple[str, float] | None  # what is then likeliest; None where no `MOST_CARRIERS` joints change it


@dataclass(frozen=True)
class Prediction:
    """What one recording is taken for."""

    classes: tuple[str, ...]
    probabilities: np.ndarray  # float64 [K], calibrated where the run could be
    uncalibrated: np.ndarray  # float64 [K], as `skag eval` has them
    threshold: float | None  # the likeliest class is no answer below it; None: it always is
    sentence: str | None  # what the run says of the recording, else its dialogue of the likeliest class
    evidence: Evidence | None  # for the likeliest class, where it was asked for
    odd: tuple[str, ...] = ()  # how the recording differs from all training clips, see `skeleton.profile.compare`
    no_action: bool = False  # one frame alone, or no motion: with a threshold it is none of the classes

    @property
    def likeliest(self) -> str:
        """The class of the highest probability, whether it is the answer or not."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def probability(self) -> float:
        """The probability of `likeliest`."""
        return float(self.probabilities.max())

    @property
    def label(self) -> str | None:
        """The answer: `likeliest`, or None for "none of these"."""
        unsure = self.threshold is not None and (self.no_action or self.probability < self.threshold)
        return None if unsure else self.likeliest

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The `count` likeliest classes with their probabilities."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[k], float(self.probabilities[k])) for k in order]

    def to_dict(self, count: int = 5) -> dict[str, Any]:
        """Plain values, with the `count` likeliest classes."""
        return {
            "label": self.label,
            "top": [{"class": name, "probability": probability} for name, probability in self.top(count)],
            "threshold": self.threshold,
            "sentence": self.sentence,
            "odd": list(self.odd),
            "evidence": None if self.evidence is None else asdict(self.evidence),
        }


@dataclass(frozen=True)
class Predicted:
    """A recording of a file with its prediction."""

    path: Path
    name: str
    frames: int
    prediction: Prediction


@dataclass(frozen=True)
class Batch:
    """Recordings where `data.prepare` expects a skeleton store."""

    clips: Sequence[Clip]
    layout: Layout

    @property
    def labels(self) -> np.ndarray:
        return np.array([clip.label for clip in self.clips])

    @property
    def widths(self) -> np.ndarray:
        return np.array([clip.width for clip in self.clips])

    @property
    def cameras(self) -> np.ndarray:
        return np.array([clip.camera for clip in self.clips])

    @property
    def frame_rates(self) -> np.ndarray:
        return np.array([np.nan if clip.frame_rate is None else clip.frame_rate for clip in self.clips])

    @property
    def frames(self) -> np.ndarray:
        return np.array([clip.keypoints.shape[1] for clip in self.clips])

    def keypoints(self, number: int) -> np.ndarray:
        return self.clips[number].keypoints

    def confidence(self, number: int) -> np.ndarray | None:
        return self.clips[number].confidence


@dataclass(frozen=True)
class Predictor:
    """One run, or several fused with the published weights."""

    runs: tuple[Run, ...]
    device: torch.device
    calibration: Calibration | None
    sentences: dict[str, str]  # of the classes that the first run with a dialogue says something of
    num_views: int = 1
    batch_size: int = 64
    kinematics: discriminant.KinematicDiscriminant | None = None  # asked beside the runs
    profile: dict[str, Any] | None = None  # of the first run's training clips; None where they are not at hand
    candidates: tuple[Candidate, ...] | None = None  # the classes to choose among; None: the trained ones
    chooser: Chooser | None = None  # who chooses among candidates by their texts

    @property
    def classes(self) -> tuple[str, ...]:
        if self.candidates is not None:
            return tuple(each.name for each in self.candidates)
        return tuple(self.runs[0].classes)

    @property
    def layout(self) -> Layout:
        return self.runs[0].layout

    def prepare(self, clips: Sequence[Clip]) -> list[data.Clips]:
        """Cleaned recordings as each of the runs sees them."""
        batch = Batch(clips, self.layout)
        with np.errstate(all="ignore"):  # what is too large has no finite probabilities in the end
            return [data.prepare(batch, np.arange(len(clips)), run.config.data, self.device) for run in self.runs]

    def opinion(self, clips: Sequence[Clip]) -> np.ndarray | None:
        """What measured motion says of cleaned recordings, probabilities `[N, K]` (of a chooser: scores); None where it
        is not asked."""
        if self.chooser is not None:
            with np.errstate(all="ignore"):
                return self.chooser.of_motion(Batch(clips, self.layout), np.arange(len(clips)))
        if self.kinematics is None:
            return None
        with np.errstate(all="ignore"):
            return self.kinematics.probabilities(Batch(clips, self.layout), np.arange(len(clips)), self.layout)

    def uncalibrated(self, prepared: Sequence[data.Clips], opinion: np.ndarray | None = None) -> np.ndarray:
        """Probabilities float64 `[N, K]` of prepared recordings, those of several runs fused, as `skag eval` does, and
        multiplied with the `opinion` `[N, K]` or `[1, K]` of all of them."""
        if self.chooser is not None:
            scores = self.chooser.of_network(prepared[0])
            return torch.from_numpy(scores if opinion is None else scores + opinion).softmax(1).numpy()
        found = [
            predict_prepared(run.classifier, clips, run.config.data, self.batch_size, self.num_views, self.candidates)
            for run, clips in zip(self.runs, prepared, strict=True)
        ]
        together = found[0].astype(np.float64)
        if len(found) > 1:
            together = metrics.fuse(found, [stream_weight(run.config.data.stream) for run in self.runs])
        return together if opinion is None else discriminant.multiply(together, opinion)

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities under the fitted temperature; as they are where there is none."""
        return calibration.temper(probabilities, self.calibration.temperature if self.calibration else 1.0)

    def threshold(self, abstain: float | None) -> float | None:
        """The threshold of "none of these", see `Calibration.threshold`. Raises `RunError` where none can be fitted."""
        if abstain is None:
            return None
        if self.calibration is None:
            raise RunError(
                f"no held-out clips of {self.runs[0].folder} are at hand, so there is no threshold: give the store it "
                "was trained on with --data, or leave out --abstain."
            )
        return self.calibration.threshold(abstain)

    def predict(
        self, clips: Sequence[Clip], *, abstain: float | None = None, evidence: bool = True
    ) -> Iterator[Prediction]:
        """A prediction of every recording, in order; the recordings are cleaned (`recordings.cleaned`).

        `abstain` is the rate of `Calibration.threshold`. Measuring the `evidence` takes about as many looks at a
        recording as it has joints. Raises `RunError` as `threshold` does.
        """
        threshold = self.threshold(abstain)
        prepared, opinion = self.prepare(clips), self.opinion(clips)
        uncalibrated = self.uncalibrated(prepared, opinion)
        told = self.told(prepared[0], uncalibrated.argmax(1)) if len(clips) else []
        for n, (raw, probabilities) in enumerate(zip(uncalibrated, self.calibrated(uncalibrated), strict=True)):
            likeliest, reasons = int(probabilities.argmax()), None
            if evidence:
                own = None if opinion is None else opinion[n : n + 1]
                reasons = self.evidence([one_of(batch, n) for batch in prepared], probabilities, own)
            yield Prediction(
                classes=self.classes,
                probabilities=probabilities,
                uncalibrated=raw,
                threshold=threshold,
                sentence=told[n] or self.sentences.get(self.classes[likeliest]),
                evidence=reasons,
                odd=tuple(compare(self.profile, clips[n], self.layout)) if self.profile else (),
                no_action=shows_no_action(clips[n], self.layout),
            )

    def told(self, clips: data.Clips, chosen: np.ndarray) -> list[str]:
        """What the first run says of prepared recordings, taken for the `chosen` classes `[N]`; empty where it has
        nothing to say."""
        run = self.runs[0]
        if not isinstance(run.classifier, Describer):
            return [""] * len(clips)
        found: list[str] = []
        with torch.inference_mode():
            for x in data.test_batches(clips, run.config.data, self.batch_size):
                some = chosen[len(found) : len(found) + len(x)].tolist()
                found += run.classifier.describe(x[:, 0], some, self.candidates)
        return found

    def evidence(
        self, prepared: Sequence[data.Clips], probabilities: np.ndarray, opinion: np.ndarray | None = None
    ) -> Evidence:
        """Which joints carried the decision on one prepared recording with calibrated `probabilities` `[K]`: the
        network's, with the `opinion` `[1, K]` of measured motion as it is."""
        k = int(probabilities.argmax())
        each = [(v,) for v in range(self.layout.num_joints)]
        alone = self._held_still(prepared, each, opinion)[:, k]
        order = np.argsort(np.log(alone) - np.log1p(-alone), kind="stable").tolist()
        prefixes = [tuple(order[: count + 1]) for count in range(min(MOST_CARRIERS, len(order)))]
        together = self._held_still(prepared, prefixes, opinion)
        changed = np.flatnonzero(together.argmax(1) != k)
        carriers = prefixes[changed[0]] if len(changed) else ()
        other = together[changed[0]] if len(changed) else None
        return Evidence(
            joints=tuple(JointEffect(self.layout.joints[v], float(probabilities[k] - alone[v])) for v in order),
            carried_by=tuple(self.layout.joints[v] for v in carriers),
            instead=None if other is None else (self.classes[int(other.argmax())], float(other.max())),
        )

    def _held_still(
        self, prepared: Sequence[data.Clips], which: Sequence[tuple[int, ...]], opinion: np.ndarray | None
    ) -> np.ndarray:
        """Calibrated probabilities `[n, K]` of one prepared recording with each of `which` joints held still."""
        found = []
        longest = max(len(clips.rows) for clips in prepared)
        size = max(1, min(self.batch_size, MAX_BATCH_FRAMES // longest))
        for start in range(0, len(which), size):
            some = which[start : start + size]
            varied = [_copies([held_still(clips.rows, v, self.layout) for v in some], clips) for clips in prepared]
            found.append(self.calibrated(self.uncalibrated(varied, opinion)))
        return np.clip(np.concatenate(found), 1e-15, 1 - 1e-15)


def one_of(clips: data.Clips, number: int) -> data.Clips:
    """One of several prepared recordings."""
    start, frames = int(clips.first_row[number]), int(clips.frames[number])
    return _copies([clips.rows[start : start + frames]], clips, number)


def _copies(rows: Sequence[torch.Tensor], like: data.Clips, number: int = 0) -> data.Clips:
    """Several versions of one prepared recording, rows `[T, M, V, C]` of each."""
    frames = torch.full((len(rows),), len(rows[0]), device=rows[0].device)
    return data.Clips(
        rows=torch.cat(list(rows)),
        first_row=frames.cumsum(0) - frames,
        frames=frames,
        labels=like.labels[number].expand(len(rows)),
        widths=None if like.widths is None else like.widths[number].expand(len(rows)),
        layout=like.layout,
    )


def held_still(rows: torch.Tensor, joints: Sequence[int], layout: Layout) -> torch.Tensor:
    """A prepared recording `[T, M, V, C]` in which some joints stay at their mean place of the recording.

    Frames in which a joint was not seen stay as they are, and so do confidences. Compared were, on the test clips of
    UTKinect and SBU with trained networks, how much holding the three most telling joints still takes from the class's
    probability, and how much any three do: mean place 21 and 1 points (UTKinect), 21 and 3 (SBU); coordinates at 0,
    the sign of a joint not seen, 22 and 2, 92 and 58, which measures how odd such a body is; the place of the joint
    that it hangs on 9 and 1, 67 and 14; carried along rigidly by that joint 3 and 0, 17 and 1.
    """
    held = rows.clone()
    for joint in joints:
        points = rows[..., joint, : layout.dims]  # T M C
        seen = points.any(-1, keepdim=True)
        mean = (points * seen).sum(0) / seen.sum(0).clamp(min=1)
        held[..., joint, : layout.dims] = torch.where(seen, mean, points)
    return held


def predict_recordings(
    predictor: Predictor,
    items: Iterable[InputRecording | Failure],
    *,
    abstain: float | None = None,
    evidence: bool = True,
) -> Iterator[Predicted | Failure]:
    """Predict recordings as they come (`recordings.each_recording`), a batch of them in memory at a time; the results
    are in their order. Arguments and errors as for `Predictor.predict`."""
    predictor.threshold(abstain)  # before anything is read
    batch: list[InputRecording] = []

    def predicted() -> Iterator[Predicted | Failure]:
        found = predictor.predict([item.clip for item in batch], abstain=abstain, evidence=evidence)
        for item, prediction in zip(batch, found, strict=True):
            clip = item.clip
            if np.isfinite(prediction.probabilities).all():
                yield Predicted(item.path, clip.name, clip.keypoints.shape[1], prediction)
            else:
                yield Failure(item.path, clip.name, "has coordinates that are too large: check their unit")
        batch.clear()

    frames = 0
    for item in items:
        if isinstance(item, InputRecording):
            try:
                item = replace(item, clip=cleaned(item.clip, predictor.layout))
            except Unusable as unusable:
                item = Failure(item.path, printable(item.clip.name, 255), str(unusable))
        new = 0 if isinstance(item, Failure) else item.clip.keypoints.shape[1]
        if batch and (
            isinstance(item, Failure) or len(batch) == predictor.batch_size or frames + new > MAX_BATCH_FRAMES
        ):
            yield from predicted()
            frames = 0
        if isinstance(item, Failure):
            yield item
        else:
            batch.append(item)
            frames += new
    if batch:
        yield from predicted()


def predict_array(
    predictor: Predictor,
    keypoints: np.ndarray,
    confidence: np.ndarray | None = None,
    *,
    abstain: float | None = None,
    evidence: bool = True,
) -> Prediction:
    """Predict one recording, see `recogniser.TrainedRecogniser.predict`. Raises `DataError` and `RunError`."""
    item = InputRecording(Path(), of_array(keypoints, confidence, predictor.layout))
    (found,) = predict_recordings(predictor, [item], abstain=abstain, evidence=evidence)
    if isinstance(found, Failure):
        raise DataError(f"{found.name} {found.reason}.")
    return found.prediction


def open_predictor(
    folders: Sequence[Path],
    *,
    store: Path | None = None,
    device: torch.device,
    batch_size: int = 64,
    kinematics: bool = False,
    candidates: Sequence[Candidate] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Predictor:
    """Open runs for prediction, and calibrate them where that has not been done.

    With `candidates` (`candidates.read_candidates`) these classes are chosen among, also such as were never trained.
    With `kinematics` the first run's `discriminant` is asked beside them. `store` takes the place of the skeleton store
    that training found. `note` is told of progress, and where a run cannot be calibrated. Raises `RunError` for runs
    that cannot be used or do not fit each other.
    """
    runs.check_different(folders)
    loaded = [load_run(folder, device) for folder in folders]
    return of_runs(loaded, store, device, batch_size, note, kinematics=kinematics, candidates=candidates)


def of_runs(
    loaded: Sequence[Run],
    store: Path | None,
    device: torch.device,
    batch_size: int = 64,
    note: Callable[[str], None] = lambda text: None,
    *,
    kinematics: bool = False,
    candidates: Sequence[Candidate] | None = None,
) -> Predictor:
    """The same of runs that are loaded already."""
    first = loaded[0]
    for other in loaded[1:]:
        if other.classes != first.classes:
            raise RunError(f"{other.folder} tells other classes apart than {first.folder}: fuse runs of one label set.")
        if other.layout.joints != first.layout.joints:
            raise RunError(
                f"{other.folder} was trained on layout {other.layout.name} and {first.folder} on "
                f"{first.layout.name}: fuse runs of one layout."
            )
    num_views = max(run.config.data.test_views for run in loaded)
    if candidates is not None:
        if len(loaded) > 1:
            raise RunError("candidates are chosen among by one run: leave out --with, or --classes.")
        return _of_candidates(first, candidates, store, device, batch_size, num_views, note)
    networks = [calibration.network_hash(run.folder) for run in loaded]
    asked = None
    if kinematics:
        asked = _with_store(first.folder, store, discriminant.of_run)
        networks.append(asked.identity())
    found = calibration.load(first.folder, networks, num_views)
    if found is None:
        found = _calibrate(loaded, networks, num_views, store, device, batch_size, note, asked)
    sentences = next(filter(None, (method(run.config.method).sentences(run) for run in loaded)), {})
    if first.added is not None:
        described = zip(first.added.names, first.added.descriptions, strict=True)
        sentences = sentences | {name: said for name, said in described if said}
    profile = _with_store(first.folder, store, profile_of_run)
    return Predictor(tuple(loaded), device, found, sentences, num_views, batch_size, asked, profile)


def _of_candidates(
    run: Run,
    given: Sequence[Candidate],
    store: Path | None,
    device: torch.device,
    batch_size: int,
    num_views: int,
    note: Callable[[str], None],
) -> Predictor:
    """A predictor that chooses among candidates: by their texts and all `opinions.OPINIONS`, or, where all of them were
    trained and have no sentences of a person's own, by the network's own head."""
    names, own = [each.name for each in given], {each.name: each.descriptions for each in given}
    said = said_of(run, names)
    chosen = make_candidates(names, run.classifier, own, said)
    trained = make_candidates(run.classes, run.classifier, None, said_of(run, run.classes))
    sentences = {each.name: " ".join(own.get(each.name) or ()) or said.get(each.name, "") for each in chosen}
    sentences = {name: text for name, text in sentences.items() if text}
    profile = _with_store(run.folder, store, profile_of_run)
    if set(names) <= set(run.classes) and not any(own.values()):
        chosen, trained = without_descriptions(chosen), without_descriptions(trained)
        found = _calibrate([run], [], num_views, store, device, batch_size, note, None, trained, len(names))
        return Predictor((run,), device, found, sentences, num_views, batch_size, None, profile, tuple(chosen))
    check_answers(run, chosen, device)
    with ExitStack() as stack:
        path = store or run.store_path
        learned = stack.enter_context(SkeletonStore(path)) if path is not None and path.is_file() else None
        if learned is not None and learned.fingerprint != run.fingerprint:
            learned = None
        chooser = open_chooser(run, chosen, learned, device, batch_size=batch_size, num_views=num_views, note=note)
        found = None
        if chooser.rehearsed is not None:
            found = calibration.fit(*chooser.rehearsed, [], num_views)
        elif learned is not None:
            judged = held_out_opinions(
                run, trained, learned, device, chooser.mixing, batch_size=batch_size, num_views=num_views
            )
            found = calibration.fit(*_among(*judged, len(names)), [], num_views)
        else:
            note(
                f"Note: probabilities are not calibrated, since the clips of {run.folder} are not at hand: give --data."
            )
    return Predictor((run,), device, found, sentences, num_views, batch_size, None, profile, tuple(chosen), chooser)


def _with_store(folder: Path, store: Path | None, work: Callable[[Path, SkeletonStore | None], T]) -> T:
    """What `work` makes of a run folder and the opened store, where one is given."""
    with ExitStack() as stack:
        return work(folder, None if store is None else stack.enter_context(SkeletonStore(store)))


def _calibrate(
    loaded: Sequence[Run],
    networks: Sequence[str],
    num_views: int,
    store: Path | None,
    device: torch.device,
    batch_size: int,
    note: Callable[[str], None],
    kinematics: discriminant.KinematicDiscriminant | None,
    trained: Sequence[Candidate] | None = None,
    among: int = 0,
) -> Calibration | None:
    """Fit a calibration on the clips that all runs held out, and keep it; None where they are not at hand.

    With `trained`, the trained classes with their texts, for choosing among others: then each clip is told from
    `among` - 1 other trained classes by these, and nothing is kept.
    """
    folders = [run.folder for run in loaded]
    with ExitStack() as stack:
        try:
            stores = [open_run(folder, store, device, stack, lambda text: None)[1] for folder in folders]
            clips = [held_out_clips(run, of) for run, of in zip(loaded, stores, strict=True)]
            check_same_clips(folders, clips)
        except SkagError:
            note(
                f"Note: probabilities are not calibrated, since no clips held out by {' and '.join(map(str, folders))} "
                "are at hand; give the store of the training with --data."
            )
            return None
        note(f"Calibrating on {len(clips[0].names)} clips held out from training.")
        predictions = [
            predict_clips(run, of, held_out, device, batch_size, num_views, trained).probabilities
            for run, of, held_out in zip(loaded, stores, clips, strict=True)
        ]
        labels, opinion = clips[0].labels, None
        if kinematics is not None:
            opinion = kinematics.probabilities(stores[0], clips[0].numbers, stores[0].layout)
    weights = [stream_weight(run.config.data.stream) for run in loaded]
    together = predictions[0] if len(predictions) == 1 else metrics.fuse(predictions, weights)
    if opinion is not None:
        together = discriminant.multiply(together, opinion)
    if trained is not None:
        return calibration.fit(*_among(labels, together, among), networks, num_views)
    found = calibration.fit(labels, together, networks, num_views)
    try:
        calibration.save(folders[0], found)
    except OSError as error:
        note(f"Note: the calibration cannot be kept in {folders[0]} ({error.strerror}); it is fitted anew next time.")
    return found


def _among(labels: np.ndarray, probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities `[n, count]`) of clips that are told from `count` - 1 other classes drawn for each: they
    are then as sure as among so many candidates."""
    n, K = probabilities.shape
    if count >= K:
        return labels, probabilities
    order = np.random.default_rng(0).random((n, K))
    order[np.arange(n), labels] = -1
    chosen = np.argsort(order, axis=1)[:, :count]
    part = np.take_along_axis(probabilities, chosen, axis=1)
    return np.zeros(n, np.int64), part / part.sum(1, keepdims=True)
