"""`Parts`: a timm network seen as ordered named blocks and a pooling stage. Knows families; imports no timm.

A part never copies a parameter: it is a view that shares the network's own modules and tensors, so that the network's
`state_dict` keeps timm's names and every part sees every change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from topwork.errors import RecipeError

__all__ = ["NetworkView", "Parts", "split_network"]

_NamedBlocks = tuple[tuple[str, nn.Module], ...]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a network consists of.

    Args:
        family: `efficientnet`, `mobilenetv3`, `resnet`, `convnext`, `vit`, `zoo`, `joined` (of several), or `other`.
        blocks: in execution order; one after the other they are the network's `forward_features`.
        pool: features -> (N,D); it may own parameters (MobileNetV3's last convolution, ConvNeXt's last norm).
        cuttable: whether activations may be taken between blocks.
    """

    family: str
    blocks: _NamedBlocks
    pool: nn.Module
    cuttable: bool = True


class NetworkView(nn.Module):
    """Some children of a network, run by one of the network's own methods.

    Args:
        network: the whole network; neither changed nor registered.
        keep: names of the children that the method uses.
        run: takes the part and a tensor.
        own_parameters: whether parameters that the network owns directly (tokens, position embedding) are used.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        keep: Sequence[str],
        run: Callable[[Any, torch.Tensor], torch.Tensor],
        own_parameters: bool = False,
    ) -> None:
        super().__init__()
        part = copy.copy(network)  # shallow: tensors and children stay the network's own
        part._modules = {name: child for name, child in network._modules.items() if name in keep}
        part._parameters = dict(network._parameters) if own_parameters else {}
        self.part = part
        self._run = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the part."""
        return self._run(self.part, x)


def split_network(network: nn.Module, *, name: str) -> Parts:
    """The blocks of a network of timm or of the zoo, without classifier.

    The family is the class that defines `forward_features`: a subclass that overrides it computes something else
    and stays uncut.

    Raises:
        RecipeError: if the network has no `forward_features` and `forward_head`.
    """
    method = getattr(type(network), "forward_features", None)
    if method is None or not hasattr(network, "forward_head"):
        raise RecipeError(
            f"The network {name} does not separate features from a classifier, so it cannot be a backbone.",
            fix="choose another one; `topwork backbones` lists them.",
        )
    splitters: dict[str, Callable[[Any], Parts]] = {
        "timm.models.efficientnet.EfficientNet.forward_features": _efficientnet,
        "timm.models.mobilenetv3.MobileNetV3.forward_features": _mobilenetv3,
        "timm.models.resnet.ResNet.forward_features": _resnet,
        "timm.models.convnext.ConvNeXt.forward_features": _convnext,
        "timm.models.vision_transformer.VisionTransformer.forward_features": _vit,
        "topwork.models.zoo.BaselineCnn.forward_features": _baseline_cnn,
        "topwork.models.zoo.Resnet9.forward_features": _resnet9,
        "topwork.models.joined.JoinedNetwork.forward_features": _joined,
    }
    return splitters.get(f"{method.__module__}.{method.__qualname__}", _other)(network)


def _efficientnet(network: Any) -> Parts:
    """EfficientNet, EfficientNet-Lite, MobileNetV1 and V2, MNASNet and their like."""
    blocks = _flat(("stem", network.conv_stem, network.bn1), *_numbered("blocks", network.blocks))
    blocks = _followed(blocks, "conv_head", network.conv_head, network.bn2)
    return Parts(family="efficientnet", blocks=blocks, pool=_head(network, "global_pool"))


def _mobilenetv3(network: Any) -> Parts:
    """MobileNetV3 and V4: the last convolution comes after pooling."""
    blocks = _flat(("stem", network.conv_stem, network.bn1), *_numbered("blocks", network.blocks))
    pool = _head(network, "global_pool", "conv_head", "norm_head", "act2", "flatten")
    return Parts(family="mobilenetv3", blocks=blocks, pool=pool)


def _resnet(network: Any) -> Parts:
    stem = ("stem", network.conv1, network.bn1, network.act1, network.maxpool)
    stages = [(f"layer{number}", getattr(network, f"layer{number}")) for number in (1, 2, 3, 4)]
    return Parts(family="resnet", blocks=_flat(stem, *stages), pool=_head(network, "global_pool"))


def _convnext(network: Any) -> Parts:
    blocks = _flat(("stem", network.stem), *_numbered("stages", network.stages))
    return Parts(family="convnext", blocks=_followed(blocks, "norm_pre", network.norm_pre), pool=_head(network, "head"))


def _baseline_cnn(network: Any) -> Parts:
    stages = [(name, getattr(network, name)) for name in ("conv1", "conv2", "conv3")]
    return Parts(family="zoo", blocks=_flat(*stages), pool=_head(network, "dense", "act"))


def _resnet9(network: Any) -> Parts:
    stages = [(name, getattr(network, name)) for name in ("conv1", "conv2", "res1", "conv3", "conv4", "res2")]
    return Parts(family="zoo", blocks=_flat(*stages), pool=_head(network, "global_pool"))


def _joined(network: Any) -> Parts:
    return cast(Parts, network.parts)


def _embed(part: Any, x: torch.Tensor) -> torch.Tensor:
    tokens = part._pos_embed(part.patch_embed(x))  # (N,3,H,W) -> (N,T,C)
    return cast(torch.Tensor, part.norm_pre(part.patch_drop(tokens)))


def _vit(network: Any) -> Parts:
    keep = ("patch_embed", "pos_drop", "patch_drop", "norm_pre")
    embed = NetworkView(network, keep=keep, run=_embed, own_parameters=True)
    blocks = _flat(("embed", embed), *_numbered("blocks", network.blocks))
    blocks = _followed(blocks, "norm", network.norm)
    return Parts(family="vit", blocks=blocks, pool=_head(network, "attn_pool", "fc_norm", "head_drop"))


def _features(part: Any, x: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, part.forward_features(x))


def _pre_logits(part: Any, x: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, part.forward_head(x, pre_logits=True))


def _other(network: Any) -> Parts:
    everything = tuple(network._modules)
    whole = NetworkView(network, keep=everything, run=_features, own_parameters=True)
    return Parts(family="other", blocks=(("all", whole),), pool=_head(network, *everything), cuttable=False)


def _head(network: nn.Module, *keep: str) -> NetworkView:
    return NetworkView(network, keep=keep, run=_pre_logits)


def _numbered(prefix: str, stages: Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    return [(f"{prefix}.{number}", stage) for number, stage in enumerate(stages)]


def _flat(*named: tuple[Any, ...]) -> _NamedBlocks:
    return tuple((name, modules[0] if len(modules) == 1 else nn.Sequential(*modules)) for name, *modules in named)


def _followed(blocks: _NamedBlocks, name: str, *modules: nn.Module) -> _NamedBlocks:
    """Blocks with one more; modules without parameters (no head convolution, no norm) join the last one instead."""
    if any(True for module in modules for _ in module.parameters()):
        return blocks + _flat((name, *modules))
    *before, (last, block) = blocks
    active = [module for module in modules if not isinstance(module, nn.Identity)]
    return (*before, (last, nn.Sequential(block, *active) if active else block))
