"""Analysis: the numbers of published definitions, boundaries included, and a shape that others script against."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from skag.errors import RunError
from skag.metrics import (
    accuracy,
    confusion_matrix,
    expected_calibration_error,
    fuse,
    reliability_curve,
    wilson_interval,
)
from skag.results.analysis import (
    ClassResult,
    analyse,
    calibration_error_by_chance,
    confused_pairs,
    confusion_groups,
    confusion_order,
    difference_overall,
    difference_per_class,
    difficulty_sets,
    nearest_is_own,
    pair_clips,
    per_class,
)


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """200 clips of classes 0 to 6 out of 8, two times out of three right."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 7, 200)
    logits = rng.normal(size=(200, 8))
    logits[np.arange(200), labels] += 2
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def result(name: str, percent: float | None) -> ClassResult:
    return ClassResult(name, 0 if percent is None else 10, percent, percent, percent)


def test_accuracy_equals_scikit_learn(predictions):
    labels, probabilities = predictions
    found = accuracy(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    assert found.top1 == pytest.approx(100 * metrics.accuracy_score(labels, predicted))
    top5 = metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(8))
    assert found.top5 == pytest.approx(100 * top5)
    recalls = metrics.recall_score(labels, predicted, labels=np.arange(7), average=None)
    assert found.mean_class == pytest.approx(100 * recalls.mean())  # class 7 never occurs and must not count as 0


def test_a_network_that_says_the_same_of_all_classes_gets_no_credit():
    found = accuracy(np.arange(10), np.full((10, 10), 0.1))
    assert (found.top1, found.top5, found.mean_class) == (10, 50, 10)


def test_top5_of_three_classes_is_top3():
    assert accuracy(np.array([2, 1]), np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]])).top5 == 100


def test_confusion_matrix_has_true_classes_in_rows_and_keeps_unseen_classes(predictions):
    labels, probabilities = predictions
    predicted = probabilities.argmax(axis=1)
    found = confusion_matrix(labels, predicted, 8)
    np.testing.assert_array_equal(found, metrics.confusion_matrix(labels, predicted, labels=np.arange(8)))


def test_wilson_interval_of_published_examples():
    right, wrong, absent = per_class(np.r_[np.zeros(10, int), np.ones(10, int)], np.zeros(20, int), ["a", "b", "c"])
    assert (right.n, right.accuracy, right.high) == (10, 100, pytest.approx(100))
    assert right.low == pytest.approx(72.25, abs=0.01)  # 10 of 10: n / (n + z^2)
    assert (wrong.accuracy, wrong.low) == (0, pytest.approx(0))
    assert wrong.high == pytest.approx(27.75, abs=0.01)
    assert (absent.n, absent.accuracy, absent.low, absent.high) == (0, None, None, None)
    share = per_class(np.zeros(263, int), np.r_[np.zeros(81, int), np.ones(182, int)], ["a", "b"])[0]
    assert (share.low, share.high) == (pytest.approx(25.53, abs=0.01), pytest.approx(36.62, abs=0.01))  # Newcombe 1998


def test_difficulty_sets_keep_70_and_90_in_the_middle():
    percents = {"a": 69.99, "b": 70.0, "c": 90.0, "d": 90.01, "e": None}
    sets = difficulty_sets([result(name, percent) for name, percent in percents.items()])
    assert {name: found.classes for name, found in sets.items()} == {
        "hard": ("a",),
        "medium": ("b", "c"),
        "easy": ("d",),
    }
    assert sets["medium"].accuracy == 80


def test_difficulty_sets_follow_the_reference_and_report_the_run():
    own, reference = [result("a", 95.0), result("b", 40.0)], [result("a", 50.0), result("b", 60.0)]
    sets = difficulty_sets(own, reference)
    assert sets["hard"].classes == ("a", "b")
    assert (sets["hard"].accuracy, sets["hard"].reference) == (67.5, 55.0)
    assert (sets["easy"].classes, sets["easy"].accuracy) == ((), None)


def test_a_reference_of_other_classes_is_refused():
    with pytest.raises(RunError, match="same label set"):
        difficulty_sets([result("a", 95.0)], [result("b", 95.0)])


def test_confused_pairs_come_by_count_then_by_rate():
    matrix = np.array([[8, 2, 0], [3, 90, 2], [2, 0, 2]])
    pairs = [(p.true, p.predicted, p.count, round(p.rate, 1)) for p in confused_pairs(matrix, ["a", "b", "c"])]
    assert pairs == [("b", "a", 3, 3.2), ("c", "a", 2, 50.0), ("a", "b", 2, 20.0), ("b", "c", 2, 2.1)]


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 9 + [1] + [0] * 3 + [1] * 7)
    found = reliability_curve(labels, probabilities, bins=10)
    assert expected_calibration_error(labels, probabilities, bins=10) == pytest.approx(0.5 * 0 + 0.5 * 30)
    assert [b.n for b in found] == [0, 0, 0, 0, 0, 10, 0, 0, 10, 0]  # 0.6 and 0.9 close their bins
    assert (found[5].confidence, found[5].accuracy) == (pytest.approx(60), 30)
    assert (found[5].accuracy_low, found[5].accuracy_high) == wilson_interval(3, 10)
    assert found[0].accuracy is None and found[0].accuracy_low is None
    assert sum(b.n for b in reliability_curve(np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]]))) == 2


def test_a_calibrated_network_stays_below_the_error_of_chance_and_an_overconfident_one_does_not():
    rng = np.random.default_rng(0)
    below = []
    for _ in range(100):
        sure = rng.uniform(0.5, 1, 150)
        probabilities = np.stack([sure, 1 - sure], axis=1)
        labels = (rng.random(150) > sure).astype(int)
        limit = calibration_error_by_chance(probabilities, draws=200)
        below.append(expected_calibration_error(labels, probabilities) < limit)
        assert expected_calibration_error(np.arange(150) % 2, probabilities) > limit  # right half of the time
    assert 88 <= sum(below) <= 100  # 95 expected


def pairs_of(gained: int, lost: int, both: int, none: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, predictions of the run, of the reference) of one class with so many clips right in either or both."""
    run = [0] * gained + [1] * lost + [0] * both + [1] * none
    reference = [1] * gained + [0] * lost + [0] * both + [1] * none
    return np.zeros(len(run), int), np.array(run), np.array(reference)


def test_a_paired_difference_by_the_published_example():
    """Airway hyper-responsiveness of 21 children before and after a transplant (Fagerland et al. 2014)."""
    found = difference_overall(*pairs_of(gained=1, lost=7, both=1, none=12))
    assert (found.n, found.gained, found.lost) == (21, 1, 7)
    assert found.difference == pytest.approx(100 * -6 / 21)
    assert found.p == pytest.approx(18 / 256)  # 2 (1 + 8) / 2^8
    assert (found.low, found.high) == (pytest.approx(-50.8, abs=0.05), pytest.approx(-1.34, abs=0.05))
    assert not found.clear


def test_runs_that_answer_alike_do_not_differ():
    found = difference_overall(*pairs_of(gained=0, lost=0, both=5, none=5))
    assert (found.difference, found.p, found.clear) == (0, 1, False)
    assert found.low == pytest.approx(-found.high) and found.high > 10  # ten clips leave much open


def test_differences_per_class_count_how_many_classes_were_looked_at():
    labels, predicted, reference = pairs_of(gained=6, lost=0, both=4, none=0)  # alone p is 2 / 2^6
    alone = difference_per_class(labels, predicted, reference, ["a", "never"])
    assert [row.name for row in alone] == ["a"]  # class 1 has no clip
    assert alone[0].p == pytest.approx(2 / 64) and alone[0].clear
    many = 10
    labels = np.repeat(np.arange(many), 10)
    rights = np.tile(predicted == 0, many)
    rights_before = rights.copy()
    rights_before[:10] = reference == 0
    of = [np.where(right, labels, (labels + 1) % many) for right in (rights, rights_before)]
    found = difference_per_class(labels, *of, [str(k) for k in range(many)])
    assert found[0].p == pytest.approx(min(1, many * 2 / 64)) and not found[0].clear
    assert [row.difference for row in found] == [60] + [0] * 9


def test_clips_are_paired_by_name_and_other_clips_refused():
    np.testing.assert_array_equal(pair_clips(["a", "b", "c"], ["c", "a", "b"]), [1, 2, 0])
    np.testing.assert_array_equal(pair_clips(["a", "a"], ["a", "a"]), [0, 1])  # the same order: nothing to guess
    for other in (["a", "b", "d"], ["a", "b"], ["a", "b", "c", "c"], ["b", "a", "a"]):
        with pytest.raises(RunError, match="other clips"):
            pair_clips(["a", "b", "c"], other)


def test_fused_probabilities_are_the_weighted_mean():
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    np.testing.assert_allclose(fuse([a, b], [2, 1]), [[2 / 3, 1 / 3]])
    np.testing.assert_allclose(fuse([a, b]), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("arrays", "weights", "cause"),
    [
        ([np.ones((2, 3)), np.ones((3, 3))], None, "differ in clips"),
        ([np.ones((2, 3))], [1, 1], "one weight for every run"),
        ([np.ones((2, 3))], [0], "one must be positive"),
        ([np.ones((2, 3))] * 2, [2, -1], "none may be negative"),
        ([], None, "0 runs"),
    ],
)
def test_runs_that_cannot_be_fused_are_refused(arrays, weights, cause):
    with pytest.raises(RunError, match=cause):
        fuse(arrays, weights)


@pytest.mark.parametrize(
    ("labels", "probabilities", "cause"),
    [
        ([0, 1], np.ones((3, 2)), "predict again"),
        ([], np.ones((0, 2)), "no clips"),
        ([0], np.array([[np.nan, 1.0]]), "lower learning rate"),
        ([2], np.ones((1, 2)), "labels reach 2"),
    ],
)
def test_unusable_predictions_are_one_line(labels, probabilities, cause):
    with pytest.raises(RunError, match=cause) as caught:
        analyse(np.array(labels, int), probabilities, ["a", "b"])
    assert "\n" not in str(caught.value)


def test_the_document_has_the_promised_shape(predictions):
    labels, probabilities = predictions
    classes = [f"class {i}" for i in range(8)]
    document = json.loads(json.dumps(analyse(labels, probabilities, classes, labels), allow_nan=False))
    assert document["top1"] == round(accuracy(labels, probabilities).top1, 2)
    assert list(document["sets"]) == ["hard", "medium", "easy"]
    assert all(set(found) == {"classes", "accuracy", "reference"} for found in document["sets"].values())
    assert document["sets"]["easy"]["reference"] == 100
    assert document["sets"]["easy"]["classes"] == classes[:7]  # the reference is right about all that occur
    first, last = document["per_class"][0], document["per_class"][7]
    assert {"class", "n", "accuracy", "low", "high", "difference_low", "difference_high", "p", "clear"} <= set(first)
    comparison = document["comparison"]
    assert (comparison["reference"], comparison["gained"], comparison["clear"]) == (100, 0, True)
    assert comparison["difference"] == pytest.approx(document["top1"] - 100) and 0 < comparison["p"] < 1e-6
    assert document["top1_low"] < document["top1"] < document["top1_high"]
    assert first["difference"] == pytest.approx(first["accuracy"] - 100)
    assert (last["n"], last["accuracy"], last["difference"]) == (0, None, None)
    assert set(document["pairs"][0]) == {"true", "predicted", "count", "rate"}
    assert sum(pair["count"] for pair in document["pairs"]) == round(200 * (1 - document["top1"] / 100))


def test_classes_that_are_confused_stand_together():
    matrix = 20 * np.eye(9, dtype=int)
    for members in ((0, 4, 8), (1, 7)):
        for m in members:
            for n in members:
                matrix[m, n] += 3 * (m != n)
    order = confusion_order(matrix).tolist()
    assert sorted(order) == list(range(9))
    for members in ((0, 4, 8), (1, 7)):
        places = sorted(order.index(k) for k in members)
        assert places[-1] - places[0] == len(members) - 1
    assert [sorted(group.tolist()) for group in confusion_groups(matrix)] == [[0, 4, 8], [1, 7]]
    assert all(len(group) <= 2 for group in confusion_groups(matrix, most=2))


@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_nothing_confused_has_an_order_and_no_groups(num_classes):
    matrix = np.zeros((num_classes, num_classes), int)
    assert sorted(confusion_order(matrix).tolist()) == list(range(num_classes))
    assert confusion_groups(matrix) == []


def test_the_nearest_sentence_is_found_by_direction():
    text = np.array([[10.0, 0.0], [0.0, 0.1]])
    clips = np.array([[1, 0.5], [0.5, 1], [1, 0]], np.float16)
    assert nearest_is_own(clips, np.array([0, 1, 1]), text) == pytest.approx(200 / 3)
