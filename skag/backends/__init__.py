"""Language models behind one small interface.

    ollama/MODEL    a model on an Ollama server            (OLLAMA_HOST or --base-url)
    openai/MODEL    a model behind any OpenAI-compatible address   (OPENAI_API_KEY, OPENAI_BASE_URL or --base-url)
    file:KNOWLEDGE.toml   what a person has written down (`skag.knowledge`)
    measured        no language model: answers measured from the training clips (`skag.measured`)

Whatever a server does or says, a backend returns an `Answer` or raises a `BackendError` of one line. The clients'
own packages are imported when a backend is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BackendError
from .base import TIMEOUT, Answer, Backend, BackendDown, Message, Topic
from .ollama_server import OllamaBackend
from .openai_server import OpenAIBackend

if TYPE_CHECKING:
    from ..store import SkeletonStore

__all__ = ["Answer", "Backend", "BackendDown", "Message", "OllamaBackend", "OpenAIBackend", "Topic", "open_backend"]


def open_backend(
    spec: str,
    *,
    store: SkeletonStore | None = None,
    protocol: str | None = None,
    base_url: str | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    timeout: float = TIMEOUT,
) -> Backend:
    """The backend of `--llm SPEC`. Raises `BackendError` for a spec that is none.

    `store` and `protocol` are what `measured` measures; the others are for servers. An option that is not given is
    not sent.
    """
    name, _, model = spec.partition("/")
    options = {key: value for key, value in (("seed", seed), ("temperature", temperature)) if value is not None}
    if spec == "measured":
        if store is None:
            raise BackendError("measured answers from recordings: name a skeleton store.")
        from ..measured import MeasuredBackend

        return MeasuredBackend(store, store.protocol(protocol)[0])
    if spec.startswith("file:"):
        if store is None:
            raise BackendError(f"{spec} is checked against recordings: name a skeleton store.")
        from ..knowledge import FileBackend

        return FileBackend(spec.removeprefix("file:"), store.classes, store.layout)
    if model and name == "imported":
        raise BackendError(f"{spec} answers no questions: `skag train DATA.h5 --llm {spec}` uses it as it is.")
    if model and name == "ollama":
        return OllamaBackend(model, base_url, options, timeout)
    if model and name == "openai":
        return OpenAIBackend(model, base_url, options, timeout)
    raise BackendError(f"no backend {spec!r}: write ollama/MODEL, openai/MODEL, file:KNOWLEDGE.toml or measured.")
