from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from topwork.measures.compare import LEVEL, holm, mcnemar, paired_interval, paired_test, seed_noise

FOLDS = 5


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_statsmodels(only_first: int, only_second: int) -> None:
    theirs = their_mcnemar([[5, only_first], [only_second, 7]], exact=True).pvalue
    assert mcnemar(only_first, only_second) == pytest.approx(theirs, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    np.testing.assert_allclose(holm(p_values), multipletests(p_values, method="holm")[1], atol=1e-12)


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == ()


def simulated(
    rng: np.random.Generator,
    share: float,
    *,
    n: int,
    hard: np.ndarray,
    seeds: int = 3,
    own: float = 0.0,
    shift: float = 0.0,
) -> np.ndarray:
    """(S,N) right answers of a recipe with this accuracy.

    A photo is right where a normal number lies below a threshold. It is made of how hard the photo is for everybody,
    how hard for this recipe (share `own` of the variance) and chance of this seed; `shift` moves a whole fold.
    """
    folds = np.arange(n) % FOLDS
    mine = np.sqrt(1 - own) * hard + np.sqrt(own) * rng.normal(size=n)
    chance = rng.normal(size=(seeds, n)) * 0.35
    moved = rng.normal(size=(seeds, FOLDS))[:, folds] * shift
    total = np.sqrt(1 + 0.35**2 + shift**2)
    return (mine + chance + moved) / total < stats.norm.ppf(share)


def verdicts(shares: tuple[float, float], *, runs: int, n: int = 1500, **kind: float) -> tuple[list[str], float]:
    """Verdicts over simulated data sets, and the mean correlation of the two recipes' right answers."""
    rng = np.random.default_rng(0)
    folds = np.arange(n) % FOLDS
    said, correlations = [], []
    for _ in range(runs):
        hard = rng.normal(size=n)
        a, b = (simulated(rng, share, n=n, hard=hard, **kind) for share in shares)
        test = paired_test(a, b, folds=folds)
        said.append(test.verdict(test.p))
        correlations.append(np.corrcoef(a[0], b[0])[0, 1])
    return said, float(np.mean(correlations))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.15, 0.5])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_identical_recipes_are_called_equal(seeds: int, shift: float) -> None:
    said, _ = verdicts((0.92, 0.92), runs=1000, shift=shift, seeds=seeds)
    assert said.count("no difference beyond seed noise") >= 950


@pytest.mark.slow
def test_without_the_seeds_noise_identical_recipes_would_be_called_different() -> None:
    """The reason for the seed term: one seed alone, moved as a whole, passes McNemar's test far too often."""
    rng, n, wrong = np.random.default_rng(1), 1500, 0
    for _ in range(300):
        hard = rng.normal(size=n)
        a, b = (simulated(rng, 0.92, n=n, hard=hard, shift=0.5, seeds=1)[0] for _ in range(2))
        wrong += mcnemar(int((a & ~b).sum()), int((b & ~a).sum())) <= LEVEL
    assert wrong > 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shares", "least"),
    [((0.92, 0.95), 0.97), ((0.90, 0.93), 0.93), ((0.85, 0.88), 0.87), ((0.80, 0.83), 0.80)],
)
def test_three_points_are_found_at_1500_photos(shares: tuple[float, float], least: float) -> None:
    """Right answers of the two recipes correlate at 0.5 to 0.6, as those of fine-tuned networks do."""
    said, correlation = verdicts(shares, runs=400, own=0.12, shift=0.05)
    assert 0.45 < correlation < 0.65
    assert said.count("better") / len(said) >= least
    assert said.count("worse") == 0


@pytest.mark.slow
def test_groups_that_go_together_are_not_taken_for_evidence() -> None:
    """300 groups of five photos, right or wrong as one: photos alone would be sure far too often."""
    rng, n = np.random.default_rng(2), 1500
    groups = [str(number) for number in np.arange(n) // 5]
    folds = np.arange(n) // 5 % FOLDS
    differs = {"groups": 0, "photos": 0}
    for _ in range(600):
        a, b = (np.repeat(rng.random((1, n // 5)) < 0.9, 5, axis=1) for _ in range(2))
        for kind, given_groups in (("groups", groups), ("photos", None)):
            differs[kind] += paired_test(a, b, folds=folds, groups=given_groups).p <= LEVEL
    assert differs["groups"] <= 0.06 * 600
    assert differs["photos"] > 0.2 * 600


@settings(max_examples=50)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 60), st.integers(0, 99))
def test_exchanging_the_recipes_changes_the_sign_only(first: int, second: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((first, n)) < 0.6, rng.random((second, n)) < 0.8
    folds = np.arange(n) % 2
    one, other = paired_test(a, b, folds=folds), paired_test(b, a, folds=folds)
    assert one.difference == pytest.approx(-other.difference)
    assert one.error == pytest.approx(other.error)
    assert 0 < one.p <= 1
    assert one.p >= one.mcnemar


def test_the_same_predictions_are_equal_with_certainty() -> None:
    right = np.random.default_rng(0).random((1, 50)) < 0.7
    test = paired_test(right, right, folds=np.zeros(50, dtype=np.int64))
    assert (test.p, test.verdict(test.p)) == (1.0, "no difference beyond seed noise")
    interval = paired_interval(right[0], right[0], labels=np.zeros(50, dtype=np.int64))
    assert interval.low < 0 == interval.value < interval.high < 0.1


def test_one_recipe_right_and_one_wrong_on_every_photo_is_no_chance() -> None:
    right, wrong, folds = np.ones((1, 40), dtype=bool), np.zeros((1, 40), dtype=bool), np.arange(40) % FOLDS
    test = paired_test(right, wrong, folds=folds)
    assert test.p == mcnemar(40, 0) < 1e-9
    assert test.verdict(test.p) == "worse"
    interval = paired_interval(right[0], wrong[0], labels=folds, test=test)
    assert (interval.value, interval.low) == (-1, -1)
    assert -0.95 < interval.high < -0.8
    pairs = paired_test(right, wrong, folds=folds, groups=[str(number // 2) for number in range(40)])
    assert pairs.p == mcnemar(20, 0)
    assert paired_test(right, wrong, folds=folds, groups=["one series"] * 40).p == 1.0


def test_seed_noise_is_the_variance_of_the_pooled_accuracy_over_seeds() -> None:
    rng, n = np.random.default_rng(0), 1000
    folds = np.arange(n) % FOLDS
    found = [
        seed_noise(simulated(rng, 0.9, n=n, hard=rng.normal(size=n), shift=0.3, seeds=4), folds) for _ in range(200)
    ]
    hard = rng.normal(size=n)
    pooled = simulated(rng, 0.9, n=n, hard=hard, shift=0.3, seeds=4000).mean(axis=1)
    assert np.mean([noise.variance for noise in found]) == pytest.approx(pooled.var(), rel=0.1)
    assert all(3 <= noise.freedom <= 15 for noise in found)
    assert seed_noise(np.ones((1, 6), dtype=bool), np.zeros(6, dtype=np.int64)).freedom == 0


def test_independent_flips_are_no_excess() -> None:
    rng, n = np.random.default_rng(0), 1000
    found = [seed_noise(rng.random((3, n)) < 0.9, np.arange(n) % FOLDS) for _ in range(300)]
    assert np.mean([noise.variance for noise in found]) == pytest.approx(0.09 / n, rel=0.05)
    assert np.mean([noise.excess for noise in found]) < 0.3 * 0.09 / n


def test_the_paired_interval_is_scipys_bca() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 400)) < 0.85, rng.random((3, 400)) < 0.9
    ours = paired_interval(a.mean(0), b.mean(0), labels=np.zeros(400, dtype=np.int64))
    gap = b.mean(0) - a.mean(0)
    theirs = stats.bootstrap(
        (gap,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1), batch=2000
    ).confidence_interval
    assert ours.value == pytest.approx(gap.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)


def test_seeds_widen_the_interval_as_independent_errors_do() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 400)) < 0.85, rng.random((1, 400)) < 0.9
    labels = np.zeros(400, dtype=np.int64)
    noisy = replace(paired_test(a, b, folds=labels), seed_error=0.02, freedom=np.inf)
    plain, wide = paired_interval(a[0], b[0], labels=labels), paired_interval(a[0], b[0], labels=labels, test=noisy)
    assert wide.value - wide.low == pytest.approx(np.hypot(plain.value - plain.low, 1.96 * 0.02), rel=1e-3)
    assert wide.high - wide.value == pytest.approx(np.hypot(plain.high - plain.value, 1.96 * 0.02), rel=1e-3)


@pytest.mark.slow
def test_the_paired_interval_holds_the_truth_in_95_of_100_samples() -> None:
    rng, n, held = np.random.default_rng(3), 400, 0
    labels = np.arange(n) % 3
    for number in range(1000):
        hard = rng.normal(size=n)
        a, b = (simulated(rng, share, n=n, hard=hard, own=0.2) for share in (0.85, 0.9))
        interval = paired_interval(a.mean(0), b.mean(0), labels=labels, seed=number)
        held += interval.low <= 0.05 <= interval.high
    assert 0.93 * 1000 <= held <= 0.97 * 1000
