"""Figures: drawn at every size, with names that try to be something else."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from skag.methods.skeleton_agent.network_figures import critical_joints_figure
from skag.metrics import expected_calibration_error, reliability_curve
from skag.results import figures
from skag.results.analysis import ClassResult, Difference, calibration_error_by_chance, difference_per_class, per_class
from skag.results.figures import class_accuracy_figure, confusion_figure, difference_figure, reliability_figure
from skag.skeleton.layouts import load_layout

from .helpers.figures import texts, visible

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


@pytest.mark.parametrize("num_classes", [1, 2, 10, 60])
def test_confusions_are_drawn_with_every_name(num_classes, tmp_path, drawn):
    matrix = np.random.default_rng(0).poisson(0.2, (num_classes, num_classes)) + 9 * np.eye(num_classes, dtype=int)
    names = [f"class {i}" for i in range(num_classes)]
    confusion_figure(matrix, names, tmp_path / "new folder" / "confusions.png")
    height, width = imread(tmp_path / "new folder" / "confusions.png").shape[:2]
    assert min(height, width) > 20 * num_classes  # pixels: room for a name in every row and column
    assert [texts(drawn[0]).count(name) for name in names] == [2] * num_classes


@pytest.mark.parametrize("num_classes", [61, 400])
def test_of_many_classes_the_confused_groups_are_drawn_large_with_their_names(num_classes, tmp_path, drawn):
    matrix = 40 * np.eye(num_classes, dtype=int)
    matrix[3, 50] = matrix[50, 3] = 9
    matrix[7, [20, 33]] = matrix[20, 33] = 5
    confusion_figure(matrix, [f"class {i}" for i in range(num_classes)], tmp_path / "confusions.png")
    found = texts(drawn[0])
    assert {"A", "B"} <= set(found) and "C" not in found
    assert {name[: name.index("  ")] for name in found if name.startswith("class ")} == {
        f"class {i}" for i in (3, 50, 7, 20, 33)
    }
    assert any("33 confusions" in text for text in found)


def test_a_confusion_and_what_is_right_differ_in_colour_and_nothing_is_white(tmp_path, drawn):
    confusion_figure(np.array([[98, 2], [0, 100]]), ["a", "b"], tmp_path / "c.png")
    right, wrong = drawn[0].axes[0].images

    def colour(image, row: int, column: int) -> np.ndarray:
        return np.array(image.cmap(image.norm(image.get_array()[row, column]))[:3])

    def seen(row: int, column: int) -> np.ndarray:  # what is masked shows what lies below
        return colour(wrong if np.ma.getmaskarray(right.get_array())[row, column] else right, row, column)

    two_percent = [shown for shown in (seen(0, 1), seen(1, 0)) if not np.allclose(shown, 1)]
    assert len(two_percent) == 1  # the other direction did not happen
    assert two_percent[0][0] > two_percent[0][2] + 0.3  # orange
    assert seen(0, 0)[2] > seen(0, 0)[0] + 0.3  # blue


def test_cells_hold_rounded_percentages_of_the_row_only_where_there_is_room(tmp_path, drawn):
    confusion_figure(np.array([[3, 1, 0], [0, 0, 0], [1, 998, 1]]), ["a", "b", "c"], tmp_path / "few.png")
    assert {"75", "25", "100", "<1"} <= set(texts(drawn[0]))
    confusion_figure(np.full((30, 30), 1), [str(i) for i in range(100, 130)], tmp_path / "many.png")
    assert "3" not in texts(drawn[1])


def row(name: str, percent: float | None, n: int = 10) -> ClassResult:
    return ClassResult(name, 0 if percent is None else n, percent, percent, percent)


def test_accuracies_are_sorted_and_classes_without_clips_left_out(tmp_path, drawn):
    rows = [row("middle", 80.0, 5), row("none", None), row("best", 100.0, 5)]
    class_accuracy_figure(rows, tmp_path / "accuracy.png")
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]  # from the bottom up
    assert labels == ["best  (5)", "middle  (5)"]


def test_of_many_classes_the_worst_are_drawn_and_the_others_counted(tmp_path, drawn):
    class_accuracy_figure([row(f"class {i}", float(i)) for i in range(100)], tmp_path / "accuracy.png")
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert len(labels) == 60 and labels[-1] == "class 0  (10)"
    assert any("60 worst of 100" in text and "40 others: 60 % or better" in text for text in texts(drawn[0]))


def test_a_run_without_a_clip_of_any_class_is_still_drawn(tmp_path):
    class_accuracy_figure([row("a", None)], tmp_path / "accuracy.png")
    difference_figure([], tmp_path / "difference.png")


def test_differences_carry_their_sign_and_noise_is_pale(tmp_path, drawn):
    labels = np.repeat([0, 1, 2], 20)
    right = np.r_[np.ones(20), np.ones(20), np.zeros(20)].astype(bool)
    before = np.r_[np.zeros(20), np.ones(19), 0, np.ones(20)].astype(bool)
    predicted, reference = (np.where(found, labels, (labels + 1) % 3) for found in (right, before))
    found = difference_per_class(labels, predicted, reference, ["up", "hardly", "down"])
    difference_figure(found, tmp_path / "difference.png", "runs/other")
    bars = drawn[0].axes[0].patches
    assert [round(bar.get_width()) for bar in bars] == [-100, 5, 100]
    assert len({bar.get_facecolor() for bar in bars}) == 3
    shown = texts(drawn[0])
    assert {"+100.0  (0 to 100)", "+5.0  (95 to 100)", "-100.0  (100 to 0)"} <= set(shown)
    assert any("runs/other" in text and "1 clearly better, 1 clearly worse, 1 within noise" in text for text in shown)


def test_of_many_differences_both_ends_are_drawn(tmp_path, drawn):
    found = [
        Difference(f"class {i}", 10, 50.0, 50.0 - i, float(i), i - 1.0, i + 1.0, 1, 1, 1.0) for i in range(-50, 50)
    ]
    difference_figure(found, tmp_path / "difference.png")
    widths = [bar.get_width() for bar in drawn[0].axes[0].patches]
    assert widths == [*range(-50, -20), *range(20, 50)]


@pytest.mark.parametrize(
    ("sure", "says"), [(0.99, "too sure"), (0.55, "not sure enough"), (0.8, "no more than chance")]
)
def test_the_reliability_curve_says_what_it_shows(sure, says, tmp_path, drawn):
    labels = (np.arange(200) % 5 == 0).astype(int)  # class 0 is right four times in five
    probabilities = np.tile([sure, 1 - sure], (200, 1))
    error, chance = expected_calibration_error(labels, probabilities), calibration_error_by_chance(probabilities)
    reliability_figure(reliability_curve(labels, probabilities), error, chance, tmp_path / "reliability.png")
    assert any(says in text for text in texts(drawn[0]))
    assert drawn[0].axes[0].lines[-1].get_xydata().tolist() == pytest.approx(np.array([[100 * sure, 80.0]]))


def test_names_are_never_mathematics_and_never_break_a_figure(tmp_path, drawn):
    """Also where the user's own settings ask for TeX."""
    layout = load_layout("kinect-v1")
    with matplotlib.rc_context({"text.usetex": True, "text.parse_math": True}):
        confusion_figure(np.eye(10, dtype=int), HOSTILE, tmp_path / "a.png")
        class_accuracy_figure(per_class(np.arange(10), np.arange(10), HOSTILE), tmp_path / "b.png")
        difference_figure(difference_per_class(*[np.arange(10)] * 3, HOSTILE), tmp_path / "c.png", HOSTILE[1])
        poses = np.random.default_rng(0).random((10, 20, 3))
        critical_joints_figure(layout, HOSTILE, np.ones((10, 20)), poses, tmp_path / "d.png")
    for figure in drawn:
        for text in visible(figure):
            assert not text.get_usetex()
            assert not text.get_parse_math()
    assert {"$x^2$", "<script>", "a b c"} <= set(texts(drawn[0]))
    assert max(map(len, texts(drawn[0]))) < 80


def test_shortened_names_keep_both_ends():
    short = figures.shortened("put on a very long and heavy winter jacket (left)")
    assert len(short) <= 32
    assert short.startswith("put on a very")
    assert short.endswith("(left)")


def test_figures_leave_pyplot_alone(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, numpy; from pathlib import Path; from skag.results import figures;"
        "assert 'matplotlib' not in sys.modules;"
        f"figures.confusion_figure(numpy.eye(3), list('abc'), Path({str(tmp_path / 'a.png')!r}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
