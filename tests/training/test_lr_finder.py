"""The range test: nothing is changed by it, its curve has the shape of the theory, its suggestions train."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import pickle
import random
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from topwork.errors import RecipeError
from topwork.measures.predictions import Predictions
from topwork.recipe import LossChoice, Phase, StopChoice
from topwork.training.loop import fit_epochs
from topwork.training.loss import make_loss
from topwork.training.lr_finder import RangeTest, range_test, steepest, valley
from topwork.training.task import Task

PHASE = Phase(epochs=8, optimizer="sgd", schedule="constant", layer_decay=0.5, mixup=0.2)


class Blobs:
    """Three blobs of points in eight shuffled batches an epoch; may fail at a batch."""

    steps = 8

    def __init__(self, fail: int | None = None) -> None:
        chance = np.random.default_rng(0)
        self.labels = chance.integers(3, size=128)
        self.points = (chance.normal(size=(3, 4))[self.labels] * 2 + chance.normal(size=(128, 4))).astype(np.float32)
        self._fail = fail

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        order = np.random.default_rng(number).permutation(128).reshape(8, 16)
        for step in range(start, 8):
            if step == self._fail:
                raise KeyboardInterrupt
            yield torch.from_numpy(self.points[order[step]]), self.labels[order[step]]


def make_task(fail: int | None = None) -> Task:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    feed = Blobs(fail)

    def validate() -> Predictions:
        with torch.no_grad():
            logits = layers(torch.from_numpy(feed.points)).numpy()
        return Predictions(logits=logits, labels=feed.labels, paths=("",) * 128, classes=("a", "b", "c"))

    return Task(
        forward=layers,
        module=layers,
        train_mode=layers.train,
        depths=[list(layers[4].parameters()), [*layers[0].parameters(), *layers[1].parameters()]],
        feed=feed,
        loss=make_loss(LossChoice(), np.array([1, 1, 1])),
        validate=validate,
        classes=("a", "b", "c"),
    )


def fingerprint(task: Task, optimizer: torch.optim.Optimizer) -> str:
    """Of weights, running statistics, gradients, modes, an optimizer's state, and every source of chance."""
    parts = [
        [(name, value.numpy().tobytes()) for name, value in task.module.state_dict().items()],
        [None if p.grad is None else p.grad.numpy().tobytes() for p in task.module.parameters()],
        [part.training for part in task.module.modules()],
        [
            {key: v.numpy().tobytes() if isinstance(v, torch.Tensor) else v for key, v in entry.items()}
            for entry in optimizer.state_dict()["state"].values()
        ],
        [group["lr"] for group in optimizer.param_groups],
        torch.get_rng_state().numpy().tobytes(),
        [part.tobytes() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        random.getstate(),
    ]
    return hashlib.sha256(pickle.dumps(parts)).hexdigest()


@pytest.mark.parametrize("fail", [None, 3], ids=["to its end", "interrupted"])
def test_weights_optimizer_and_chance_are_the_same_afterwards(fail: int | None) -> None:
    task = make_task(fail)
    task.module.eval()
    optimizer = torch.optim.Adam(task.module.parameters())
    task.module(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    before = fingerprint(task, optimizer)
    if fail is None:
        range_test(task, PHASE, number=1)
    else:
        with pytest.raises(KeyboardInterrupt):
            range_test(task, PHASE, number=1)
    assert fingerprint(task, optimizer) == before
    torch.rand(1)
    assert fingerprint(task, optimizer) != before  # the fingerprint can tell


def test_the_curve_falls_and_then_explodes_and_is_the_same_again() -> None:
    curve = range_test(make_task(), PHASE, number=2, test=RangeTest(low=1e-5, high=1e4, steps=120))
    assert curve.diverged
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) < 120
    assert min(curve.smoothed) < 0.8 * curve.smoothed[0] < curve.smoothed[-1]
    assert curve.rates[0] == 1e-5
    assert curve.rates[0] < curve.steepest < curve.rates[-1]
    assert curve.rates[0] < curve.valley < curve.rates[-1]
    torch.manual_seed(77)
    assert range_test(make_task(), PHASE, number=2, test=RangeTest(low=1e-5, high=1e4, steps=120)) == curve


def test_training_at_the_suggestions_is_better_than_far_below_them() -> None:
    task = make_task()
    curve = range_test(task, PHASE, number=1, test=RangeTest(low=1e-5, high=1e3))

    def trained(rate: float) -> float:
        phase = PHASE.model_copy(update={"lr": rate, "epochs": 3})
        return list(fit_epochs(make_task(), phase, number=1, stop=StopChoice()))[-1].val.loss

    slow = trained(1e-3 * min(curve.steepest, curve.valley))
    assert trained(curve.steepest) < 0.8 * slow
    assert trained(curve.valley) < 0.8 * slow


def test_blocks_below_the_head_are_tried_at_their_share() -> None:
    """With a share near 0 only the head moves, so the test equals one of the head alone."""
    plain = PHASE.model_copy(update={"momentum": 0.0, "mixup": 0.0})
    nearly = plain.model_copy(update={"layer_decay": 1e-12})
    frozen = make_task()
    for p in frozen.depths[1]:
        p.requires_grad_(False)
    short = RangeTest(low=1e-3, high=1.0, steps=20)
    by_share = range_test(make_task(), nearly, number=1, test=short).losses
    assert by_share == pytest.approx(range_test(frozen, plain, number=1, test=short).losses, rel=1e-5)
    assert by_share != pytest.approx(range_test(make_task(), plain, number=1, test=short).losses, rel=1e-5)


def test_what_a_gradual_plan_opens_later_is_not_tried() -> None:
    task = make_task()
    below = task.depths[1]
    before = [parameter.detach().clone() for parameter in below]

    def begin(epoch: int) -> None:
        for parameter in below:
            parameter.requires_grad_(epoch > 1)

    seen: list[bool] = []

    def watched(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(any(parameter.requires_grad for parameter in below))
        return task.loss(logits, targets)

    range_test(dataclasses.replace(task, begin=begin, loss=watched), PHASE, number=2, test=RangeTest(steps=20))
    assert seen
    assert not any(seen)
    assert all(parameter.requires_grad for parameter in below)
    assert all(torch.equal(now, then) for now, then in zip(below, before, strict=True))


def test_steepest_and_valley_on_curves_drawn_by_hand() -> None:
    rates = [10.0**k for k in range(-6, 3)]
    curve = [2.0, 2.0, 1.95, 1.8, 1.2, 1.0, 0.95, 3.0, 9.0]
    assert steepest(rates, curve) == pytest.approx(1e-3)  # from 1.8 to 1.2
    assert valley(rates, curve) == pytest.approx(1e-3)  # it falls from the second 2.0 at 1e-5 to 0.95 at 1
    assert steepest(rates, [*curve[:7], 90.0, 2.0]) == pytest.approx(1e-3)  # not where an explosion swings back
    assert valley([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]) == 1.0  # nothing falls: the first of all


@given(st.lists(st.integers(0, 9), min_size=2, max_size=12))
def test_the_valley_is_in_the_longest_fall_of_all(losses: list[int]) -> None:
    """Against a search through all subsequences."""
    count = len(losses)
    falls = []
    for mask in range(1, 2**count):
        chosen = [i for i in range(count) if mask >> i & 1]
        if all(losses[a] > losses[b] for a, b in itertools.pairwise(chosen)):
            falls.append(chosen)
    longest = max(map(len, falls))
    middles = {(fall[0] + fall[-1]) // 2 for fall in falls if len(fall) == longest}
    rates = [10.0**k for k in range(count)]
    assert rates.index(valley(rates, [float(loss) for loss in losses])) in middles


def test_a_test_that_cannot_work_is_refused() -> None:
    for wrong in ({"low": 0.0}, {"low": 2.0, "high": 1.0}, {"high": float("inf")}, {"steps": 5}):
        with pytest.raises(RecipeError):
            RangeTest(**wrong)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="explodes within") as caught:
        range_test(make_task(), PHASE, number=1, test=RangeTest(low=1e6, high=1e9))
    assert "--low 1e+03" in caught.value.fix
