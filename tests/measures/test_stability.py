"""The spread of a loss from epoch to epoch, against SciPy and against simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.measures.stability import Stability, deviation

LOSSES = st.lists(st.floats(0.01, 10), min_size=3, max_size=40)


def test_the_interval_is_scipys_chi_square_one() -> None:
    from scipy.stats import chi2

    values = np.random.default_rng(0).normal(size=12)
    found = deviation(values)
    squares = 11 * values.var(ddof=1)
    assert found.value == pytest.approx(values.std(ddof=1))
    assert found.low == pytest.approx(np.sqrt(squares / chi2.ppf(0.975, 11)))
    assert found.high == pytest.approx(np.sqrt(squares / chi2.ppf(0.025, 11)))


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = [found.low <= 2.0 <= found.high for found in (deviation(random.normal(0, 2, 7)) for _ in range(2000))]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


@given(losses=LOSSES)
def test_what_is_counted(losses: list[float]) -> None:
    found = Stability.of(losses)
    assert found is not None
    changes = np.diff(losses)
    assert found.spread.n == len(losses) - 1
    assert found.rises == (changes > 0).sum()
    assert found.largest_rise == pytest.approx(max(0.0, changes.max()))
    assert found.unsteady == (found.largest_rise > 0.2 * min(losses))
    assert Stability.from_json(found.to_json()) == found


def test_equal_steps_are_no_spread_and_two_epochs_no_answer() -> None:
    steady = Stability.of([1.0, 0.75, 0.5, 0.25])
    assert steady is not None
    assert steady.spread.value == pytest.approx(0, abs=1e-12)
    assert not steady.unsteady
    assert Stability.of([1.0, 0.5]) is None
    with pytest.raises(ValueError, match="two values"):
        deviation([1.0])
