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
from ..plural import counted
from ..readers.archives import printable
from ..readers.source import Unusable
from ..skeleton import clips as data
from ..skeleton.layouts import Layout
from ..skeleton.profile import compare, shows_no_action
from ..skeleton.store import Clip, SkeletonStore
from . import calibration, discriminant
from .calibration import Calibration
from .candidates import check_answers, make_candidates, said_of, without_descriptions
from .evidence import AT_ONCE, MAX_BATCH_FRAMES, Evidence, by_gradient, by_removal, look, part_of
from .familiarity import profile_of_run
from .fusion import stream_weight
from .loaded import Run, check_same_clips, held_out_clips, load_run, open_run
from .opinions import Chooser, held_out_opinions, open_chooser
from .recordings import Failure, InputRecording, cleaned, of_array
from .scores import predict_clips, probabilities

T = TypeVar("T")
NONE_OF_THESE = "none of these"


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

    def in_time(self, clip: Clip, frame_rate: float | None) -> Clip:
        """A recording of so many frames a second. Raises `Unusable` where that is not known and a run needs it."""
        if frame_rate is None and any(run.config.data.timing != "none" for run in self.runs):
            raise Unusable("does not say its frames per second, which the run needs (data.timing): give --fps")
        return replace(clip, frame_rate=frame_rate)

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
        with torch.no_grad():
            found = [each.cpu().numpy() for each in self.each_run(prepared)]
        return self.together(found, opinion)

    def each_run(self, prepared: Sequence[data.Clips]) -> list[torch.Tensor]:
        """Each run's own probabilities `[N, K]` of prepared recordings."""
        return [
            probabilities(run.classifier, clips, run.config.data, self.batch_size, self.num_views, self.candidates)
            for run, clips in zip(self.runs, prepared, strict=True)
        ]

    def together(self, found: Sequence[np.ndarray], opinion: np.ndarray | None) -> np.ndarray:
        """The runs' probabilities fused, and multiplied with the `opinion`."""
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
        self, clips: Sequence[Clip], *, abstain: float | None = None, evidence: bool = True, every_joint: bool = False
    ) -> Iterator[Prediction]:
        """A prediction of every recording, in order; the recordings are cleaned (`recordings.cleaned`).

        `abstain` is the rate of `Calibration.threshold`. The `evidence` costs as much as about four looks at a
        recording; with `every_joint`, or where a method has no gradient, about as many as it has joints. Raises
        `RunError` as `threshold` does.
        """
        threshold = self.threshold(abstain)
        if not len(clips):
            return
        prepared, opinion, effects = self.prepare(clips), self.opinion(clips), None
        if evidence and not every_joint:
            uncalibrated, effects = look(self, prepared, opinion)
        else:
            uncalibrated = self.uncalibrated(prepared, opinion)
        calibrated = self.calibrated(uncalibrated)
        told = self.told(prepared[0], uncalibrated.argmax(1))
        for start in range(0, len(clips), AT_ONCE):
            reasons: Sequence[Evidence | None] = [None] * AT_ONCE
            some = slice(start, start + AT_ONCE)
            if evidence:
                part = [part_of(batch, some.start, some.stop) for batch in prepared]
                own = None if opinion is None else opinion[some]
                reasons = self.evidence(part, calibrated[some], None if effects is None else effects[some], own)
            for n, reason in zip(range(len(clips))[some], reasons, strict=False):
                name = self.classes[int(calibrated[n].argmax())]
                yield Prediction(
                    classes=self.classes,
                    probabilities=calibrated[n],
                    uncalibrated=uncalibrated[n],
                    threshold=threshold,
                    sentence=told[n] or self.sentences.get(name),
                    evidence=reason,
                    odd=tuple(compare(self.profile, clips[n], self.layout)) if self.profile else (),
                    no_action=shows_no_action(clips[n], self.layout),
                )

    def evidence(
        self,
        prepared: Sequence[data.Clips],
        calibrated: np.ndarray,
        effects: np.ndarray | None = None,
        opinion: np.ndarray | None = None,
    ) -> list[Evidence]:
        """Which joints carried the decision on each of a few prepared recordings with `calibrated` probabilities `[N,
        K]`: the network's, with the `opinion` `[N, K]` of measured motion as it is. `effects` `[N, V]` are those of
        `evidence.look`; without them, and where they overflow, each joint alone is held still."""
        if effects is not None and np.isfinite(effects).all():
            return by_gradient(self, prepared, calibrated, effects, opinion)
        return [
            by_removal(
                self,
                [part_of(clips, n, n + 1) for clips in prepared],
                calibrated[n],
                None if opinion is None else opinion[n : n + 1],
            )
            for n in range(len(calibrated))
        ]

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


def predict_recordings(
    predictor: Predictor,
    items: Iterable[InputRecording | Failure],
    *,
    abstain: float | None = None,
    evidence: bool = True,
    every_joint: bool = False,
    frame_rate: float | None = None,
) -> Iterator[Predicted | Failure]:
    """Predict recordings as they come (`recordings.each_recording`), a batch of them in memory at a time; the results
    are in their order. `frame_rate` takes the place of what formats say, the other arguments and errors are those of
    `Predictor.predict`."""
    predictor.threshold(abstain)  # before anything is read
    batch: list[InputRecording] = []

    def predicted() -> Iterator[Predicted | Failure]:
        clips = [item.clip for item in batch]
        found = predictor.predict(clips, abstain=abstain, evidence=evidence, every_joint=every_joint)
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
                clip = cleaned(item.clip, predictor.layout)
                item = replace(item, clip=predictor.in_time(clip, frame_rate or item.frame_rate))
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
    every_joint: bool = False,
    frame_rate: float | None = None,
) -> Prediction:
    """Predict one recording, see `recogniser.TrainedRecogniser.predict`. Raises `DataError` and `RunError`."""
    item = InputRecording(Path(), of_array(keypoints, confidence, predictor.layout), frame_rate)
    found = next(predict_recordings(predictor, [item], abstain=abstain, evidence=evidence, every_joint=every_joint))
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
        note(f"Calibrating on {counted(len(clips[0].names), 'clip')} held out from training.")
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
