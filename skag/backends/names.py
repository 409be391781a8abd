"""Names of language models, as `--llm` takes them: the one place where they are taken apart and put together.

measured        no language model: measured from the training clips
file:NAME       what a person has written down; NAME is skag's name for it, or a path
imported/NAME   a dialogue that was brought in; answers no questions
PROVIDER/MODEL  a model on a server
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MEASURED, FILE, IMPORTED = "measured", "file", "imported"


@dataclass(frozen=True)
class LanguageModel:
    """A name taken apart. Whether there is such a provider or model is another question: `open_backend` says."""

    spec: str  # as it was given
    provider: str  # what stands before the mark: measured, file, imported, ollama, ...
    model: str = ""  # what stands after it; can hold further slashes

    @classmethod
    def parse(cls, spec: str) -> LanguageModel:
        provider, _, model = spec.partition(":" if spec.startswith(f"{FILE}:") else "/")
        return cls(spec, provider, model)

    @classmethod
    def of(cls, identity: dict[str, Any]) -> LanguageModel:
        """Whose a backend's identity is."""
        parts = [str(identity[name]) for name in ("backend", "model") if name in identity]
        return cls.parse((":" if parts[:1] == [FILE] else "/").join(parts))

    @property
    def identity(self) -> dict[str, str]:
        """What every identity of this name has: the inverse of `of`."""
        return {"backend": self.provider} | ({"model": self.model} if self.model else {})

    @property
    def is_measured(self) -> bool:
        return self.spec == MEASURED

    @property
    def is_file(self) -> bool:
        return self.spec.startswith(f"{FILE}:")

    @property
    def is_imported(self) -> bool:
        """Whether it answers no questions, and is used as it was brought in."""
        return self.provider == IMPORTED and self.model != ""

    @property
    def is_server(self) -> bool:
        """Whether it is asked over a network, and found in a store by its name alone."""
        return self.model != "" and not (self.is_file or self.is_imported)

    def __str__(self) -> str:
        return self.spec
