"""Plans keep to their time, more time never gives less, and what is cached costs nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.recipe import load_recipe
from topwork.workflow.budget import Plan, Rates, Rung, choose_plan, shortest_plan

SECONDS = st.floats(1, 2000)
HEAD = Rung(train="head", depth=0, open=10.0, clean=3000)


def rung(depth: int, *, speed: float = 100.0, missing: int = 2400, epochs: int = 8) -> Rung:
    return Rung(
        train=f"top-{depth} blocks",
        depth=depth,
        clean=3000,
        views=(missing,) * 8,
        train_seconds=1 / speed,
        judge_seconds=0.3 / speed,
        prepare=2.0,
        epochs=epochs,
    )


RATES = Rates(
    trunk=250.0,
    photos=2400,
    judged=300,
    everything=3000,
    head=2.0,
    fixed={"evaluate": 1.0, "pack": 0.5, "report": 3.0},
)


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[Rung], Rates]:
    """Two rungs and the head on a machine of any speed, with any part of the views cached."""
    speed = draw(st.floats(5, 1000))
    rungs = [
        replace(rung(2, speed=speed), views=tuple(draw(st.lists(st.integers(0, 2400), max_size=8)))),
        rung(
            1, speed=speed * draw(st.floats(1, 6)), missing=draw(st.integers(0, 2400)), epochs=draw(st.integers(1, 12))
        ),
        replace(HEAD, clean=draw(st.integers(0, 3000))),
    ]
    rates = replace(RATES, trunk=draw(st.floats(10, 1000)), head=draw(st.floats(0.1, 5)))
    return rungs, replace(rates, head_epochs=draw(st.integers(1, 50)))


@given(machine=machines(), seconds=SECONDS)
def test_no_plan_is_forecast_over_its_time(machine: tuple[list[Rung], Rates], seconds: float) -> None:
    rungs, rates = machine
    plan = choose_plan(rungs, rates, seconds=seconds)
    if plan is None:
        assert shortest_plan(rungs, rates).total > seconds
    else:
        assert plan.total <= seconds + 1e-6
        assert plan.views <= max(plan.epochs, 0)
        assert 1 <= plan.head_epochs <= rates.head_epochs


@given(machine=machines(), one=SECONDS, other=SECONDS)
def test_more_time_never_gives_fewer_views_times_epochs(
    machine: tuple[list[Rung], Rates], one: float, other: float
) -> None:
    less, more = (choose_plan(*machine, seconds=seconds) for seconds in sorted((one, other)))
    if less is not None:
        assert more is not None
        assert more.passes >= less.passes


@given(machine=machines(), seconds=SECONDS)
def test_what_is_cached_is_free(machine: tuple[list[Rung], Rates], seconds: float) -> None:
    rungs, rates = machine
    warm = [replace(r, clean=0, views=(0,) * len(r.views)) for r in rungs]
    plan, cold = choose_plan(warm, rates, seconds=seconds), choose_plan(rungs, rates, seconds=seconds)
    assert plan is None or plan.seconds["trunk"] == 0.0
    if cold is not None:
        assert plan is not None
        assert plan.passes >= cold.passes


def test_plenty_of_time_gives_the_recipe_and_no_more() -> None:
    plan = choose_plan([rung(2), rung(1, speed=400), HEAD], RATES, seconds=1e6)
    assert plan is not None
    assert (plan.train, plan.views, plan.epochs) == ("top-2 blocks", 8, 8)
    by_hand = {
        "trunk": (3000 + 8 * 2400) / 250,
        "phase 1": 2.0,
        "prepare phase 2": 2.0,
        "phase 2": 8 * (2400 / 100 + 300 * 0.3 / 100),
        "predict": 3000 * 0.3 / 100,
        **RATES.fixed,
    }
    assert dict(plan.seconds) == pytest.approx(by_hand)
    assert plan.after("phase 2") == pytest.approx(by_hand["predict"] + 4.5)


def test_as_time_runs_short_blocks_go_first_then_views_and_epochs_then_the_top() -> None:
    rungs = [rung(2), rung(1, speed=400), HEAD]
    plans = [choose_plan(rungs, RATES, seconds=seconds) for seconds in (400, 250, 100, 35)]
    said = [(plan.train, plan.views, plan.epochs) for plan in plans if plan is not None]
    assert said[0] == ("top-2 blocks", 8, 8)
    assert said[1] == ("top-1 blocks", 8, 8)
    assert said[2][0] == "top-1 blocks"
    assert 0 < said[2][1] <= said[2][2] < 8
    assert said[3] == ("head", 0, 0)
    assert choose_plan(rungs, RATES, seconds=20) is None


def test_a_head_that_is_trained_by_steps_gets_as_many_epochs_as_fit() -> None:
    rates = replace(RATES, head=1.0, head_epochs=100)
    least = shortest_plan([HEAD], rates).total
    plan = choose_plan([HEAD], rates, seconds=least + 9.5)
    assert plan is not None
    assert plan.head_epochs == 10
    assert plan.total == pytest.approx(least + 9)


def test_fresh_views_cost_the_trunk_in_every_epoch() -> None:
    fresh = replace(rung(2), views=(), fresh=True)
    plan = choose_plan([fresh, HEAD], RATES, seconds=1e6)
    assert plan is not None
    assert plan.fresh
    assert plan.epoch_seconds == pytest.approx(24 + 0.9 + 2400 / 250)


def test_fresh_views_cost_what_they_cost_where_no_trunk_makes_them() -> None:
    fresh = replace(rung(2), views=(), fresh=True)
    slow, fast = (choose_plan([fresh, HEAD], replace(RATES, fresh=rate), seconds=1e6) for rate in (None, 10 * 250.0))
    assert slow is not None
    assert fast is not None
    assert slow.seconds["phase 2"] - fast.seconds["phase 2"] == pytest.approx(slow.epochs * 0.9 * 2400 / 250)
    assert slow.seconds["trunk"] == fast.seconds["trunk"]


def test_a_plan_is_a_recipe_that_repeats_it() -> None:
    recipe = load_recipe("default")
    plan = choose_plan([rung(2), rung(1, speed=400), HEAD], RATES, seconds=250)
    assert isinstance(plan, Plan)
    applied = plan.applied(recipe)
    assert (applied.phase2.train, applied.phase2.epochs, applied.data.views) == ("top-1 blocks", 8, "fixed:8")
    assert plan.applied(applied) == applied
    head = choose_plan([HEAD], RATES, seconds=60)
    assert head is not None
    assert head.applied(recipe).phase2.epochs == 0
    assert "head only" in str(head)
    assert "top-1 blocks, 8 epochs on 8 views" in str(plan)
