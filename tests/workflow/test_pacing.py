"""A clock that runs slow: epochs are given up in time, and the whole stays within 110 % of its minutes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.errors import ResourceError
from topwork.progress import silent
from topwork.recipe import Phase
from topwork.workflow.pacing import Budget, OutOfTime, PacedFeed, Pacer, WatchedProgress

STEPS = 20


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A feed whose batches take so many seconds each."""

    steps = STEPS

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        for _ in range(start, self.steps):
            yield None
            self._clock.now += self._seconds


def train(clock: Clock, pacer: Pacer, *, epochs: int, epoch: float) -> int:
    """What `fit_epochs` does with a pace, as far as the clock sees it; epochs that were completed."""
    feed = PacedFeed(Slow(clock, epoch / STEPS), pacer)
    total, done = pacer.begin(epochs), 0
    with pacer.cut_short():
        while done < total:
            for _ in feed.epoch(done + 1):
                pass
            done += 1
            total = pacer(done, total)
    return done


@given(
    slow=st.floats(1, 3),
    epochs=st.integers(1, 40),
    before=st.floats(0, 0.6),
    share=st.floats(0.01, 0.35),
    tail=st.floats(0, 0.1),
)
def test_a_machine_that_turns_slow_stays_within_110_percent(
    slow: float, epochs: int, before: float, share: float, tail: float
) -> None:
    """Fractions of the limit: spent before, forecast for an epoch, forecast for all that follows training."""
    clock = Clock()
    budget = Budget(minutes=3, clock=clock)
    clock.now += before * budget.limit
    planned = min(epochs, int((0.95 - before - tail) / share))
    if planned < 1:
        return
    epoch, reserve = share * budget.limit, tail * budget.limit
    pacer = Pacer(budget, epoch=epoch, reserve=reserve)
    done = train(clock, pacer, epochs=planned, epoch=slow * epoch)
    clock.now += slow * reserve
    assert budget.elapsed <= 1.1 * budget.limit
    if done < planned:
        assert pacer.replanned[-1][1] == done


def test_a_machine_that_keeps_its_speed_loses_nothing() -> None:
    clock = Clock()
    budget = Budget(minutes=2, clock=clock)
    pacer = Pacer(budget, epoch=10, reserve=10)
    assert train(clock, pacer, epochs=10, epoch=10) == 10
    assert pacer.replanned == []


def test_epochs_are_given_up_one_by_one_and_the_recipe_can_repeat_it() -> None:
    clock = Clock()
    budget = Budget(minutes=2, clock=clock)
    pacer = Pacer(budget, epoch=10, reserve=10)
    phase = pacer.started(Phase(epochs=10))
    assert phase.replanned == ()
    assert train(clock, pacer, epochs=10, epoch=20) == 5
    assert pacer.replanned == [(1, 5)]


def test_an_epoch_that_cannot_end_is_broken_off_early_and_whoever_listens_is_told() -> None:
    clock = Clock()
    budget = Budget(minutes=1, clock=clock)
    pacer = Pacer(budget, epoch=40, reserve=5)
    told: list[int] = []
    pacer.on_change = lambda: told.append(len(pacer.replanned))
    assert train(clock, pacer, epochs=1, epoch=400) == 0
    assert pacer.replanned == [(0, 0)]
    assert told == [1]
    assert budget.elapsed < 0.75 * budget.limit


def test_a_stage_that_cannot_end_is_broken_off_and_says_what_would_do() -> None:
    clock = Clock()
    budget = Budget(minutes=1, clock=clock)
    watched = WatchedProgress(silent, budget)
    watched.reserve = 10
    watched.step("trunk", 0, 100)
    for done in range(1, 10):
        clock.now += 1
        watched.step("trunk", done, 100)
    clock.now += 1
    with pytest.raises(OutOfTime, match=r"takes about 1\.8 minutes") as caught:
        watched.step("trunk", 10, 100)
    assert caught.value.fix.startswith("give --minutes 2")


def test_a_stage_that_waits_until_time_is_over_is_broken_off() -> None:
    clock = Clock()
    watched = WatchedProgress(silent, Budget(minutes=1, clock=clock))
    watched.reserve = 20
    for _ in range(40):
        watched.step("waiting for another process", 0, 1)
        clock.now += 1
    clock.now += 10
    with pytest.raises(OutOfTime, match="over before this could begin: waiting for another process"):
        watched.step("waiting for another process", 0, 1)


def test_a_stage_in_time_is_left_alone_whatever_the_total() -> None:
    clock = Clock()
    watched = WatchedProgress(silent, Budget(minutes=1, clock=clock))
    for total in (0, 1, 50):
        for done in range(total + 1):
            watched.step(f"stage of {total}", done, total)
            clock.now += 0.2


@pytest.mark.parametrize("minutes", [0.0, -3.0, float("nan"), float("inf")])
def test_minutes_must_be_a_positive_number(minutes: float) -> None:
    with pytest.raises(ResourceError, match=r"positive number\. Got") as caught:
        Budget(minutes=minutes)
    assert "--minutes" in caught.value.fix
