"""The embedded stand-in for a language model: answers all questions from the training clips themselves.

Every clip becomes a few dozen kinematic features that depend neither on the camera's heading nor on the body's size:
how far and how fast each joint moves, whether it ends higher or lower, comes forward or goes back, how high it gets
against the body, how close to the head. Means and spreads per class give the sentences and the critical joints;
standardised differences between classes give what is worth saying. It needs no server, and it is the baseline that a
language model has to beat.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ..errors import BackendError
from .class_statistics import measure
from .wording import Teller

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..skeleton.store import SkeletonStore
    from .base import Answer, Message, Topic


class MeasuredBackend:
    """Answers every question about a class from the clips of one split; see the module's docstring.

    It looks at what a question is about, not at its wording. At most `CLIPS_PER_CLASS` clips per class are read,
    evenly chosen, on the first question. Safe to ask from several threads.
    """

    spec = "measured"

    def __init__(self, store: SkeletonStore, train_split: str) -> None:
        if train_split not in store.splits:
            known = ", ".join(store.splits) or "none"
            raise BackendError(f"{store.path} has no split {train_split!r} to measure: it has {known}.")
        self._store, self._split = store, train_split
        self._lock = threading.Lock()
        self._teller: Teller | None = None
        self.progress: Callable[[int, int], None] | None = None  # told of classes, done and in all, while it measures

    def identity(self) -> dict:
        """What shapes the answers: the recordings, the split, and the classes where others of it are left out."""
        found = {"backend": "measured", "version": 1, "data": self._store.fingerprint, "split": self._split}
        if self._split not in self._store.cut_splits:
            return found
        return found | {"data": self._store.content, "classes": self._store.classes}

    @property
    def teller(self) -> Teller:
        with self._lock:
            if self._teller is None:
                self._teller = Teller(measure(self._store, self._split, self.progress), self._store.classes)
            return self._teller

    def ask(self, messages: list[Message], topic: Topic, schema: dict | None = None) -> Answer:
        """Answer what `topic` asks for. Raises `BackendError` for a class without clips and for what no clip says."""
        from .base import Answer

        started = time.perf_counter()
        teller = self.teller
        classes, one = self._store.classes, topic.class_index  # which counts those that are asked about
        one = classes.index(topic.class_name) if topic.class_name and topic.class_name in classes else one
        clips = teller.statistics.clips
        if not 0 <= one < len(clips) or not clips[one]:
            raise BackendError(
                f"class {topic.class_name!r} has no usable clip in split {self._split!r}, so that nothing can be "
                "measured: add recordings of it, or describe the classes with a language model."
            )
        similar = [other for other in topic.similar if other != one and 0 <= other < len(clips) and clips[other]]
        says = {
            "overview": teller.overview,
            "body_parts": teller.body_parts,
            "joint_numbers": teller.joint_numbers,
            "joint_movements": teller.joint_movements,
            "key_features": teller.key_features,
            "distinction": lambda one: teller.distinction(one, similar or teller.statistics.nearest(one, 3)),
        }
        if topic.kind not in says:
            raise BackendError(f"measured cannot answer round {topic.round}, {topic.kind}: ask a language model.")
        text = says[topic.kind](one)
        return Answer(text, seconds=time.perf_counter() - started, details={"clips": int(clips[one])})
