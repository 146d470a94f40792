from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from topwork.measures.intervals import Interval, design_effect, difference, f1_interval, wilson

TRIALS = st.integers(1, 5000)


def counted(data: st.DataObject) -> tuple[int, int]:
    trials = data.draw(TRIALS)
    return data.draw(st.integers(0, trials)), trials


@given(st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_statsmodels(data: st.DataObject, confidence: float) -> None:
    successes, trials = counted(data)
    low, high = proportion_confint(successes, trials, alpha=1 - confidence, method="wilson")
    ours = wilson(successes, trials, confidence=confidence)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-9)
    assert ours.n == trials


@given(st.data())
def test_wilson_mirrors(data: st.DataObject) -> None:
    successes, trials = counted(data)
    hits, misses = wilson(successes, trials), wilson(trials - successes, trials)
    assert (hits.low, hits.high) == pytest.approx((1 - misses.high, 1 - misses.low), abs=1e-12)


@given(st.data())
def test_wilson_rises_with_successes_narrows_with_trials_and_widens_with_groups(data: st.DataObject) -> None:
    successes, trials = counted(data)
    here, more = wilson(successes, trials), wilson(min(trials, successes + 1), trials)
    assert 0 <= here.low <= here.value <= here.high <= 1
    assert here.low <= more.low + 1e-12
    assert here.high <= more.high + 1e-12
    double, grouped = wilson(2 * successes, 2 * trials), wilson(successes, trials, effect=2.0)
    assert double.high - double.low <= here.high - here.low <= grouped.high - grouped.low
    assert grouped.n == trials


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 0) == Interval(value=0.0, low=0.0, high=1.0, n=0)
    assert wilson(734, 734).high == 1.0
    assert 0.99 < wilson(734, 734).low < 1.0
    assert wilson(0, 1).low == 0.0
    assert 0.7 < wilson(0, 1).high < 0.8


@pytest.mark.parametrize("arguments", [(2, 1, {}), (-1, 3, {}), (1, 2, {"confidence": 1.0}), (1, 2, {"effect": 0.5})])
def test_wilson_refuses_what_is_no_share(arguments: tuple[int, int, dict[str, float]]) -> None:
    successes, trials, options = arguments
    with pytest.raises(ValueError, match="wilson"):
        wilson(successes, trials, **options)


@given(st.data())
def test_the_interval_of_f1_is_that_of_the_share_behind_it(data: st.DataObject) -> None:
    hits, union = counted(data)
    ours, share = f1_interval(hits, union), wilson(hits, union)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1
    for bound in ("value", "low", "high"):
        f1 = getattr(ours, bound)
        assert f1 / (2 - f1) == pytest.approx(getattr(share, bound), abs=1e-12)


@given(st.data(), st.data())
def test_the_difference_is_newcombes(first: st.DataObject, second: st.DataObject) -> None:
    (a, n), (b, m) = counted(first), counted(second)
    low, high = confint_proportions_2indep(a, n, b, m, compare="diff", method="newcomb", alpha=0.05)
    ours = difference(wilson(a, n), wilson(b, m))
    assert (ours.value, ours.low, ours.high) == pytest.approx((a / n - b / m, low, high), abs=1e-9)
    mirrored = difference(wilson(b, m), wilson(a, n))
    assert (mirrored.low, mirrored.high) == pytest.approx((-ours.high, -ours.low), abs=1e-12)


@given(st.lists(st.booleans(), min_size=2, max_size=40))
def test_groups_of_one_change_nothing(hits: list[bool]) -> None:
    assert design_effect(np.array(hits, dtype=np.float64), np.ones(len(hits))) == 1.0


def test_groups_that_agree_count_once() -> None:
    rng = np.random.default_rng(0)
    hits = (rng.random(4000) < 0.8).astype(np.float64)
    assert design_effect(5 * hits, np.full(4000, 5.0)) == pytest.approx(5, rel=0.01)
    same = design_effect(np.full(30, 4.0), np.full(30, 4.0))  # all right: nothing shows that photos differ
    assert same == 4.0
    assert design_effect(np.array([3.0]), np.array([4.0])) == 4.0


def test_groups_that_do_not_agree_count_in_full() -> None:
    rng = np.random.default_rng(0)
    hits = rng.binomial(5, 0.8, size=4000).astype(np.float64)
    assert design_effect(hits, np.full(4000, 5.0)) == pytest.approx(1, abs=0.06)


def test_groups_without_trials_do_not_count() -> None:
    hits, trials = np.array([2.0, 1.0, 0.0]), np.array([2.0, 2.0, 2.0])
    padded = design_effect(np.append(hits, [0.0, 0.0]), np.append(trials, [0.0, 0.0]))
    assert padded == design_effect(hits, trials)
    assert design_effect(np.zeros(3), np.zeros(3)) == 1.0


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted), min_size=1, max_size=12))
def test_means_over_seeds_are_trials_too(thirds: list[list[int]]) -> None:
    hits, trials = np.array(thirds).T / 3
    effect = design_effect(hits, trials)
    assert effect >= 1.0
    wilson(hits.sum(), trials.sum(), effect=effect)


def test_groups_that_count_for_less_than_one_photo_are_no_more_than_photos() -> None:
    assert design_effect(np.array([1.0, 1.0, 2 / 3]), np.array([1.0, 1.0, 2 / 3])) == 1.0
    assert design_effect(np.array([1 / 3]), np.array([1 / 3])) == 1.0


def test_an_interval_reads_as_the_style_page_says() -> None:
    assert str(Interval(value=0.943, low=0.924, high=0.958, n=734)) == "0.943 [0.924, 0.958] n=734"


@given(st.data())
def test_an_interval_comes_back_from_json(data: st.DataObject) -> None:
    interval = wilson(*counted(data))
    assert Interval.from_json(json.loads(json.dumps(interval.to_json()))) == interval


@pytest.mark.parametrize(
    "value",
    [
        {"value": 0.5, "low": 0.6, "high": 0.7, "n": 3},
        {"value": math.nan, "low": 0.6, "high": 0.7, "n": 3},
        {"value": 0.5, "low": 0.1, "high": math.inf, "n": 3},
        {"value": 0.5, "low": 0.1, "high": 0.7},
        {"value": 0.5, "low": 0.1, "high": 0.7, "n": 3, "more": 1},
        {"value": None, "low": 0.1, "high": 0.7, "n": 3},
    ],
)
def test_what_is_no_interval_is_refused(value: dict[str, float]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Interval.from_json(value)


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("p", [0.7, 0.9])
def test_wilson_and_its_f1_hold_the_truth_in_95_of_100_samples(n: int, p: float) -> None:
    rng = np.random.default_rng(n)
    # One class of two, balanced: hits, misses and false alarms each have a fixed probability.
    table = rng.multinomial(n, [p / 2, (1 - p) / 2, (1 - p) / 2, p / 2], size=4000)
    hits, union = table[:, 0], table[:, :3].sum(axis=1)
    truth = {"share": p, "f1": p}
    held = {
        "share": [wilson(int(right), n) for right in table[:, 0] + table[:, 3]],
        "f1": [f1_interval(int(hit), int(either)) for hit, either in zip(hits, union, strict=True)],
    }
    for name, intervals in held.items():
        coverage = np.mean([interval.low <= truth[name] <= interval.high for interval in intervals])
        assert 0.93 <= coverage <= 0.97, (name, coverage)
