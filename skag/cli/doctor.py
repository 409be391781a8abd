"""`skag doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .app import app
from .options import JsonOption, QuietOption
from .output import Output


@app.command(epilog="Example: skag doctor")
def doctor(
    network: Annotated[
        bool, typer.Option("--network", help="Also try what is not on this machine: the hub, a remote Ollama.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Tell what is installed and reachable.

    And what to do about the rest: Python and packages, device, memory, threads, Ollama and its models, which API
    keys are set, text encoders and their weights, caches, disk. Reads no secret and writes nothing. What is
    "missing" is optional; exit code 1 where something is "wrong".
    """
    from ..doctor import examine

    output = Output(as_json, quiet)
    findings = examine(network)
    output.table(
        "What skag finds here",
        ["", "", "found, and what to do"],
        [
            [finding.name, finding.state, "\n".join(filter(None, (finding.found, finding.advice)))]
            for finding in findings
        ],
    )
    wrong = sum(finding.state == "wrong" for finding in findings)
    output.document({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
    if wrong:
        raise typer.Exit(1)
