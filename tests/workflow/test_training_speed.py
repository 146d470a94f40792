"""Seconds of training, told by a clock that the test turns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from topwork.recipe import Recipe, load_recipe
from topwork.workflow import training_speed
from topwork.workflow.prepare import Network, network_for
from topwork.workflow.training_speed import activation_shape, head_seconds, top_seconds

TINY = ("backbone.name=test_efficientnet", "backbone.weights=none", "data.image_size=64", "phase2.train=top-1 blocks")


class Clock:
    """Steps take a second each, the first two of a measurement a hundred."""

    def __init__(self) -> None:
        self.now = 0.0
        self.batches: list[tuple[int, ...]] = []

    def perf_counter(self) -> float:
        return self.now

    def step(self, task: Any, phase: Any, *, inputs: torch.Tensor, **_: Any) -> tuple[torch.Tensor, float]:
        self.batches.append(tuple(inputs.shape))
        first = len(self.batches) % training_speed._Noise.steps in (1, 2)
        self.now += 100.0 if first else 1.0
        return torch.zeros(()), 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(training_speed, "time", turned)
    monkeypatch.setattr(training_speed, "gradient_step", turned.step)
    return turned


def _made(*settings: str) -> tuple[Recipe, Network]:
    recipe = load_recipe("default", [*TINY, *settings])
    return recipe, network_for(recipe)


def _top(recipe: Recipe, network: Network) -> tuple[float, float]:
    assert network.plan is not None
    return top_seconds(recipe, network, shape=activation_shape(network.build(), network.plan), classes=3)


def test_steps_that_allocate_do_not_count_and_batches_are_of_the_recipe_s_size(clock: Clock) -> None:
    recipe, network = _made("phase2.batch_size=8")
    seconds, _ = _top(recipe, network)
    assert seconds == pytest.approx(1 / 8)
    assert {shape[0] for shape in clock.batches} == {8}


def test_an_epoch_of_the_head_has_as_many_steps_as_its_batches_need(clock: Clock) -> None:
    recipe, network = _made("head.kind=linear", "phase1.optimizer=adamw", "phase1.batch_size=50")
    seconds = head_seconds(recipe, network, photos=1000, judged=100, classes=3)
    assert seconds == pytest.approx(20, abs=0.1)
    assert {shape[0] for shape in clock.batches} == {50}


def test_a_kernel_head_is_solved_after_training_and_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What trains in phase 2 is the linear head, which costs a fraction of a kernel with its landmarks."""
    heads = []

    def seen(task: Any, phase: Any, **_: Any) -> tuple[torch.Tensor, float]:
        heads.append(task.module.head)
        return torch.zeros(()), 0.0

    monkeypatch.setattr(training_speed, "gradient_step", seen)
    recipe, network = _made()
    assert recipe.head.kind == "kernel"
    _top(recipe, network)
    assert all(isinstance(head, torch.nn.Sequential) for head in heads)


def test_nothing_is_learned_and_no_chance_is_used_up() -> None:
    recipe, network = _made()
    before = {name: value.clone() for name, value in network.build().state_dict().items()}
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    train, judge = _top(recipe, network)
    assert min(train, judge) > 0
    assert torch.equal(torch.get_rng_state(), expected)
    after = network.build().state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
