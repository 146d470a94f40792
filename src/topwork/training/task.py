"""`Task`: what a phase trains, on what, and how it is judged. Knows not for how long, nor with which optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from topwork.measures.predictions import Predictions
from topwork.training.feeds import Feed
from topwork.training.loss import Loss

__all__ = ["Task", "Weights", "holding", "snapshot"]

Weights = dict[str, torch.Tensor]
"""Name, as in the module's state -> a copy of the tensor."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained, on what, and how it is judged.

    Args:
        forward: inputs of the feed (B,...) -> logits (B,K).
        module: owns the weights; put in training mode by `train_mode`.
        train_mode: puts what learns in training mode and leaves the rest in evaluation mode.
        depths: trainable parameters of the head, of the block below it, and so on.
        feed: batches of an epoch.
        loss: of logits and target probabilities.
        validate: predictions on the clean validation view at this moment.
        classes: names.
        bf16: whether forward and backward passes run in bfloat16 where torch deems that safe.
        seed: of mixing and dropout.
        begin: told the number of an epoch, from 1, before it begins; None where all epochs are alike.
    """

    forward: Callable[[torch.Tensor], torch.Tensor]
    module: nn.Module
    train_mode: Callable[[], None]
    depths: Sequence[Sequence[nn.Parameter]]
    feed: Feed
    loss: Loss
    validate: Callable[[], Predictions]
    classes: tuple[str, ...]
    bf16: bool = False
    seed: int = 0
    begin: Callable[[int], None] | None = None

    def trainable(self) -> Mapping[str, nn.Parameter]:
        """Name -> parameter, of those that learn."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def averaged(self) -> Mapping[str, torch.Tensor]:
        """What a moving average follows: parameters that learn, and running statistics, which belong to them."""
        statistics = {name: value for name, value in self.module.named_buffers() if value.is_floating_point()}
        return {**self.trainable(), **statistics}


def snapshot(module: nn.Module) -> Weights:
    """Copies of all that training can change: parameters that learn, and buffers such as running statistics."""
    return {
        name: value.detach().clone()
        for name, value in module.state_dict(keep_vars=True).items()
        if value.requires_grad or not isinstance(value, nn.Parameter)
    }


@contextmanager
def holding(module: nn.Module, weights: Weights) -> Iterator[None]:
    """Inside the block the module holds these weights where they name some, and its own again after it."""
    own = {name: value.detach().clone() for name, value in module.state_dict().items() if name in weights}
    module.load_state_dict(weights, strict=False)
    try:
        yield
    finally:
        module.load_state_dict(own, strict=False)
