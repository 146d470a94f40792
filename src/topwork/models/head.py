"""The new classifier on top: pooled features -> logits. Knows nothing about backbones."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from topwork.models.kernel_head import KernelHead
from topwork.recipe import HeadChoice

__all__ = ["build_head", "choice_of"]


def build_head(choice: HeadChoice, *, width: int, classes: int) -> nn.Module:
    """[Linear, BatchNorm if chosen, ReLU] for every hidden layer, then Dropout, then the last Linear, `logits`.

    A head of kind `kernel` is a `KernelHead` instead, without landmarks yet.

    Args:
        choice: the recipe's head section.
        width: D of the pooled features (N,D).
        classes: K of the logits (N,K), >= 2.

    Returns:
        A head in training mode, initialised from torch's current random state.

    Raises:
        ValueError: if there are fewer than 2 classes or no features.

    Example:
        >>> [name for name, _ in build_head(HeadChoice(hidden=(8,)), width=4, classes=3).named_children()]
        ['hidden0', 'relu0', 'dropout', 'logits']
    """
    if classes < 2 or width < 1:
        raise ValueError(f"A head must have width >= 1 and classes >= 2. Got width={width}, classes={classes}.")
    if choice.kind == "kernel":
        return KernelHead(width, landmarks=choice.landmarks, classes=classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, units in enumerate(choice.hidden):
        layers[f"hidden{number}"] = nn.Linear(width, units, bias=not choice.batchnorm)  # BatchNorm brings its own bias
        if choice.batchnorm:
            layers[f"norm{number}"] = nn.BatchNorm1d(units)
        layers[f"relu{number}"] = nn.ReLU()
        width = units
    layers["dropout"] = nn.Dropout(choice.dropout)
    layers["logits"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def choice_of(head: nn.Module, choice: HeadChoice) -> HeadChoice:
    """The recipe's choice with what training settled: `build_head` makes a head of this one's shapes from it."""
    if isinstance(head, KernelHead):
        return choice.model_copy(update={"landmarks": len(head.landmarks)})
    return choice.model_copy(update={"kind": "linear"})
