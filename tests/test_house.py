"""The rules of the house (CONTRIBUTING.md, docs/methods.md): who may import whom, and what stays free of torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from skag.methods import METHODS

from .helpers.recordings import ROOT

PACKAGE = ROOT / "skag"
# From the ground up; a room may import its own floor and those below. What stands at the top of `skag/` is the ground,
# but for those that stand on methods.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"ground"}),
    frozenset({"skeleton", "readers", "text", "lm"}),
    frozenset({"dialogue", "backends", "encoders"}),
    frozenset({"training", "inference"}),
    frozenset({"results"}),
    frozenset({"methods"}),
    frozenset({"ablation", "doctor", "recipes_of_all"}),
    frozenset({"cli"}),
)
# What shared code knows of methods: their names, and the protocols.
KNOWN_OF_METHODS = {"skag.methods", "skag.methods.base"}
GROUND = {
    "checks", "config", "device", "errors", "hub", "metrics", "parallel", "plural", "recipes", "runs", "suggestions",
    "targets", "version", "weights",
}  # fmt: skip
TORCH_FREE = ("config", "recipes", "rows", "script", "agents", "questioner", "selector", "class_knowledge")


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of skag that a module imports, wherever it does; not those for types alone."""
    found: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{target}.{alias.name}"
                found.add(full if full in known else target)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {each for each in found if each in known and each != name}


def room(name: str) -> str:
    """The folder of a module, or what it is at the top."""
    parts = name.split(".")
    if len(parts) == 1 or parts[1] in ("__main__",):
        return "cli"
    if len(parts) == 2 and parts[1] not in {room for floor in FLOORS for room in floor}:
        return "ground" if parts[1] in GROUND else {"convert": "readers"}.get(parts[1], parts[1])
    return parts[1]


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(name) in rooms)


KNOWN = modules()
IMPORTS = {name: imports(name, path, KNOWN) for name, path in KNOWN.items()}


def test_every_module_has_a_floor() -> None:
    for name in KNOWN:
        floor(name)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_imports_run_one_way(name: str) -> None:
    """From the upper floors to the lower ones. `skag.methods` and its protocols are everybody's; `runs` and `recipes`
    are of the ground and know layouts."""
    allowed = {*KNOWN_OF_METHODS, "skag", "skag.skeleton.layouts"}
    if name in KNOWN_OF_METHODS:
        return
    upward = {other for other in IMPORTS[name] - allowed if floor(other) > floor(name)}
    assert not upward, f"{name} imports upward: {', '.join(sorted(upward))}"


def test_methods_do_not_import_one_another() -> None:
    for folder in METHODS.values():
        own = f"skag.methods.{folder}"
        others = {f"skag.methods.{other}" for other in METHODS.values()} - {own}
        for name in (name for name in KNOWN if name.startswith(own)):
            assert not {each for each in IMPORTS[name] if any(each.startswith(other) for other in others)}, name


def test_shared_code_names_no_method() -> None:
    words = {*METHODS.values(), *METHODS} - {"sugar", "llm-ar"}  # protocols are named after them too
    for name, path in KNOWN.items():
        if name.startswith("skag.methods"):
            continue
        found = [
            other for other in IMPORTS[name] if other.startswith("skag.methods.") and other not in KNOWN_OF_METHODS
        ]
        assert not found, f"{name} imports {found}"
        if name != "skag.cli.dialogues":
            text = path.read_text(encoding="utf-8")
            assert not [word for word in words if f'"{word}"' in text], name


def test_there_are_no_circles() -> None:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " imports ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(IMPORTS[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in sorted(KNOWN):
        visit(name, ())


def test_what_knows_no_torch_stays_so() -> None:
    """Configurations, recipes, questions and answers, dialogues and backends, in a process of their own."""
    wanted = [f"skag.methods.{folder}" for folder in METHODS.values()]
    wanted += [f"{method}.{name}" for method in wanted for name in TORCH_FREE if f"{method}.{name}" in KNOWN]
    wanted += [name for name in KNOWN if name.startswith(("skag.dialogue", "skag.backends"))]
    wanted += ["skag.config", "skag.recipes", "skag.runs", "skag.methods.base"]
    code = (
        f"import sys, importlib\nfor name in {wanted!r}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
