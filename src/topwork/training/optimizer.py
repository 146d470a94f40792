"""Optimizers from a recipe's phase: parameter groups with layer-wise rates, clipping, and the moving average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from topwork.errors import RecipeError
from topwork.recipe import Phase

__all__ = ["MovingAverage", "make_optimizer", "parameter_groups"]


def parameter_groups(phase: Phase, depths: Sequence[Sequence[nn.Parameter]]) -> list[dict[str, Any]]:
    """Groups for a torch optimizer.

    Args:
        phase: gives `lr`, `weight_decay`, `layer_decay`.
        depths: trainable parameters of the head, of the block below it, and so on; group d learns at
            `lr * layer_decay ** d`. Vectors (biases, norms) are not decayed.
    """
    groups = []
    for depth, parameters in enumerate(depths):
        for decayed in (True, False):
            chosen = [p for p in parameters if p.requires_grad and (p.ndim > 1) == decayed]
            if chosen:
                decay = (phase.weight_decay or 0.0) if decayed else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "peak": phase.lr * phase.layer_decay**depth})
    return groups


def make_optimizer(phase: Phase, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """SGD with momentum, Adam, or AdamW, the last two in one pass over each weight.

    Raises:
        RecipeError: for `lbfgs`, which is no stepwise optimizer.
    """
    if phase.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=phase.momentum)
    if phase.optimizer == "adam":
        return torch.optim.Adam(groups, lr=phase.lr, fused=True)
    if phase.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=phase.lr, fused=True)
    raise RecipeError(
        "The optimizer 'lbfgs' solves a linear head on cached features; it cannot train layers below it.",
        fix="set the phase's optimizer to sgd, adam or adamw.",
    )


class MovingAverage:
    """Exponential moving average of weights and running statistics, which begins at those of the start.

    The decay at step t is min(decay, (1 + t) / (10 + t)), so that the average leaves the start quickly.

    Args:
        live: name -> what is averaged.
        decay: the largest share that a step keeps of the average, in (0, 1).

    Attributes:
        average: name -> average so far.
        steps: taken in so far.
    """

    def __init__(self, live: Mapping[str, torch.Tensor], decay: float) -> None:
        self._live = live
        self._decay = decay
        self.steps = 0
        self.average = {name: p.detach().clone() for name, p in live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        keep = min(self._decay, (1 + self.steps) / (10 + self.steps))
        for name, p in self._live.items():
            self.average[name].lerp_(p, 1 - keep)

    def take_up(self, average: Mapping[str, torch.Tensor], *, steps: int) -> None:
        """Go on from an average of so many steps."""
        self.steps = steps
        for name, value in average.items():
            self.average[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network holds the average inside the block, and its own weights after it."""
        own = {name: p.detach().clone() for name, p in self._live.items()}
        _copy(self.average, self._live)
        try:
            yield
        finally:
            _copy(own, self._live)


@torch.no_grad()
def _copy(source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
    for name, p in target.items():
        p.copy_(source[name])
