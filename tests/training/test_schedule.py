"""Schedules: inside (0, 1], up and then down, and the same numbers as PyTorch's schedulers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, OneCycleLR, SequentialLR, StepLR

from topwork.recipe import Phase
from topwork.training.schedule import Timeline, lr_factor

NAMES = ("constant", "one-cycle", "cosine", "step")


def factors(name: str, *, warmup: float, steps: int) -> list[float]:
    phase = Phase(schedule=name, warmup=warmup)
    return [lr_factor(phase, step=step, steps=steps) for step in range(steps)]


@given(name=st.sampled_from(NAMES), warmup=st.floats(0, 1), steps=st.integers(1, 80))
def test_every_factor_is_a_share_and_there_is_one_peak(name: str, warmup: float, steps: int) -> None:
    found = factors(name, warmup=warmup, steps=steps)
    assert all(0 < factor <= 1 for factor in found)
    top = found.index(max(found))
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(found[: top + 1]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(found[top:]))


def test_one_cycle_reaches_the_peak_at_its_share_and_then_falls_to_the_end() -> None:
    found = factors("one-cycle", warmup=0.25, steps=101)
    assert (found[0], found[25], found[-1]) == pytest.approx((1 / 25, 1.0, 1e-4))
    half = 25 + 38  # the first step after the middle of the way down
    assert found[half - 1] > (1 + 1e-4) / 2 > found[half]


@pytest.mark.parametrize("name", ["one-cycle", "cosine"])
def test_without_warm_up_it_begins_at_the_peak_and_with_nothing_else_it_only_rises(name: str) -> None:
    assert factors(name, warmup=0.0, steps=10)[0] == 1.0
    rising = factors(name, warmup=1.0, steps=10)
    assert rising == sorted(rising)
    assert rising[-1] > 0.9


def rates(make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], *, steps: int) -> list[float]:
    """What a scheduler of PyTorch gives for so many steps at a peak of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("warmup", [0.1, 0.3, 0.5])
def test_one_cycle_is_pytorchs(warmup: float) -> None:
    """PyTorch's peak stands at step pct_start * steps - 1, ours at warmup * (steps - 1)."""
    steps, end = 60, 1e-4
    given = {"max_lr": 1.0, "total_steps": steps, "div_factor": 25.0, "final_div_factor": 1 / 25 / end}
    share = (warmup * (steps - 1) + 1) / steps
    expected = rates(lambda o: OneCycleLR(o, pct_start=share, cycle_momentum=False, **given), steps=steps)
    assert factors("one-cycle", warmup=warmup, steps=steps) == pytest.approx(expected, abs=1e-9)


def test_cosine_is_pytorchs_with_and_without_linear_warm_up() -> None:
    plain = rates(lambda o: CosineAnnealingLR(o, T_max=40), steps=40)
    assert factors("cosine", warmup=0.0, steps=40) == pytest.approx(plain, abs=1e-9)

    def warmed(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        legs = [LinearLR(optimizer, 1 / 11, total_iters=10), CosineAnnealingLR(optimizer, T_max=30)]
        return SequentialLR(optimizer, legs, milestones=[10])

    assert factors("cosine", warmup=0.25, steps=40) == pytest.approx(rates(warmed, steps=40), abs=1e-9)


def test_step_and_constant_are_pytorchs() -> None:
    expected = rates(lambda o: StepLR(o, step_size=7, gamma=0.1), steps=21)
    assert factors("step", warmup=0.3, steps=21) == pytest.approx(expected)
    assert factors("constant", warmup=0.3, steps=5) == rates(lambda o: LambdaLR(o, lambda _: 1.0), steps=5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9, 1.0])
def test_no_step_is_taken_at_rate_0(name: str, warmup: float) -> None:
    assert min(factors(name, warmup=warmup, steps=37)) > 0


def test_steps_are_a_tenth_after_each_third() -> None:
    assert factors("step", warmup=0.3, steps=9) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    assert factors("constant", warmup=0.3, steps=3) == [1, 1, 1]


@pytest.mark.parametrize("name", ["one-cycle", "cosine"])
def test_no_jump_between_steps(name: str) -> None:
    found = factors(name, warmup=0.3, steps=1000)
    assert max(abs(a - b) for a, b in itertools.pairwise(found)) < 0.01


def run_through(phase: Phase, *, steps: int, plan: dict[int, int] | None = None) -> list[list[float]]:
    """Factors by epoch; `plan` takes epochs away: epochs done -> epochs in all."""
    timeline = Timeline(phase, steps=steps)
    found = []
    while timeline.done < timeline.epochs:
        found.append([timeline.factor(step) for step in range(steps)])
        timeline.end_epoch((plan or {}).get(timeline.done + 1))
    return found


@given(name=st.sampled_from(NAMES), warmup=st.floats(0, 1), epochs=st.integers(0, 9), steps=st.integers(1, 9))
def test_a_timeline_that_is_left_alone_is_the_schedule(name: str, warmup: float, epochs: int, steps: int) -> None:
    phase = Phase(schedule=name, warmup=warmup, epochs=epochs)
    found = [factor for epoch in run_through(phase, steps=steps) for factor in epoch]
    assert found == [lr_factor(phase, step=step, steps=epochs * steps) for step in range(epochs * steps)]


@given(
    name=st.sampled_from(["one-cycle", "cosine"]),
    epochs=st.integers(2, 12),
    steps=st.integers(2, 30),
    data=st.data(),
)
def test_a_shortened_timeline_goes_on_where_it_was_and_still_anneals(
    name: str, epochs: int, steps: int, data: st.DataObject
) -> None:
    phase = Phase(schedule=name, warmup=0.3, epochs=epochs)
    after = data.draw(st.integers(1, epochs - 1))
    total = data.draw(st.integers(after + 1, epochs))
    whole, found = run_through(phase, steps=steps), run_through(phase, steps=steps, plan={after: total})
    assert len(found) == total
    assert found[:after] == whole[:after]
    assert found[after][0] == pytest.approx(whole[after][0])  # no jump
    assert found[-1][-1] == pytest.approx(whole[-1][-1], abs=1e-9)
    assert all(0 < factor <= 1 for epoch in found for factor in epoch)


def test_a_recorded_plan_repeats_what_the_clock_decided() -> None:
    phase = Phase(schedule="one-cycle", epochs=8)
    by_clock = run_through(phase, steps=5, plan={2: 6, 4: 5})
    recorded = Phase(schedule="one-cycle", epochs=8, replanned=((2, 6), (4, 5)))
    assert run_through(recorded, steps=5) == by_clock
    assert run_through(Phase(epochs=8, replanned=((0, 0),)), steps=5) == []


def test_epochs_are_never_added_and_those_that_are_over_stay() -> None:
    timeline = Timeline(Phase(epochs=3), steps=2)
    timeline.end_epoch(9)
    assert timeline.epochs == 3
    timeline.end_epoch(0)
    assert (timeline.epochs, timeline.done) == (2, 2)


def test_who_goes_on_after_a_stop_knows_of_epochs_that_were_given_up_half_way() -> None:
    stopped = Timeline(Phase(epochs=6), steps=5)
    for _ in range(3):
        stopped.end_epoch()
    again = Timeline(Phase(epochs=6, replanned=((3, 3),)), steps=5)
    again.take_up(stopped.to_json())
    assert (again.done, again.epochs) == (3, 3)
