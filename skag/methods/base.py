"""What a method is to the rest of skag: the few protocols that training, evaluation, analysis and ablation rest on.

A method is a folder whose `__init__.py` offers what `Method` names. It trains in one or more stages, each a `Task` of
the loop (`training.loop`); what was trained is used as a `Classifier`; what language says of the classes is its
`Knowledge`; what `skag analyze-confusion` shows beyond accuracies are its `Findings`.

Letters of this file: N clips, M bodies, T frames, V joints, C coordinates, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from ..config import Config, StreamName, TrainConfig

if TYPE_CHECKING:  # torch takes a second to import, and configurations and recipes need none of it
    import numpy as np
    import torch
    from torch import Tensor, nn

    from ..dialogue.interview import Question
    from ..dialogue.script import Script
    from ..inference.loaded import Run
    from ..inference.scores import Predictions
    from ..results.analysis import Pair
    from ..results.drawing import View
    from ..results.report import Texts
    from ..skeleton.clips import Clips
    from ..skeleton.layouts import Layout
    from ..skeleton.store import SkeletonStore
    from ..training.batches import Batch

Note = Callable[[str], None]


# ---------------------------------------------------------------- what is known before training


@dataclass(frozen=True)
class Card:
    """A recipe: what makes its configuration, by stream, and what the list of recipes says of it."""

    make: Callable[[StreamName], Config]
    data: str
    layout: str
    classes: int
    trained_on: str = "GPU"  # what it is made for; "CPU" means two cores
    layout_fixed: bool = False  # published: of no use for another layout
    accuracy: Mapping[str, float] = field(default_factory=dict)  # published top-1, by stream or number of streams


@dataclass(frozen=True)
class Row:
    """One line of a table of `skag ablate`: what is changed of the recipe."""

    name: str
    meaning: str
    changes: tuple[str, ...] = ()  # FIELD=VALUE, as `--set` takes them; `{epochs}` is the recipe's number of epochs
    asks_again: bool = True  # False: nothing is asked while it trains, and no imported answer of that kind used
    shuffled: bool = False  # control: every class is given another class's knowledge


@dataclass(frozen=True)
class KnowledgeSource:
    """Where the knowledge of a run comes from: who answers, through which dialogue store, and what embeds sentences.

    A run keeps what `to_record` gives; addresses and patience are of one machine and one day, and are not kept.
    """

    dialogues: Path
    llm: str | None = None  # None: whoever described the classes last
    fallback: str | None = None  # who answers what that one refuses
    prompts: Path | None = None  # None: skag's own
    text_weights: Path | None = None
    offline: bool = False  # the store alone answers
    asks_again: bool = True  # False: nothing is asked while it trains, nor is an imported answer of that kind used
    shuffled: bool = False  # control: every class is given another class's knowledge
    repeat: Path | None = None  # a run whose knowledge is given again, as it was and when it was
    base_url: str | None = None
    timeout: float = 600.0
    jobs: int = 4
    progress: Callable[[str, int, int], None] | None = None  # (what is done, how far, of how much) before training

    _KEPT: ClassVar[tuple[str, ...]] = ("llm", "dialogues", "prompts", "fallback", "text_weights", "offline")
    _SELDOM: ClassVar[tuple[str, ...]] = ("asks_again", "shuffled", "repeat")  # kept where they are not as usual

    def to_record(self) -> dict[str, Any]:
        """Plain values for config.json, paths as absolute ones."""
        values = {name: getattr(self, name) for name in self._KEPT}
        values |= {
            name: getattr(self, name) for name in self._SELDOM if getattr(self, name) != getattr(type(self), name)
        }
        return {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in values.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], dialogues: Path) -> KnowledgeSource:
        """The inverse of `to_record`; `dialogues` is taken where an earlier version noted none."""
        known = {name: record[name] for name in (*cls._KEPT, *cls._SELDOM) if record.get(name) is not None}
        paths = {
            name: Path(known[name]) for name in ("dialogues", "prompts", "text_weights", "repeat") if name in known
        }
        return cls(**({"dialogues": dialogues} | known | paths))


class Knowledge(Protocol):
    """What language says of the classes of one run. Without any it is not `active`."""

    @property
    def active(self) -> bool: ...
    @property
    def llm(self) -> str: ...  # who said it, as `--llm` takes it
    @property
    def missing(self) -> Sequence[Question]: ...  # offline: what the store did not answer
    def begin_run(self, run: Path) -> None: ...  # write down what a new run begins with
    @property
    def snapshot(self) -> dict[str, Any]: ...  # what is trained with, for processes that do not lead
    def use_snapshot(self, snapshot: dict[str, Any]) -> None: ...
    def most_questions(self, epochs: int) -> tuple[int, int]: ...  # (refreshes, classes) that training can ask about


# ---------------------------------------------------------------- training


@dataclass(frozen=True)
class Facts:
    """What a stage is trained on: one process's view."""

    classes: tuple[str, ...]
    layout: Layout
    run: Path  # the run folder
    training: Clips
    validation: Clips  # of the clips that choose the epoch, this process's part
    validation_labels: np.ndarray  # int64 [n], of all of them
    validation_numbers: np.ndarray  # of this process's part, in the skeleton store


@dataclass(frozen=True)
class Step:
    """What one batch came to."""

    loss: Tensor  # to be differentiated; of a batch in parts the last one's, the others' gradients are there already
    terms: Mapping[
        str, Tensor
    ]  # of the metrics, detached means over this process's `count` clips; losses are "loss..."
    count: int


@dataclass(frozen=True)
class Validation:
    """What an epoch came to on the clips that choose it."""

    metrics: Mapping[str, float]
    score: float  # the higher the better
    clips: int | None  # `score` is a percentage of so many clips; None: it is another measure, without an error


class Watcher(Protocol):
    """Who is told how training goes: the terminal, or nobody."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None: ...
    def step_done(self, means: Callable[[], dict[str, float]]) -> None: ...  # of the epoch so far; waits for the device
    def epoch_done(self, metrics: dict[str, Any]) -> None: ...
    def asking(self, epoch: int, classes: int) -> None: ...  # the answers of a refresh are waited for in the background
    def refreshed(self, record: dict[str, Any]) -> None: ...
    def noted(self, text: str) -> None: ...  # what a person should know at once


class Task(Protocol):
    """One stage of training, as the loop sees it. Of several processes each has one, and its methods run in all."""

    @property
    def settings(self) -> TrainConfig: ...
    @property
    def model(self) -> nn.Module: ...  # what is trained and kept
    @property
    def trained(self) -> Sequence[Mapping[str, Any]]: ...  # parameter groups for the optimiser
    def begin_epoch(self, epoch: int, network: nn.Module) -> None: ...
    def step(self, batch: Batch, generator: torch.Generator) -> Step: ...
    def validate(self, network: nn.Module) -> Validation: ...  # of `model`, or of its averaged weights
    def end_epoch(self, epoch: int, network: nn.Module, watcher: Watcher) -> None: ...  # after its metrics are written
    def state(self) -> dict[str, Any]: ...  # plain values and tensors: what `restore` needs, beside the model's weights
    def restore(self, state: Mapping[str, Any] | None, epoch: int) -> None: ...  # to go on after `epoch`; None: from 0
    def report(self) -> dict[str, Any]: ...  # for the report of the training


# ---------------------------------------------------------------- what was trained


@dataclass(frozen=True)
class Candidate:
    """A class that may be answered."""

    name: str
    descriptions: tuple[str, ...] = ()  # what stands for it in words, where the method needs words


class Classifier(Protocol):
    """A trained network as evaluation, fusion, calibration and prediction use it."""

    @property
    def model(self) -> nn.Module: ...
    def log_scores(self, x: Tensor, candidates: Sequence[Candidate] | None = None) -> Tensor:
        """Clips `x` `[N, M, T, V, C]` of the run's stream to log-probabilities of the candidates `[N, K]`, up to a
        number per clip; of the classes that were trained, in their order, where none are given. Raises `RunError` for
        a candidate that the method cannot answer.

        A method that compares what descriptions say, rather than names, has an attribute `reads_descriptions` that is
        true: it is then given what the dialogue says of a class. One that is no graph of tensors says why in
        `not_exportable`.

        A method to whose runs `skag add` can add classes also has `embed(x)`: where its network puts clips, `[N, D]`,
        clips of one class near one another by cosine."""
        ...


@runtime_checkable
class Describer(Protocol):
    """A classifier that says more of a clip than which class it is."""

    def describe(self, x: Tensor, chosen: Sequence[int], candidates: Sequence[Candidate] | None = None) -> list[str]:
        """What it says of each of the clips `[N, M, T, V, C]`, taken for those of its classes, or of the `candidates`;
        may be empty."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """A classifier that can also draw again what it has read."""

    def reconstructed(self, x: Tensor) -> Tensor: ...  # clips `[N, M, T, V, C]` to their like


# ---------------------------------------------------------------- what was found


@dataclass(frozen=True)
class Findings:
    """What a method shows of a run beyond accuracies, in its own words."""

    document: Mapping[str, Any] = field(default_factory=dict)  # fields of analysis.json
    pairs: Sequence[Mapping[str, Any]] = ()  # one for every confused pair, in the order they were given
    page: Callable[[Texts], dict[str, Any]] = lambda texts: {}
    facts: Mapping[str, str] = field(default_factory=dict)  # what the run is, for the head of the page
    moving: Sequence[View] = ()  # skeletons that the page plays, beside clips
    missing: Sequence[str] = ()  # what could not be shown, and why
    draw: Callable[[Path, Sequence[int], int], dict[str, Path]] | None = None  # (folder, classes, seed) -> figures


class Method(Protocol):
    """What the package of a method offers. Nothing of it imports torch before it is called.

    For `train --from` it may also offer `axes(config)`: which of the network's weights lie along joints or classes, by
    the end of their names, as sizes (-1: any), "joints" and "classes"; and `published_start(path)`: a published
    checkpoint's weights as the network names them, its layout, and FIELD=VALUE for a network of its shape. For `ablate`
    it may offer `rows_left_out(config, source)`: rows that would say nothing, and why.
    """

    CONFIG: type[Config]
    RECIPES: Mapping[str, Card]
    SCRIPT: Script | None  # what it asks of a language model about the classes; None: nothing
    ROWS: Mapping[str, Row]  # of `skag ablate`, the baseline first
    REPEATABLE: tuple[str, ...]  # FIELD=VALUE: changes that make runs of one seed the same

    def stages(self, config: Any) -> tuple[str, ...]: ...

    def uses_knowledge(self, config: Any) -> bool: ...  # whether what language says takes part

    def derived(
        self, store: SkeletonStore, train_split: str, stream: StreamName, device: str
    ) -> tuple[Config, list[str]]: ...  # a configuration for any store, and a reason per choice

    def faithful(self, config: Any, to: str, dims: int) -> Config: ...  # "paper" or "release", where they differ

    def for_unseen(
        self, config: Any
    ) -> Any: ...  # what serves best where classes are asked for that nothing is seen of

    def sources(self, config: Any) -> dict[str, str]: ...  # where every value of a recipe comes from

    def import_checkpoint(
        self, path: Path, run: Path, config: Any, classes: list[str], layout: Layout
    ) -> dict[str, int]: ...  # a published checkpoint as a run folder; its classes, joints and blocks

    def open_knowledge(
        self, config: Any, store: SkeletonStore, source: KnowledgeSource, device: str, note: Note
    ) -> AbstractContextManager[Knowledge]: ...

    def without_knowledge(self, config: Any, store: SkeletonStore) -> Knowledge: ...  # of processes that do not lead

    def shape(self, config: Any, store: SkeletonStore, knowledge: Any) -> dict[str, Any]: ...  # for config.json

    def make_task(self, stage: str, config: Any, facts: Facts, knowledge: Any, device: torch.device) -> Task: ...

    def load(
        self, folder: Path, config: Any, facts: Mapping[str, Any], weights: Mapping[str, Any]
    ) -> Classifier: ...  # of config.json and best.pt

    def make_findings(
        self, run: Run, store: SkeletonStore, predictions: Predictions, pairs: Sequence[Pair], reference: Path | None
    ) -> Findings: ...

    def sentences(self, run: Run) -> dict[str, str]: ...  # what language says of the classes, as the kept epoch knew it

    def describe_others(
        self, run: Run, names: Sequence[str]
    ) -> dict[str, str]: ...  # what its dialogue store says of others
