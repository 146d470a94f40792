"""`JoinedNetwork`: several networks side by side as one, stage by stage. Knows no weights and imports no timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from topwork.errors import RecipeError
from topwork.models.families import Parts, split_network

__all__ = ["JoinedNetwork", "join_networks", "unlike_networks"]

_Widths = tuple[int, ...]


class JoinedStage(nn.Module):
    """The same stage of every network: (N,C,h,w) -> (N,C',h',w'), one network's channels after the other's.

    Args:
        blocks: one a network.
        widths: how many channels each of them reads; None if all read the same input.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, widths: _Widths | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.widths = widths

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every network's channels go through its own block."""
        given = [x] * len(self.blocks) if self.widths is None else torch.split(x, list(self.widths), dim=1)
        return torch.cat([block(part) for block, part in zip(self.blocks, given, strict=True)], dim=1)


class JoinedNetwork(nn.Module):
    """Networks that see the same picture; their pooled features lie one after the other.

    Activations of one stage can share a tensor because every stage has the same height and width in all of them. So
    one cut, one cached row and one head serve all, and each network computes what it would compute alone.

    Args:
        members: without classifier; their `state_dict` names get `members.0.`, `members.1.` ...
        parts: of each member.
        widths: channels behind each stage, one tuple a stage, one number a member.
    """

    def __init__(self, members: Sequence[nn.Module], parts: Sequence[Parts], *, widths: Sequence[_Widths]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.head_hidden_size = sum(int(cast(int, member.head_hidden_size)) for member in members)
        names = [name for name, _ in parts[0].blocks]
        read = [None, *widths[:-1]]
        stages = [
            (name, JoinedStage([part.blocks[number][1] for part in parts], widths=read[number]))
            for number, name in enumerate(names)
        ]
        pool = JoinedStage([part.pool for part in parts], widths=widths[-1])
        families = {part.family for part in parts}
        family = families.pop() if len(families) == 1 else "joined"
        # In a tuple, so that torch does not register the members' modules a second time.
        self._parts = (Parts(family=family, blocks=tuple(stages), pool=pool),)

    @property
    def parts(self) -> Parts:
        """Stages and pooling."""
        return self._parts[0]

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised (N,3,H,W) -> (N,C,h,w)."""
        for _, stage in self.parts.blocks:
            x = stage(x)
        return x

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """(N,C,h,w) -> (N,D); there is no classifier, whether it is asked for or not."""
        del pre_logits
        return cast(torch.Tensor, self.parts.pool(x))


def join_networks(networks: Sequence[nn.Module], *, name: str, size: int) -> JoinedNetwork:
    """Put networks side by side.

    Args:
        networks: without classifier, in the order of their names.
        name: `A+B`, for messages.
        size: side of the input in pixels; the shapes of stages are found by running one grey picture.

    Raises:
        RecipeError: if the networks have other numbers of stages, or stages of other height and width.
    """
    for network in networks:
        network.eval()  # the grey picture must leave no trace in running statistics
    parts = [split_network(network, name=name) for network in networks]
    if len({len(part.blocks) for part in parts}) > 1 or not all(part.cuttable for part in parts):
        raise unlike_networks(name, "they do not have the same stages")
    shapes = [_shapes(part, size=size) for part in parts]
    for stage in zip(*shapes, strict=True):
        if len({tuple(shape[2:]) for shape in stage}) > 1 or any(len(shape) != 4 for shape in stage):
            raise unlike_networks(name, f"at {size} px their stages differ in height and width")
    widths = [tuple(shape[1] for shape in stage) for stage in zip(*shapes, strict=True)]
    return JoinedNetwork(networks, parts, widths=widths)


def unlike_networks(name: str, reason: str) -> RecipeError:
    """What to raise where networks do not fit beside each other."""
    return RecipeError(
        f"The networks {name} cannot stand side by side: {reason}.",
        fix="join networks of one family, e.g. efficientnet_lite0+efficientnet_lite1, or name one.",
    )


@torch.no_grad()
def _shapes(parts: Parts, *, size: int) -> list[torch.Size]:
    """The shape behind each block."""
    x, shapes = torch.zeros(1, 3, size, size), []
    for _, block in parts.blocks:
        x = block(x)
        shapes.append(x.shape)
    return shapes
