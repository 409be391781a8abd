"""Commands run in this process: what they print, and how they fail."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from skag.cli import app, main

HEAVY = ("torch", "h5py", "numpy", "open_clip", "ollama", "openai", "matplotlib", "sklearn")


def invoke(*arguments: object) -> str:
    """Run a command that must succeed; its standard output."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def document(*arguments: object) -> dict:
    return json.loads(invoke(*arguments, "--json", "--quiet"))


def failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str]:
    """Exit code and the error line of a command that must fail, as `skag` itself prints it."""
    monkeypatch.setattr(sys, "argv", ["skag", *(str(argument) for argument in arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    return int(caught.value.code), printed
