from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize
from sklearn.metrics import brier_score_loss, log_loss

from topwork.measures.bootstrap import Bootstrap, bootstrap
from topwork.measures.calibration import (
    BINS,
    ReliabilityBin,
    brier,
    brier_terms,
    confidence_bins,
    ece,
    ece_interval,
    fit_temperature,
    gap_terms,
    nll,
    nll_terms,
    reliability,
)
from topwork.measures.predictions import Predictions

CLASSES = ("a", "b", "c", "d")
LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 25), st.just(4)), elements=st.floats(-12, 12))


def make(logits: np.ndarray, labels: np.ndarray) -> Predictions:
    paths = tuple(f"{number}.jpg" for number in range(len(labels)))
    return Predictions(logits=logits, labels=labels, paths=paths, classes=CLASSES[: np.shape(logits)[1]])


def labelled(logits: np.ndarray, seed: int = 0) -> Predictions:
    return make(logits, np.random.default_rng(seed).integers(0, 4, len(logits)))


def drawn(n: int, *, sharpness: float = 1.0, seed: int = 0) -> Predictions:
    """Labels drawn from softmax(z); the logits are sharpness times z, so 1 is calibrated."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4)) * 2.5
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return make(sharpness * z, labels)


@given(LOGITS)
def test_nll_and_brier_are_scikit_learns(logits: np.ndarray) -> None:
    predictions = labelled(logits)
    p, labels = predictions.probabilities, predictions.labels
    assert nll(predictions) == pytest.approx(log_loss(labels, p, labels=range(4)), rel=1e-9, abs=1e-9)
    theirs = brier_score_loss(labels, p, labels=range(4), scale_by_half=False)
    assert brier(predictions) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("n", [50, 734])
def test_ece_is_torchmetrics(sharpness: float, n: int) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    predictions = drawn(n, sharpness=sharpness)
    theirs = functional.multiclass_calibration_error(
        torch.from_numpy(predictions.probabilities), torch.from_numpy(predictions.labels.copy()), 4, n_bins=15
    )
    assert ece(predictions) == pytest.approx(float(theirs), abs=1e-6)


def test_measures_need_no_torch() -> None:
    import subprocess

    program = "import topwork.evaluation.report_text, sys; assert not {'torch', 'scipy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@given(LOGITS)
def test_every_measure_stays_in_its_range(logits: np.ndarray) -> None:
    predictions = labelled(logits)
    assert 0 <= ece(predictions) <= 1
    assert (nll_terms(predictions) >= 0).all()
    assert ((brier_terms(predictions) >= 0) & (brier_terms(predictions) <= 2)).all()


@given(LOGITS, st.randoms())
def test_the_order_of_photos_does_not_matter(logits: np.ndarray, random: object) -> None:
    predictions = labelled(logits)
    order = np.random.default_rng(1).permutation(len(predictions))
    mixed = make(logits[order], predictions.labels[order])
    for measure in (ece, nll, brier):
        assert measure(mixed) == pytest.approx(measure(predictions), abs=1e-12)


def test_certainty_has_known_scores() -> None:
    logits, labels = np.array([[900.0, 0, 0, 0]] * 4), np.array([0, 0, 0, 1])
    predictions = make(logits, labels)
    assert ece(predictions) == pytest.approx(0.25)
    assert brier(predictions) == pytest.approx(0.5)
    assert nll(predictions) == pytest.approx(225.0)  # from logits: no probability is clipped


def test_no_photos_are_zero() -> None:
    none = make(np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
    assert ece(none) == nll(none) == brier(none) == 0.0
    assert reliability(none) == ()
    assert fit_temperature(none) == 1.0


@given(LOGITS)
def test_the_bins_hold_every_photo_once_and_give_the_ece_back(logits: np.ndarray) -> None:
    predictions = labelled(logits)
    bins = reliability(predictions)
    n = sum(each.accuracy.n for each in bins)
    assert n == len(predictions)
    again = sum(abs(each.confidence - each.accuracy.value) * each.accuracy.n for each in bins) / n
    assert again == pytest.approx(ece(predictions), abs=1e-9)
    for each in bins:
        assert each.low - 1e-12 <= each.confidence <= each.high + 1e-12
        assert ReliabilityBin.from_json(json.loads(json.dumps(each.to_json()))) == each


def test_a_bin_includes_its_lower_edge_and_the_last_includes_one() -> None:
    predictions = make(np.array([[0.0, 0.0], [900.0, 0.0], [np.log(2.0), 0.0]]), np.array([0, 0, 0]))
    confidence, bins = confidence_bins(predictions)
    np.testing.assert_allclose(confidence, [1 / 2, 1.0, 2 / 3])
    assert bins.tolist() == [7, 14, 10]


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_that_scipy_finds(sharpness: float) -> None:
    predictions = drawn(500, sharpness=sharpness)
    theirs = optimize.minimize_scalar(
        lambda log_t: nll(predictions.at_temperature(math.exp(log_t))),
        bounds=(math.log(0.05), math.log(20)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    ours = fit_temperature(predictions)
    assert ours == pytest.approx(math.exp(theirs.x), rel=1e-4)
    assert nll(predictions.at_temperature(ours)) <= nll(predictions) + 1e-12


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_a_wrong_sharpness(sharpness: float) -> None:
    predictions = drawn(20_000, sharpness=sharpness)
    temperature = fit_temperature(predictions)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    assert ece(predictions.at_temperature(temperature)) < 0.015


@given(st.floats(0.5, 2.0))
def test_the_temperature_follows_the_scale_of_the_logits(scale: float) -> None:
    predictions = drawn(120)
    scaled = make(predictions.logits * scale, predictions.labels)
    assert fit_temperature(scaled) == pytest.approx(scale * fit_temperature(predictions), rel=1e-6)


def test_a_part_without_errors_teaches_no_temperature() -> None:
    assert fit_temperature(make(np.eye(4) * 3, np.arange(4))) == 1.0


def test_a_part_of_errors_is_as_hot_as_it_gets() -> None:
    assert fit_temperature(make(np.eye(4) * 3, (np.arange(4) + 1) % 4)) == pytest.approx(20, rel=1e-6)


def resampled(predictions: Predictions, *, seed: int = 0, resamples: int = 500) -> Bootstrap:
    gaps, bins = gap_terms(predictions)
    summands = np.zeros((len(predictions), BINS))
    summands[np.arange(len(predictions)), bins] = gaps
    whole, n = summands.sum(axis=0), len(predictions)
    return bootstrap(
        summands,
        lambda sums: {"ece": np.abs(sums).sum(-1) / n, "ece_noise": np.abs(sums - whole).sum(-1) / n},
        strata=np.zeros(n, dtype=np.int64),
        resamples=resamples,
        seed=seed,
    )


@given(LOGITS)
def test_the_interval_of_the_ece_holds_it(logits: np.ndarray) -> None:
    predictions = labelled(logits)
    interval = ece_interval(resampled(predictions, resamples=60))
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.value == pytest.approx(ece(predictions))


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", [1.0, 1.3, 2.0])
def test_the_interval_of_the_ece_holds_the_truth(sharpness: float) -> None:
    truth = ece(drawn(1_000_000, sharpness=sharpness, seed=10**6)) if sharpness != 1.0 else 0.0
    samples = 1000
    intervals = [ece_interval(resampled(drawn(500, sharpness=sharpness, seed=seed))) for seed in range(samples)]
    held = sum(interval.low <= truth <= interval.high for interval in intervals) / samples
    # Perfect calibration is the end of the range, where an interval that begins at 0 cannot miss on that side.
    assert 0.93 <= held <= (0.97 if sharpness != 1.0 else 0.98)
    bca = [resampled(drawn(500, sharpness=sharpness, seed=seed)).interval("ece") for seed in range(60)]
    if sharpness == 1.0:  # why the ECE has a rule of its own
        assert sum(interval.low <= truth for interval in bca) < 10
