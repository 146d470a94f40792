"""`JoinedNetwork`: several networks side by side as one, stage by stage. Knows no weights and imports no timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from topwork.errors import RecipeError
from topwork.models.families import Parts, split_network
from topwork.models.members import check_alike

__all__ = ["JoinedNetwork", "JoinedStage", "stage_widths"]

_Widths = tuple[int, ...]

_JOINABLE = "join EfficientNets, MobileNets, ResNets or ConvNeXts, each with its like."


class JoinedStage(nn.Module):
    """The same stage of every network: (N,C,h,w) -> (N,C',h',w'), one network's channels after the other's.

    Args:
        blocks: one a network.
        read: how many channels each of them reads; None if all read the same input.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, read: _Widths | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.read = read

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every network's channels go through its own block."""
        given = [x] * len(self.blocks) if self.read is None else torch.split(x, list(self.read), dim=1)
        return torch.cat([block(part) for block, part in zip(self.blocks, given, strict=True)], dim=1)

    def abreast(self, modules: Sequence[nn.Module]) -> list[nn.Module]:
        """Modules of the blocks, each block's in its order, and none of a block far before those of another.

        So the last layers of a stage are the last layers of every network in it, not all those of the last one.
        """
        place: dict[nn.Module, tuple[float, int]] = {}
        for number, block in enumerate(self.blocks):
            inside = set(block.modules())
            own = [module for module in modules if module in inside]
            place |= {module: (1.0 - rank / len(own), -number) for rank, module in enumerate(reversed(own))}
        return sorted(modules, key=lambda module: place[module])


class JoinedNetwork(nn.Module):
    """Networks that see the same picture; their pooled features lie one after the other.

    Activations of one stage can share a tensor because every stage has the same height and width in all of them. So
    one cut, one cached row and one head serve all, and each network computes what it would compute alone.

    Args:
        members: without classifier; their `state_dict` names get `members.0.`, `members.1.` ...
        names: of the members.
        widths: channels behind each stage, one tuple a stage, one number a member; from `stage_widths`.
    """

    def __init__(self, members: Sequence[nn.Module], *, names: Sequence[str], widths: Sequence[_Widths]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.head_hidden_size = sum(int(cast(int, member.head_hidden_size)) for member in members)
        split = [split_network(member, name=name) for member, name in zip(members, names, strict=True)]
        read = [None, *widths[:-1]]
        stages = [
            (name, JoinedStage([parts.blocks[number][1] for parts in split], read=read[number]))
            for number, (name, _) in enumerate(split[0].blocks)
        ]
        families = {parts.family for parts in split}
        joined = Parts(
            family=families.pop() if len(families) == 1 else "joined",
            blocks=tuple(stages),
            pool=JoinedStage([parts.pool for parts in split], read=widths[-1]),
        )
        self._parts = (joined,)  # in a tuple, so that torch does not register the members' modules a second time

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


@torch.no_grad()
def stage_widths(networks: Mapping[str, nn.Module], *, size: int) -> tuple[_Widths, ...]:
    """Channels behind each stage of networks that are to be joined, one number a network.

    Args:
        networks: by name, on the meta device or any other; put into evaluation mode.
        size: side of the input in pixels.

    Raises:
        RecipeError: if a network has no stages, or other ones than the first.
        RuntimeError: if a network refuses pictures of that size.
    """
    shapes: dict[str, list[torch.Size]] = {}
    for name, network in networks.items():
        parts = split_network(network.eval(), name=name)
        if not parts.cuttable:
            raise RecipeError(
                f"{name} cannot stand beside other networks: topwork knows no stages of it.",
                fix=_JOINABLE,
            )
        x, shapes[name] = torch.zeros(1, 3, size, size), []
        for _, block in parts.blocks:
            x = block(x)
            shapes[name].append(x.shape)
        if any(len(shape) != 4 for shape in shapes[name]):
            raise RecipeError(
                f"{name} cannot stand beside other networks: it computes tokens, not channels of pictures.",
                fix=_JOINABLE,
            )
    check_alike({name: len(found) for name, found in shapes.items()}, what="the number of stages")
    for number in range(len(next(iter(shapes.values())))):
        sides = {name: tuple(found[number])[2:] for name, found in shapes.items()}
        check_alike(sides, what=f"at {size} px, height and width behind stage {number + 1}")
    return tuple(tuple(int(shape[1]) for shape in stage) for stage in zip(*shapes.values(), strict=True))
