"""Figures: drawn at every size, with names that try to be something else."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from skag import figures
from skag.analysis import ClassResult, per_class
from skag.figures import class_accuracy_figure, confusion_figure, critical_joints_figure
from skag.layouts import load_layout

HOSTILE = [
    "$x^2$",
    r"$\frac{",
    "100% $5",
    r"\input{/etc/passwd}",
    "<script>",
    "a\nb\x00c",
    "\ud800",
    "动作",
    "x" * 500,
    "",
]


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Every figure at the moment it is saved."""
    saved: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), save(self, *a, **k))[1])
    return saved


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in visible(figure)]


def visible(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def results(num_classes: int, seed: int = 0) -> list[ClassResult]:
    labels = np.repeat(np.arange(num_classes), 10)
    rng = np.random.default_rng(seed)
    predicted = np.where(rng.random(len(labels)) < 0.8, labels, rng.integers(0, num_classes, len(labels)))
    return per_class(labels, predicted, [f"class {i}" for i in range(num_classes)])


@pytest.mark.parametrize("num_classes", [1, 10, 120])
def test_confusions_are_drawn_at_every_size_with_every_name(num_classes, tmp_path, drawn):
    matrix = np.random.default_rng(0).poisson(0.2, (num_classes, num_classes)) + 9 * np.eye(num_classes, dtype=int)
    names = [f"class {i}" for i in range(num_classes)]
    confusion_figure(matrix, names, tmp_path / "new folder" / "confusions.png")
    height, width = imread(tmp_path / "new folder" / "confusions.png").shape[:2]
    assert min(height, width) > 12 * num_classes  # pixels: room for a name in every row and column
    assert [texts(drawn[0]).count(name) for name in names] == [2] * num_classes


def test_cells_hold_rounded_percentages_of_the_row_only_where_there_is_room(tmp_path, drawn):
    confusion_figure(np.array([[3, 1, 0], [0, 0, 0], [1, 998, 1]]), ["a", "b", "c"], tmp_path / "few.png")
    assert {"75", "25", "100", "<1"} <= set(texts(drawn[0]))
    confusion_figure(np.full((25, 25), 1), [str(i) for i in range(100, 125)], tmp_path / "many.png")
    assert "4" not in texts(drawn[1])


def test_accuracies_are_sorted_and_classes_without_clips_left_out(tmp_path, drawn):
    rows = [
        ClassResult("middle", 5, 80.0, 60.0, 90.0),
        ClassResult("none", 0, None, None, None),
        ClassResult("best", 5, 100.0, 70.0, 100.0),
    ]
    class_accuracy_figure(rows, tmp_path / "accuracy.png")
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]  # from the bottom up
    assert labels == ["middle  (5)", "best  (5)"]


def test_a_run_without_a_clip_of_any_class_is_still_drawn(tmp_path):
    nothing = [ClassResult("a", 0, None, None, None)]
    class_accuracy_figure(nothing, tmp_path / "accuracy.png")
    class_accuracy_figure(nothing, tmp_path / "difference.png", nothing)


def test_differences_to_a_reference_carry_their_sign(tmp_path, drawn):
    def row(name: str, percent: float | None) -> ClassResult:
        return ClassResult(name, 10, percent, percent, percent)

    own, reference = (
        [row("up", 90.0), row("down", 40.0), row("gone", None)],
        [row("up", 70.0), row("down", 60.0), row("gone", 5.0)],
    )
    class_accuracy_figure(own, tmp_path / "difference.png", reference)
    bars = [bar.get_width() for bar in drawn[0].axes[0].patches]
    assert bars == [-20, 20]
    assert {"-20.0  (60 to 40)", "+20.0  (70 to 90)"} <= set(texts(drawn[0]))


def test_bars_of_many_classes_keep_their_names_apart(tmp_path):
    num_classes = 60
    class_accuracy_figure(results(num_classes), tmp_path / "a.png")
    class_accuracy_figure(results(num_classes), tmp_path / "b.png", results(num_classes, seed=1))
    for name in ("a.png", "b.png"):
        assert imread(tmp_path / name).shape[0] > 20 * num_classes


def test_names_are_never_mathematics_and_never_break_a_figure(tmp_path, drawn):
    """Also where the user's own settings ask for TeX."""
    layout = load_layout("kinect-v1")
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        confusion_figure(np.eye(10, dtype=int), HOSTILE, tmp_path / "a.png")
        class_accuracy_figure(per_class(np.arange(10), np.arange(10), HOSTILE), tmp_path / "b.png")
        critical_joints_figure(layout, np.ones(20), np.random.rand(20, 3), tmp_path / "c.png", HOSTILE[1])
    for figure in drawn:
        for text in visible(figure):
            assert not text.get_usetex()
            assert not text.get_parse_math()
    assert {"$x^2$", "<script>", "a b c"} <= set(texts(drawn[0]))
    assert max(map(len, texts(drawn[0]))) < 60


def test_shortened_names_keep_both_ends():
    short = figures.shortened("put on a very long and heavy winter jacket (left)")
    assert len(short) <= 32
    assert short.startswith("put on a very")
    assert short.endswith("(left)")


def test_critical_joints_are_named_by_number_and_up_is_up(tmp_path, drawn):
    layout = load_layout("kinect-v1")
    mask = np.zeros(20)
    mask[[layout.index["head"], layout.index["right hand"]]] = 1
    pose = np.zeros((20, 3))
    pose[layout.index["head"], 1] = 1
    critical_joints_figure(layout, mask, pose, tmp_path / "joints.png", "throw")
    names = [text.get_text() for text in drawn[0].axes[0].texts]
    assert sorted(names) == sorted(f"{layout.index[joint] + 1} {joint}" for joint in ("head", "right hand"))
    marked = drawn[0].axes[0].collections[1].get_offsets()
    assert marked[0][1] > marked[1][1]


def test_up_follows_the_layout_of_image_coordinates(tmp_path, drawn):
    layout = load_layout("coco")
    assert layout.up == "-y"
    pose = np.zeros((17, 2))
    pose[0] = [0, -1]  # a smaller row of the image lies higher
    critical_joints_figure(layout, np.eye(17)[0] + np.eye(17)[9], pose, tmp_path / "joints.png")
    nose, wrist = drawn[0].axes[0].collections[1].get_offsets()
    assert nose[1] > wrist[1]


@pytest.mark.parametrize("fill", [np.nan, 0.0])
def test_a_pose_with_nothing_in_it_is_still_drawn(fill, tmp_path):
    critical_joints_figure(load_layout("coco"), np.ones(17), np.full((17, 2), fill), tmp_path / "joints.png")
    assert (tmp_path / "joints.png").stat().st_size


def test_a_missing_critical_joint_is_left_out(tmp_path, drawn):
    pose = np.random.default_rng(0).random((17, 2))
    pose[9] = np.nan
    critical_joints_figure(load_layout("coco"), np.eye(17)[9] + np.eye(17)[10], pose, tmp_path / "joints.png")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["11 right wrist"]


@pytest.mark.parametrize("heights", [[1.0, 1.0, 1.0], [0.9, 0.88, 0.1, 0.09], [0.5]])
def test_spread_names_keep_their_distance_and_order(heights):
    spread = figures._spread(heights, 0.1)
    assert np.all(-np.diff(spread) >= 0.1 - 1e-12)
    assert np.mean(spread) == pytest.approx(np.mean(heights))


def test_figures_leave_pyplot_alone(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, numpy; from pathlib import Path; from skag import figures; assert 'matplotlib' not in sys.modules;"
        f"figures.confusion_figure(numpy.eye(3), list('abc'), Path({str(tmp_path / 'a.png')!r}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
