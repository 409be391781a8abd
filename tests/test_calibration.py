"""Temperatures and thresholds: what they promise of the clips they are fitted on, and what is kept in a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar  # comes with scikit-learn

from skag import metrics
from skag.inference import calibration


def made(seed: int, clips: int, sharpness: float = 1.0, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from known probabilities, and these raised to a power, as of a network too sure or too unsure."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.full(classes, 0.3), clips)
    labels = (true.cumsum(1) < rng.random((clips, 1))).sum(1).clip(max=classes - 1)
    return labels, calibration.temper(true, 1 / sharpness)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
def test_the_temperature_undoes_a_network_that_is_too_sure_or_too_unsure(sharpness: float) -> None:
    labels, probabilities = made(0, 5000, sharpness)
    temperature = calibration.fit_temperature(labels, probabilities)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    assert metrics.expected_calibration_error(labels, calibration.temper(probabilities, temperature)) < 2


def test_the_temperature_equals_that_of_another_optimiser() -> None:
    for seed, clips in ((0, 7), (1, 40), (2, 300)):
        labels, probabilities = made(seed, clips, 1.8)

        def loss(log: float) -> float:
            """The formula of the docstring."""
            right = calibration.temper(probabilities, np.exp(log))[np.arange(clips), labels]  # noqa: B023
            return -np.log(right).sum() + 0.5 * (log / np.log(2)) ** 2

        best = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
        assert calibration.fit_temperature(labels, probabilities) == pytest.approx(np.exp(best.x), rel=1e-4)


def test_a_few_clips_that_are_all_right_do_not_make_a_certainty() -> None:
    labels = np.arange(20) % 4
    temperature = calibration.fit_temperature(labels, 0.6 * np.eye(4)[labels] + 0.1)
    assert 0.2 < temperature < 1


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 20), st.integers(2, 9))
def test_tempered_probabilities_keep_the_order_of_the_classes(seed: int, temperature: float, classes: int) -> None:
    _, probabilities = made(seed, 3, classes=classes)
    tempered = calibration.temper(probabilities, temperature)
    np.testing.assert_allclose(tempered.sum(1), 1)
    order = np.argsort(probabilities, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(tempered, order, 1)) >= 0).all()


def test_temperature_one_changes_nothing_and_certainties_stay_finite() -> None:
    np.testing.assert_allclose(calibration.temper(np.array([[0.7, 0.2, 0.1]]), 1), [[0.7, 0.2, 0.1]], atol=1e-15)
    assert np.isfinite(calibration.temper(np.array([[1.0, 0.0]]), 0.1)).all()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 200), st.floats(0, 0.99))
def test_no_more_than_the_rate_of_the_held_out_clips_lies_below_the_threshold(
    seed: int, clips: int, rate: float
) -> None:
    found = calibration.fit(*made(seed, clips), ["a"], 1)
    below = sum(p < found.threshold(rate) for p in found.confidences)
    assert below <= rate * clips + 1e-6
    higher = [p for p in found.confidences if p > found.threshold(rate)]
    if higher:  # the next higher clip would be too many
        assert sum(p < higher[0] for p in found.confidences) > rate * clips - 1e-6


def test_a_rate_of_zero_is_the_least_sure_clip_and_others_are_refused() -> None:
    found = calibration.fit(*made(0, 50), ["a"], 1)
    assert found.threshold(0) == min(found.confidences)
    for rate in (-0.1, 1, 2):
        with pytest.raises(ValueError, match="rate"):
            found.threshold(rate)


def test_what_was_saved_is_read_back_for_the_same_networks_and_views_alone(tmp_path: Path) -> None:
    one, two = (calibration.fit(*made(0, 30), networks, 2) for networks in (["a"], ["a", "b"]))
    assert calibration.save(tmp_path, one).name == "calibration.json"
    assert calibration.save(tmp_path, two).name.startswith("calibration-")
    assert calibration.load(tmp_path, ["a"], 2) == one
    assert calibration.load(tmp_path, ["a", "b"], 2) == two
    for networks, views in ((["b"], 2), (["a"], 1), (["b", "a"], 2)):
        assert calibration.load(tmp_path, networks, views) is None


@pytest.mark.parametrize(
    "change", [{"temperature": 0}, {"temperature": "x"}, {"confidences": []}, {"confidences": [2]}, {"more": 1}]
)
def test_a_calibration_that_is_none_is_fitted_anew(change: dict, tmp_path: Path) -> None:
    path = calibration.save(tmp_path, calibration.fit(*made(0, 30), ["a"], 1))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert calibration.load(tmp_path, ["a"], 1) is None
