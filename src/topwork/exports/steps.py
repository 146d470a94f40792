"""`Step`: a classifier as a list of plain layers in order, traced once. Runs nothing, and knows no other framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from topwork.errors import ExportError
from topwork.models.classifier import Classifier
from topwork.models.joined import JoinedNetwork
from topwork.models.kernel_head import KernelHead

__all__ = ["PIXELS", "Step", "trace_steps"]

PIXELS = "pixels"
"""The name of what the first step reads: normalised pictures (N,3,H,W)."""

_WHOLE = (nn.Conv2d, nn.BatchNorm2d, KernelHead)  # steps of their own, also as subclasses with more inside
_IDLE = {"Identity", "DropPath", "DropBlock2d"}  # by name: timm's, which answer with what they are given
_UNTRACEABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One layer, or one operation, between tensors.

    Args:
        name: of its result; a word that no other step has.
        kind: the class of the module, or the name of the operation: `Conv2d`, `add`.
        module: with its parameters; None for an operation.
        inputs: names of the steps whose results it takes, in order; `PIXELS` is the first.
        arguments, options: what else the operation is given.
    """

    name: str
    kind: str
    module: nn.Module | None = None
    inputs: tuple[str, ...]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any]


class _Whole(nn.Module):
    """Normalised pictures (N,3,H,W) -> logits (N,K); shares the classifier's modules."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network: Any = classifier.backbone.network
        self.head = classifier.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Networks side by side are traced one after the other: pooled features are all that they share.
        joined = isinstance(self.network, JoinedNetwork)
        networks: Any = self.network.members if joined else [self.network]
        pooled = [network.forward_head(network.forward_features(x), pre_logits=True) for network in networks]
        logits: torch.Tensor = self.head(torch.cat(pooled, dim=1) if joined else pooled[0])
        return logits


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _WHOLE) or super().is_leaf_module(m, module_qualified_name)


def trace_steps(classifier: Classifier) -> tuple[Step, ...]:
    """What a classifier computes between normalised pictures and logits, without the mirror image.

    Args:
        classifier: in evaluation mode; unchanged.

    Returns:
        The steps in execution order; the last one gives the logits. What does nothing in evaluation is left out.

    Raises:
        ExportError: if the network decides on its way what it computes, so that it is no list.

    Example:
        >>> from topwork.models.backbone import create_backbone
        >>> from topwork.models.head import build_head
        >>> from topwork.recipe import HeadChoice
        >>> backbone = create_backbone("resnet9", weights="none", image_size=16)
        >>> head = build_head(HeadChoice(), width=backbone.width, classes=2)
        >>> [step.name for step in trace_steps(Classifier(backbone, head).eval())[-3:]]
        ['network_global_pool', 'flatten', 'head_logits']
    """
    whole = _Whole(classifier)
    try:
        graph = _Tracer().trace(whole)
    except _UNTRACEABLE:
        raise ExportError(
            f"The network {classifier.backbone.name} is no plain list of layers: what it computes depends on the data.",
            fix="export one of another family: MobileNet, EfficientNet or ResNet.",
        ) from None
    known: dict[fx.Node, str] = {}
    steps = []
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            known[node] = PIXELS
            continue
        step = _step(node, whole, known=known)
        known[node] = step.inputs[0] if _is_idle(step) else step.name
        if not _is_idle(step):
            steps.append(step)
    return tuple(steps)


def _step(node: fx.Node, whole: nn.Module, *, known: Mapping[fx.Node, str]) -> Step:
    module = whole.get_submodule(str(node.target)) if node.op == "call_module" else None
    if module is not None:
        kind = type(module).__name__
    elif node.op == "get_attr":
        kind = f"parameter {node.target}"
    else:
        kind = str(getattr(node.target, "__name__", node.target))
    return Step(
        name=node.name,
        kind=kind,
        module=module,
        inputs=tuple(known[each] for argument in node.args for each in _nodes(argument)),
        arguments=tuple(argument for argument in node.args if not _nodes(argument)),
        options=dict(node.kwargs),
    )


def _nodes(argument: Any) -> list[fx.Node]:
    """The results of other steps in an argument: itself, or all of a list; none where it is something else."""
    each = argument if isinstance(argument, list | tuple) else [argument]
    return list(each) if all(isinstance(one, fx.Node) for one in each) else []


def _is_idle(step: Step) -> bool:
    return step.kind in _IDLE or (isinstance(step.module, nn.Dropout) and step.module.p == 0)
