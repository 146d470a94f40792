"""Optimizers against PyTorch's own, used the plain way; the moving average against `torch.optim.swa_utils`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from topwork.errors import RecipeError
from topwork.measures.predictions import Predictions
from topwork.recipe import LossChoice, Phase, StopChoice
from topwork.training.loop import fit_epochs
from topwork.training.loss import make_loss
from topwork.training.optimizer import MovingAverage, make_optimizer, parameter_groups
from topwork.training.task import Task

STEPS, EPOCHS = 5, 4
LAST = StopChoice(patience=1000, keep="last")


class Noise:
    """Five batches of eight random points with random labels, the same in every epoch."""

    steps = STEPS

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.points = torch.from_numpy(random.normal(size=(STEPS, 8, 4)).astype(np.float32))
        self.labels = random.integers(3, size=(STEPS, 8))

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        return iter(list(zip(self.points, self.labels, strict=True))[start:])


def network() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def fitted(phase: Phase) -> nn.Sequential:
    """What topwork's loop makes of the network."""
    module, feed = network(), Noise()
    some = Predictions(logits=np.eye(3), labels=np.arange(3), paths=("",) * 3, classes=("a", "b", "c"))
    task = Task(
        forward=module,
        module=module,
        train_mode=module.train,
        depths=[list(module[2].parameters()), list(module[0].parameters())],
        feed=feed,
        loss=make_loss(LossChoice(), np.array([1, 1, 1])),
        validate=lambda: some,
        classes=some.classes,
    )
    assert len(list(fit_epochs(task, phase, number=1, stop=LAST))) == phase.epochs
    return module


def plain(make: Any, schedule: Any = None, *, clip: float | None = None) -> nn.Sequential:
    """The same by hand: PyTorch's optimizer, scheduler and clipping, as its documentation shows them."""
    module, feed = network(), Noise()
    head, body = module[2], module[0]
    decayed, free = [head.weight, body.weight], [head.bias, body.bias]
    optimizer = make(decayed, free)
    scheduler = schedule(optimizer) if schedule else None
    for epoch in range(EPOCHS):
        for points, labels in feed.epoch(epoch):
            optimizer.zero_grad()
            F.cross_entropy(module(points), torch.from_numpy(labels)).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
            if scheduler:
                scheduler.step()
    return module


def same(one: nn.Module, two: nn.Module) -> None:
    for found, expected in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def groups(decayed: list[nn.Parameter], free: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    return [{"params": decayed, "weight_decay": decay}, {"params": free, "weight_decay": 0.0}]


BASE = Phase(epochs=EPOCHS, lr=0.05, schedule="constant", weight_decay=0.1)


def test_sgd_with_momentum_and_clipping_is_pytorchs() -> None:
    phase = BASE.model_copy(update={"optimizer": "sgd", "momentum": 0.8, "clip_norm": 0.3})
    expected = plain(lambda d, f: torch.optim.SGD(groups(d, f, 0.1), lr=0.05, momentum=0.8), clip=0.3)
    same(fitted(phase), expected)


def test_adam_decays_in_the_gradient_and_adamw_beside_it() -> None:
    adam = plain(lambda d, f: torch.optim.Adam(groups(d, f, 0.1), lr=0.05))
    adamw = plain(lambda d, f: torch.optim.AdamW(groups(d, f, 0.1), lr=0.05))
    same(fitted(BASE.model_copy(update={"optimizer": "adam"})), adam)
    same(fitted(BASE.model_copy(update={"optimizer": "adamw"})), adamw)
    assert float((adam[0].weight - adamw[0].weight).detach().abs().max()) > 1e-3


def test_a_scheduled_fit_is_pytorchs_sgd_with_its_scheduler() -> None:
    steps = EPOCHS * STEPS
    phase = BASE.model_copy(update={"optimizer": "sgd", "schedule": "cosine", "warmup": 0.0, "weight_decay": 0.0})
    expected = plain(
        lambda d, f: torch.optim.SGD(groups(d, f, 0.0), lr=0.05, momentum=0.9),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps),
    )
    same(fitted(phase), expected)


def test_layer_decay_is_a_rate_of_its_own_for_every_depth() -> None:
    def by_depth(decayed: list[nn.Parameter], free: list[nn.Parameter]) -> torch.optim.Optimizer:
        (head, body), (head_bias, body_bias) = decayed, free
        slow = {"lr": 0.05 * 0.5, "weight_decay": 0.0}
        fast = {"lr": 0.05, "weight_decay": 0.0}
        return torch.optim.AdamW([{"params": [head, head_bias], **fast}, {"params": [body, body_bias], **slow}])

    phase = BASE.model_copy(update={"layer_decay": 0.5, "weight_decay": None})
    same(fitted(phase), plain(by_depth))


def test_vectors_are_not_decayed_and_frozen_parameters_are_in_no_group() -> None:
    layer = nn.Linear(3, 2)
    norm = nn.BatchNorm1d(2)
    norm.weight.requires_grad_(False)
    found = parameter_groups(BASE, [list(layer.parameters()), list(norm.parameters())])
    assert [(group["weight_decay"], len(group["params"])) for group in found] == [(0.1, 1), (0.0, 1), (0.0, 1)]
    assert all(norm.weight is not p for group in found for p in group["params"])


def test_lbfgs_is_no_stepwise_optimizer() -> None:
    with pytest.raises(RecipeError, match="lbfgs"):
        make_optimizer(Phase(optimizer="lbfgs"), [])


def test_the_moving_average_is_pytorchs_with_the_same_decay() -> None:
    live = nn.Linear(3, 2)
    ours = MovingAverage(dict(live.named_parameters()), 0.6)

    def follow(average: torch.Tensor, now: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        keep = min(0.6, (1 + int(count)) / (10 + int(count)))
        return keep * average + (1 - keep) * now

    theirs = AveragedModel(live, avg_fn=follow)
    theirs.update_parameters(live)  # the first call copies
    for step in range(30):
        with torch.no_grad():
            for p in live.parameters():
                p.add_(torch.full_like(p, 0.1 * (-1) ** step + 0.01))
        ours.update()
        theirs.update_parameters(live)
    for name, p in theirs.module.named_parameters():
        torch.testing.assert_close(ours.average[name], p.detach())


def test_the_average_stands_in_for_the_weights_only_inside_the_block() -> None:
    live = nn.Linear(3, 2)
    average = MovingAverage(dict(live.named_parameters()), 0.9)
    with torch.no_grad():
        live.weight.add_(1.0)
    own = live.weight.detach().clone()

    def interrupted() -> None:
        with average.applied():
            assert torch.equal(live.weight, average.average["weight"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(live.weight, own)
