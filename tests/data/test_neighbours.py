"""Close pairs are those of brute force, at full width and through the sketch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.data import neighbours
from topwork.data.neighbours import close_pairs, nearest, pair_cosines, sketch, unit_features


def rows(count: int, width: int, seed: int = 0, copies: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = rng.gamma(0.3, size=(count, width)).astype(np.float32)
    for copy in range(copies):
        made[count - 1 - copy] = made[copy] * rng.uniform(0.8, 1.25, width)
    return unit_features(made)


def brute(units: np.ndarray, least: float) -> set[tuple[int, int]]:
    cosines = units.astype(np.float64) @ units.T.astype(np.float64)
    first, second = np.nonzero(np.triu(cosines, 1) >= least)
    return set(zip(first.tolist(), second.tolist(), strict=True))


def test_unit_features_take_the_root_of_what_is_never_negative() -> None:
    np.testing.assert_allclose(unit_features(np.array([[9.0, 16.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])
    np.testing.assert_allclose(unit_features(np.array([[-3.0, 4.0]])), [[-0.6, 0.8]])


@given(count=st.integers(3, 40), width=st.integers(3, 30), narrow=st.integers(2, 8), seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_sketch_never_understates_a_cosine(count: int, width: int, narrow: int, seed: int) -> None:
    units = rows(count, width, seed)
    small = sketch(units, dimensions=narrow)
    assert small.shape == (count, min(width, narrow))
    assert (small @ small.T >= units @ units.T - 1e-5).all()


@pytest.mark.parametrize("block", [7, 4096])
@pytest.mark.parametrize("sample", [8, 10**6])
def test_no_close_pair_is_missed(monkeypatch: pytest.MonkeyPatch, block: int, sample: int) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    monkeypatch.setattr(neighbours, "_SAMPLE", sample)  # 8: through the sketch
    units = rows(60, 400, copies=12)
    expected = brute(units, 0.7)
    assert len(expected) >= 12
    found = close_pairs(units, least=0.7)
    assert set(map(tuple, found.rows.tolist())) == expected
    assert found.rows.tolist() == sorted(found.rows.tolist())
    np.testing.assert_allclose(found.cosines, pair_cosines(units, found.rows), rtol=1e-6)


def test_keep_sees_bounds_and_decides() -> None:
    units = rows(40, 30, copies=5)
    cosines = units @ units.T

    def keep(pairs: np.ndarray, bound: np.ndarray) -> np.ndarray:
        assert (bound >= cosines[pairs[:, 0], pairs[:, 1]]).all()
        return pairs[:, 0] % 2 == 0

    kept = set(map(tuple, close_pairs(units, least=0.6, keep=keep).rows.tolist()))
    assert kept == {pair for pair in brute(units, 0.6) if pair[0] % 2 == 0}
    assert kept


def test_nothing_is_close_to_nothing() -> None:
    assert close_pairs(np.empty((0, 4), np.float32), least=0.5).rows.shape == (0, 2)
    assert close_pairs(rows(1, 4), least=0.5).rows.shape == (0, 2)


def test_nearest_leaves_out_the_own_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 64)
    units, groups = rows(50, 12), np.arange(50) // 2
    found, cosines = nearest(units, count=3, groups=groups)
    products = np.where(groups[:, None] == groups[None, :], -1, units @ units.T)
    for row in range(50):
        assert set(found[row]) == set(np.argsort(-products[row])[:3])
        np.testing.assert_allclose(sorted(cosines[row]), sorted(products[row])[-3:], rtol=1e-5)
