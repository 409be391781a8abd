"""Who speaks the OpenAI protocol, where, and with which peculiarities.

Addresses, names of environment variables and peculiarities are those of the providers' own pages (November 2026).
A peculiarity that depends on the model, such as a temperature that GPT-5 and newer Claude models refuse, is not
kept here: the server says so, and its words are passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Provider:
    """A preset of `--llm PROVIDER/MODEL`."""

    address: str
    key: str  # environment variable of the API key
    lacks: frozenset[str] = frozenset()  # of "seed" and "schema": ignored or refused there, so not sent
    thinking: Callable[[bool], dict[str, Any]] | None = None  # the switch in the request's body, where there is one
    limit: bool = False  # send a limit of tokens: small models can go on for ever, and GPT-5 and others refuse one
    one_model: bool = False  # serves one model, under whatever name it is asked for


def _template_switch(on: bool) -> dict[str, Any]:
    """What chat templates of Qwen3 and its like look at; others look at nothing."""
    return {"chat_template_kwargs": {"enable_thinking": on}}


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "deepseek": Provider(
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        lacks=frozenset({"seed", "schema"}),
        thinking=lambda on: {"thinking": {"type": "enabled" if on else "disabled"}},
    ),
    "qwen": Provider(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        thinking=lambda on: {"enable_thinking": on},
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai/", "GEMINI_API_KEY", lacks=frozenset({"seed"})
    ),
    "claude": Provider("https://api.anthropic.com/v1/", "ANTHROPIC_API_KEY", lacks=frozenset({"seed", "schema"})),
    "vllm": Provider("http://localhost:8000/v1", "VLLM_API_KEY", thinking=_template_switch, limit=True),
    "llama.cpp": Provider(
        "http://localhost:8080/v1", "LLAMA_API_KEY", thinking=_template_switch, limit=True, one_model=True
    ),
    "lmstudio": Provider("http://localhost:1234/v1", "LM_API_TOKEN", limit=True),
}
