"""Schedules: inside [0, 1], up and then down, with the ends that their papers state."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.recipe import Phase
from topwork.training.schedule import lr_factor

NAMES = ("constant", "one-cycle", "cosine", "step")


def factors(name: str, *, warmup: float, steps: int) -> list[float]:
    phase = Phase(schedule=name, warmup=warmup)
    return [lr_factor(phase, step=step, steps=steps) for step in range(steps)]


@given(name=st.sampled_from(NAMES), warmup=st.floats(0, 1), steps=st.integers(1, 80))
def test_every_factor_is_a_share_and_there_is_one_peak(name: str, warmup: float, steps: int) -> None:
    found = factors(name, warmup=warmup, steps=steps)
    assert all(0 <= factor <= 1 for factor in found)
    top = found.index(max(found))
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(found[: top + 1]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(found[top:]))


@pytest.mark.parametrize(("name", "first", "last"), [("one-cycle", 1 / 25, 1e-4), ("cosine", 0.0, 0.0)])
def test_warm_up_reaches_the_peak_at_its_share_and_then_falls_to_the_end(name: str, first: float, last: float) -> None:
    found = factors(name, warmup=0.25, steps=101)
    assert found[0] == pytest.approx(first)
    assert found[25] == pytest.approx(1.0)
    assert found[-1] == pytest.approx(last)
    half = 25 + 38  # the first step after the middle of the way down
    assert found[half - 1] > (1 + last) / 2 > found[half]


@pytest.mark.parametrize("name", ["one-cycle", "cosine"])
def test_without_warm_up_it_begins_at_the_peak_and_with_nothing_else_it_ends_there(name: str) -> None:
    assert factors(name, warmup=0.0, steps=10)[0] == 1.0
    assert factors(name, warmup=1.0, steps=10)[-1] == pytest.approx(1.0)


def test_steps_are_a_tenth_after_each_third() -> None:
    assert factors("step", warmup=0.3, steps=9) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    assert factors("constant", warmup=0.3, steps=3) == [1, 1, 1]


@pytest.mark.parametrize("name", ["one-cycle", "cosine"])
def test_no_jump_between_steps(name: str) -> None:
    found = factors(name, warmup=0.3, steps=1000)
    assert max(abs(a - b) for a, b in itertools.pairwise(found)) < 0.01
