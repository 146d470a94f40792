"""`Layer`: the numbered list of what a backbone computes, in execution order. Knows nothing about training.

A layer is a module that owns parameters directly, or an activation or pooling without parameters. timm's fused norm
and activation counts as one norm and one activation. Identity and Dropout are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from topwork.models.joined import JoinedStage

if TYPE_CHECKING:
    from topwork.models.backbone import Backbone

__all__ = ["Layer", "list_layers"]

_Role = Literal["weights", "norm", "activation", "pooling"]

_NORMS = ("batchnorm", "layernorm", "groupnorm", "rmsnorm", "instancenorm")
_ACTIVATION_HOMES = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
_POOLING_HOMES = ("torch.nn.modules.pooling", "timm.layers.adaptive_avgmax_pool", "timm.layers.pool2d_same")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a backbone.

    Args:
        number: 1 is the layer next to the picture.
        name: timm's name of the module.
        kind: its class, e.g. `Conv2d`.
        role: `norm`, `activation`, `pooling`, or `weights` for all else that owns parameters.
        block: the block it counts with; the pooling stage counts with the last block.
        parameters: names as in `backbone.named_parameters()`; empty for activations and pooling.
        size: how many numbers these parameters hold.
    """

    number: int
    name: str
    kind: str
    role: _Role
    block: str
    parameters: tuple[str, ...]
    size: int


def list_layers(backbone: Backbone) -> tuple[Layer, ...]:
    """The layers in execution order, found by running one grey picture through the backbone.

    The sum of `size` over all layers is the number of parameters of the backbone.
    """
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}  # shared ones appear once
    modules = {id(module): name for name, module in backbone.network.named_modules()}
    layers: list[Layer] = []
    for block, module in _in_order(backbone):
        own = _own_parameters(module)
        role = _role(module)
        if role is None:
            continue
        layers.append(
            Layer(
                number=len(layers) + 1,
                name=modules.get(id(module), block),
                # a part of the network that only owns tokens and position embedding is no module of its own
                kind=type(module).__name__ if id(module) in modules else "Embedding",
                role=role,
                block=block,
                parameters=tuple(names[id(parameter)] for parameter in own),
                size=sum(parameter.numel() for parameter in own),
            )
        )
    return tuple(layers)


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module._parameters.values() if parameter is not None]


def _role(module: nn.Module) -> _Role | None:
    if _own_parameters(module):
        return "norm" if any(norm in type(module).__name__.lower() for norm in _NORMS) else "weights"
    home = type(module).__module__
    if home in _ACTIVATION_HOMES:
        return "activation"
    return "pooling" if home in _POOLING_HOMES else None


def _in_order(backbone: Backbone) -> Iterator[tuple[str, nn.Module]]:
    """Every module that may be a layer, once, with its block."""
    stages = [*zip(backbone.block_names, backbone.blocks, strict=True), (backbone.block_names[-1], backbone.pool_stage)]
    size = backbone.spec.size
    parameter = next(backbone.parameters())
    x = torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)
    seen: set[int] = set()
    for block, stage in stages:
        calls, x = _calls(stage, x)
        if isinstance(stage, JoinedStage):
            calls = stage.abreast(calls)
        # What ran without being called (its parameters used from outside) follows what was called.
        for module in (*calls, *(module for module in stage.modules() if _own_parameters(module))):
            if id(module) not in seen:
                seen.add(id(module))
                yield block, module


def _calls(stage: nn.Module, x: torch.Tensor) -> tuple[list[nn.Module], torch.Tensor]:
    """Modules of a stage in the order in which they act, and the stage's output."""
    calls: list[nn.Module] = []
    handles = []
    inside: set[int] = set()
    for module in stage.modules():
        if id(module) in inside:
            continue
        role = _role(module)
        if role is None:
            continue
        if role == "pooling":  # a pooling made of poolings is one
            inside |= {id(child) for child in module.modules()}
        # A fused norm acts before the activation inside it; any other owner (a residual scale) after what it contains.
        if role == "norm":
            handles.append(module.register_forward_pre_hook(lambda module, _: calls.append(module)))
        else:
            handles.append(module.register_forward_hook(lambda module, _, __: calls.append(module)))
    modes = {module: module.training for module in stage.modules()}
    stage.eval()  # the grey picture must leave no trace in running statistics
    try:
        with torch.no_grad():
            return calls, stage(x)
    finally:
        for module, training in modes.items():
            module.training = training
        for handle in handles:
            handle.remove()
