"""Language models behind one small interface.

    ollama/MODEL          a model on an Ollama server            (OLLAMA_HOST or --base-url)
    openai/MODEL          a model behind any OpenAI-compatible address   (OPENAI_API_KEY, OPENAI_BASE_URL or --base-url)
    local/NAME            a base model inside this process (`skag.backends.local`)
    PROVIDER/MODEL        the same with the address, key and peculiarities of `providers.PROVIDERS`
    file:KNOWLEDGE.toml   what a person has written down (`skag.backends.knowledge`)
    measured              no language model: answers measured from the training clips (`skag.backends.measured`)

Whatever a server does or says, a backend returns an `Answer` or raises a `BackendError` of one line. The clients'
own packages are imported when a backend is first used.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import BackendError
from .base import TIMEOUT, Answer, Backend, BackendDown, Message, Patience, Price, Topic
from .names import LanguageModel
from .ollama_server import OllamaBackend
from .openai_server import OpenAIBackend
from .providers import PROVIDERS

if TYPE_CHECKING:
    from ..skeleton.layouts import Layout
    from ..skeleton.store import SkeletonStore

__all__ = [
    "Answer", "Backend", "BackendDown", "Message", "OllamaBackend", "OpenAIBackend", "Patience", "Price", "Topic",
    "holds_exactly", "open_backend", "open_fallback", "pull_model", "takes_schema",
]  # fmt: skip


def open_backend(
    spec: str,
    *,
    store: SkeletonStore | None = None,
    protocol: str | None = None,
    names: Sequence[str] | None = None,
    layout: Layout | None = None,
    base_url: str | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    think: bool = False,
    timeout: float = TIMEOUT,
    price: Price | None = None,
    tell: Callable[[str], None] | None = None,
    device: str = "auto",
) -> Backend:
    """The backend of `--llm SPEC`. Raises `BackendError` for a spec that is none, or an option it does not take.

    `store` and `protocol` are what `measured` measures; a knowledge file is checked against classes and layout of
    the `store`, or against `names` and `layout`; `device` is where `local` computes; the others are for servers. An
    option that is not given is not sent. `tell` is told of long waits, from any thread.
    """
    llm = LanguageModel.parse(spec)
    name, model = llm.provider, llm.model
    options = {key: value for key, value in (("seed", seed), ("temperature", temperature)) if value is not None}
    if llm.is_measured:
        if store is None:
            raise BackendError(
                "measured answers from recordings, and classes without clips have none: name a skeleton store, or "
                "another --llm."
            )
        from .measured import MeasuredBackend

        return MeasuredBackend(store, store.protocol(protocol)[0])
    if llm.is_file:
        if store is not None:
            names, layout = names or store.classes, layout or store.layout
        if names is None or layout is None:
            raise BackendError(f"{spec} is checked against classes and joints: name a skeleton store.")
        from .knowledge import FileBackend

        return FileBackend(model, names, layout)
    if llm.is_imported:
        raise BackendError(f"{spec} answers no questions: `skag train DATA.h5 --llm {spec}` uses it as it is.")
    if model and name == "ollama":
        return OllamaBackend(model, base_url, options, think, price, Patience(timeout, tell=tell))
    if model and name == "local":
        if base_url is not None:
            raise BackendError(f"{spec} is inside this process and has no address: leave --base-url out.")
        from .local import LocalBackend

        return LocalBackend(model, options, think, price, tell, device)
    if model and name in PROVIDERS:
        if not_taken := sorted(PROVIDERS[name].lacks & set(options)):
            raise BackendError(f"{name} takes no {not_taken[0]}: leave --{not_taken[0]} out.")
        if think and PROVIDERS[name].thinking is None:
            raise BackendError(f"skag knows no switch for the thoughts of {name}'s models: leave --think out.")
        return OpenAIBackend(model, base_url, options, think, name, price, Patience(timeout, tell=tell))
    raise BackendError(f"no backend {spec!r}: {_meant(name, model)}")


def _meant(name: str, model: str) -> str:
    """The next step after a `--llm` that names no backend."""
    providers = ("ollama", *PROVIDERS, "local")
    if not model and name.casefold() in providers:
        return f"name a model too, {name.casefold()}/MODEL."
    if near := difflib.get_close_matches(name.casefold(), providers if model else ["measured"], 1):
        return f"did you mean {near[0]}{model and f'/{model}'}?"
    known = ", ".join(f"{provider}/MODEL" for provider in providers)
    return f"write measured, file:KNOWLEDGE.toml, or one of {known}."


def open_fallback(
    spec: str | None,
    llm: str,
    *,
    store: SkeletonStore | None = None,
    protocol: str | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    timeout: float = TIMEOUT,
    tell: Callable[[str], None] | None = None,
) -> Backend | None:
    """The backend of `--fallback SPEC`, None without one. It is sent those of the options that it takes."""
    if spec is None:
        return None
    if spec == llm:
        raise BackendError(f"--fallback names the same model as --llm, {spec}: name another one, or none.")
    preset = PROVIDERS.get(LanguageModel.parse(spec).provider)
    if preset is not None and "seed" in preset.lacks:
        seed = None
    return open_backend(
        spec, store=store, protocol=protocol, seed=seed, temperature=temperature, timeout=timeout, tell=tell
    )


def pull_model(backend: Backend, progress: Callable[[int, int | None], None]) -> bool:
    """Have an Ollama server fetch the backend's model where it lacks it; whether it did. Raises `BackendError`."""
    if not isinstance(backend, OllamaBackend):
        raise BackendError(f"--pull fetches models for Ollama, and {backend.spec} is none: leave it out.")
    return backend.pull(progress)


def takes_schema(identity: dict) -> bool:
    """Whether a JSON schema is sent to the backend of this identity; others would ignore or refuse it."""
    name = identity.get("backend")
    return name in ("ollama", "local") or (name in PROVIDERS and "schema" not in PROVIDERS[name].lacks)


def holds_exactly(identity: dict) -> bool:
    """Whether the backend of this identity holds a model to every keyword of a schema while it writes."""
    return identity.get("backend") == "local"
