"""The documents are true: their commands run, their links lead somewhere, the options they name exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from .helpers import command_pages
from .helpers.commands import invoke
from .helpers.recordings import ROOT

DOCS = sorted((ROOT / "docs").rglob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.long
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """From its CSV to the exported graph, with one epoch of a small network."""
    pytest.importorskip("onnxruntime", reason="the extra skag[onnx] is not installed")
    pytest.importorskip("onnxscript", reason="the extra skag[onnx] is not installed")
    monkeypatch.chdir(tmp_path)
    make_csv, use_graph = blocks("tutorial.md", "python")
    exec(compile(make_csv.replace("repetitions=3", "repetitions=1"), "tutorial.md", "exec"), {})
    header = (tmp_path / "recordings.csv").read_text()[:300]
    assert header.startswith(blocks("tutorial.md", "")[0].splitlines()[0].rstrip("."))
    commands = [line.removeprefix("$ ") for block in blocks("tutorial.md", "console") for line in block.splitlines()]
    assert len(commands) >= 9 and all(command.startswith("skag ") for command in commands)
    for command in commands:
        arguments = shlex.split(command)[1:]
        if arguments[0] == "train":
            arguments[arguments.index("--epochs") + 1] = "1"
            arguments += ["--set", "network.channels=16,16", "--set", "network.strides=2,2"]
        invoke(*arguments)
    for made in ("sit.html", "runs/j/best.pt", "runs/b/predictions-subject_test.npz", "runs/j/analysis.json"):
        assert Path(made).is_file(), made
    capsys.readouterr()
    exec(compile(use_graph, "tutorial.md", "exec"), {})
    assert capsys.readouterr().out.strip() in (tmp_path / "recordings.csv").read_text()


def test_links_lead_somewhere() -> None:
    for page in [*DOCS, ROOT / "README.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if re.match(r"https?:", target):
                continue
            name, _, anchor = target.partition("#")
            path = page if not name else page.parent / name
            assert path.exists(), f"{page.name} links to {target}"
            if anchor and path.suffix == ".md":
                titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
                assert anchor in anchors, f"{page.name} links to {target}"


OTHERS_OPTIONS = (
    r"--(nproc-per-node|nnodes|rdzv-[a-z]+|ntasks-per-node|gpus|gpus-per-node|array|nodes|wrap|cpus-per-task)\b"
    r"|--no-deps|--pred-out-dir|--write_json|--install-completion"  # the last is typer's, hidden
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *(ROOT / "prompts").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_options_commands_and_files_that_are_named_exist(page: Path) -> None:
    pages = command_pages.pages()
    help_texts = "\n".join(pages.values())
    text = re.sub(OTHERS_OPTIONS, "", page.read_text(encoding="utf-8"))
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)):
        assert re.search(rf"{option}(?![\w-])", help_texts), option
    for command in set(re.findall(r"`skag ([a-z][a-z-]*)", text)):
        assert f"{command}.md" in pages, command
    for path in set(re.findall(r"(?:skag|benchmarks|tests|docs|prompts)/[\w./*-]*[\w/*]", text)):
        assert list(ROOT.glob(path)), path
