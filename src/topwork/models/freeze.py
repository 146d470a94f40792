"""`FreezePlan`: which layers train, which BatchNorms move, and where the cut is. Plan, print, then apply.

Knows nothing about heads, losses or epochs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch.nn.modules.batchnorm import _BatchNorm

from topwork.errors import RecipeError
from topwork.models.layers import Layer

if TYPE_CHECKING:
    from topwork.models.backbone import Backbone

__all__ = ["FreezePlan", "apply_freeze", "plan_freeze", "set_training_mode"]


@dataclass(frozen=True, kw_only=True)
class FreezePlan:
    """What of a backbone trains.

    Args:
        train: as it was asked for.
        blocks: names of all blocks, in execution order.
        layers: how many layers the backbone has.
        trainable: the layers that train, in execution order; empty if only the head does.
        moving: module names of the BatchNorms whose running statistics follow the new data.
        cut: number of blocks below the last boundary under the first layer that trains; `len(blocks)` if none does.
        every: epochs between two blocks that open, for `gradual`; 0 if everything trains from the first epoch on.
    """

    train: str
    blocks: tuple[str, ...]
    layers: int
    trainable: tuple[Layer, ...]
    moving: tuple[str, ...]
    cut: int
    every: int = 0

    def at(self, epoch: int) -> FreezePlan:
        """What trains in an epoch, counted from 1: of a gradual plan the blocks that are open by then."""
        if not self.every:
            return self
        opened = self.trainable_blocks[-(1 + (epoch - 1) // self.every) :]
        trainable = tuple(layer for layer in self.trainable if layer.block in opened)
        own = {layer.name for layer in trainable}
        moving = tuple(name for name in self.moving if name in own)
        return replace(self, trainable=trainable, moving=moving, cut=self.blocks.index(opened[0]), every=0)

    @property
    def head_only(self) -> bool:
        """Whether nothing in the backbone trains, so that pooled features can be computed once."""
        return not self.parameters

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names, as in `backbone.named_parameters()`, of what trains."""
        return tuple(name for layer in self.trainable for name in layer.parameters)

    @property
    def trainable_blocks(self) -> tuple[str, ...]:
        """Blocks with something that trains, in execution order."""
        with_any = {layer.block for layer in self.trainable if layer.parameters}
        return tuple(block for block in self.blocks if block in with_any)

    @property
    def size(self) -> int:
        """How many numbers train."""
        return sum(layer.size for layer in self.trainable)

    def __str__(self) -> str:
        if self.head_only:
            return f"freeze {_all(self.blocks)}, train the head"
        trained = self.trainable_blocks
        frozen = tuple(block for block in self.blocks if block not in trained)
        if self.every:
            opening = ", ".join(f"{name} from epoch {1 + n * self.every}" for n, name in enumerate(reversed(trained)))
            text = f"freeze {len(frozen)} of {len(self.blocks)} blocks, train {opening}"
        elif re.fullmatch(r"top-\d+ layers?", self.train):
            count = self.layers - len(self.trainable)
            below = f"cut above {self.blocks[self.cut - 1]}" if self.cut else "no cut"
            first = self.trainable[0].name
            text = f"freeze {count} of {self.layers} layers, train {len(self.trainable)} (from {first}; {below})"
        elif frozen:
            held = _span(frozen) if frozen == self.blocks[: len(frozen)] else ", ".join(frozen)
            of = f"{len(frozen)} of {len(self.blocks)} blocks"
            text = f"freeze {of} ({held}), train {len(trained)} ({', '.join(trained)})"
        else:
            text = f"train {_all(self.blocks)}"
        return f"{text}; {len(self.moving)} BatchNorm statistics update" if self.moving else text


def plan_freeze(
    train: str | Sequence[str],
    layers: Sequence[Layer],
    *,
    batchnorm: Literal["frozen", "update"] = "frozen",
    epochs: int = 1,
    every: int = 1,
) -> FreezePlan:
    """Decide what trains; nothing is changed.

    Args:
        train: `head` or `none` (nothing in the backbone), `all`, `top-N blocks`, `top-N layers`, `gradual` (the top
            block, then one more every few epochs), a block's name, or several.
        layers: of the backbone, from `list_layers`.
        batchnorm: `update` lets the running statistics of BatchNorms that train move.
        epochs: of the phase; with `every` it decides how deep `gradual` comes.
        every: epochs between two blocks that open, for `gradual`.

    Raises:
        RecipeError: if there are fewer blocks or layers than asked for, or no such block.
    """
    blocks = tuple(dict.fromkeys(layer.block for layer in layers))
    gradual = train == "gradual"
    if gradual:
        owners = tuple(dict.fromkeys(layer.block for layer in layers if layer.parameters))
        trainable = _chosen(owners[-(1 + (max(1, epochs) - 1) // every) :], layers, blocks=blocks)
    else:
        trainable = _chosen(train, layers, blocks=blocks)
    moving = [layer.name for layer in trainable if layer.kind.startswith("BatchNorm") and batchnorm == "update"]
    first = next((layer.block for layer in trainable if layer.parameters), None)
    return FreezePlan(
        train=train if isinstance(train, str) else ", ".join(train),
        blocks=blocks,
        layers=len(layers),
        trainable=trainable,
        moving=tuple(moving),
        cut=len(blocks) if first is None else blocks.index(first),
        every=every if gradual else 0,
    )


def apply_freeze(plan: FreezePlan, backbone: Backbone) -> None:
    """Let exactly the plan's parameters require gradients, and set the training mode."""
    trained = set(plan.parameters)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)
    set_training_mode(plan, backbone)


def set_training_mode(plan: FreezePlan, backbone: Backbone) -> None:
    """Put what trains into training mode and all else into evaluation mode; call it before every epoch.

    Frozen BatchNorm stays in evaluation mode even inside a block that trains, because it must not learn the new
    data's statistics. Dropout and stochastic depth act only in blocks that train whole.
    """
    backbone.eval()
    owners = dict(backbone.network.named_modules())
    trained = set(plan.parameters)
    for block, module in zip(backbone.block_names, backbone.blocks, strict=True):
        if block in plan.trainable_blocks and {id(p) for p in module.parameters()} <= _ids(backbone, trained):
            module.train()
    for layer in plan.trainable:
        if layer.name in owners:
            owners[layer.name].train()
    moving = set(plan.moving)
    for name, module in owners.items():
        if isinstance(module, _BatchNorm):
            module.train(name in moving)


def _ids(backbone: Backbone, names: set[str]) -> set[int]:
    return {id(parameter) for name, parameter in backbone.named_parameters() if name in names}


def _chosen(train: str | Sequence[str], layers: Sequence[Layer], *, blocks: tuple[str, ...]) -> tuple[Layer, ...]:
    if train in ("head", "none"):
        return ()
    if train == "all":
        return tuple(layers)
    top = re.fullmatch(r"top-(\d+) (blocks?|layers?)", train) if isinstance(train, str) else None
    if top and top[2].startswith("block"):
        kept = blocks[len(blocks) - _count(train, int(top[1]), unit="blocks", names=blocks) :]
        return tuple(layer for layer in layers if layer.block in kept)
    if top:
        names = [layer.name for layer in layers]
        return tuple(layers[len(layers) - _count(train, int(top[1]), unit="layers", names=names) :])
    named = (train,) if isinstance(train, str) else tuple(train)
    unknown = [name for name in named if name not in blocks]
    if unknown or not named:
        raise RecipeError(
            f"train={train!r} names no block of this backbone; it has {_span(blocks)}.",
            fix="use head, none, all, top-N blocks, top-N layers, gradual, or block names.",
        )
    return tuple(layer for layer in layers if layer.block in named)


def _count(train: str | Sequence[str], count: int, *, unit: str, names: Sequence[str]) -> int:
    if 1 <= count <= len(names):
        return count
    or_name = ", or a block name" if unit == "blocks" else ""
    raise RecipeError(
        f"train={train!r} asks for {count} {unit}; this backbone has {len(names)}: {_span(names)}.",
        fix=f"use top-1 to top-{len(names)}{or_name}.",
    )


def _span(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 3 else f"{names[0]}..{names[-1]}"


def _all(blocks: Sequence[str]) -> str:
    return "the whole network (one block)" if len(blocks) == 1 else f"all {len(blocks)} blocks ({_span(blocks)})"
