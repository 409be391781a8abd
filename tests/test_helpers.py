"""How the tests hang together: what several of them share lies in `tests/helpers` or is a fixture of `conftest.py`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .helpers.recordings import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("*.py"))


def imported(path: Path, root: Path = TESTS) -> set[str]:
    """Files of the tests that a file imports anywhere in it, as dotted names below `tests`."""
    package = ("tests", *path.relative_to(root).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "tests" and root.joinpath(*parts[1:]).with_suffix(".py").is_file():
                found.add(".".join(parts[1:]))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_nothing_imports_a_test_file_or_the_fixtures(path: Path) -> None:
    names = imported(path)
    assert not {name for name in names if name.split(".")[-1].startswith(("test_", "conftest"))}
    if path.parent.name == "helpers":
        assert all(name.startswith("helpers.") for name in names)


def test_every_way_to_import_a_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("test_a.py", "conftest.py", "deep/test_b.py"):
        (tmp_path / name).touch()
    ways = {
        "from .test_a import one": {"test_a"},
        "from . import test_a, conftest": {"test_a", "conftest"},
        "from tests.test_a import one": {"test_a"},
        "from tests import test_a": {"test_a"},
        "import tests.test_a as other": {"test_a"},
        "def f():\n    from .conftest import one": {"conftest"},
        "from .deep.test_b import one": {"deep.test_b"},
        "from .test_gone import one\nimport skag, json": set(),
    }
    for text, wanted in ways.items():
        (tmp_path / "it.py").write_text(text)
        assert imported(tmp_path / "it.py", tmp_path) == wanted, text
    (tmp_path / "deep" / "it.py").write_text("from ..test_a import one\nfrom .test_b import two")
    assert imported(tmp_path / "deep" / "it.py", tmp_path) == {"test_a", "deep.test_b"}
