"""Three classes described by a scripted language model."""

from __future__ import annotations

from collections.abc import Callable

from skag.backends import Answer, BackendError, Message, Topic
from skag.dialogue.describe import DescribeReport, describe
from skag.dialogue.prompts import Prompts, load_prompts
from skag.dialogue.store import DialogueStore
from skag.methods.skeleton_agent.script import SCRIPT
from skag.skeleton.layouts import load_layout

from .servers import ScriptedBackend, good_answer

CLASSES = ["pick up", "throw <b>[red]{joints}", "carry"]
LAYOUT = load_layout("kinect-v1")
PROMPTS = load_prompts(SCRIPT)


def good(topic: Topic, messages: list[Message]) -> str:
    return good_answer(topic, LAYOUT)


def scripted(**answers: str | Answer | BackendError | Callable) -> ScriptedBackend:
    """Good answers but for `round3=...`, given to every class."""

    def answer(topic: Topic, messages: list[Message]) -> str | Answer | BackendError:
        found = answers.get(f"round{topic.round}", good_answer(topic, LAYOUT))
        return found(topic, messages) if callable(found) else found

    return ScriptedBackend(answer)


def run(
    backend: ScriptedBackend, store: DialogueStore, prompts: Prompts = PROMPTS, **options: object
) -> DescribeReport:
    return describe(backend, store, CLASSES, LAYOUT, prompts, **options)
