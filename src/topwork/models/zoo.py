"""Small networks that are trained from scratch, with the interface that timm's networks have. Knows no weights.

They are the baselines that transfer learning is measured against: `baseline_cnn` is the network of countless first
tutorials, `resnet9` a small residual network that trains fast.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from topwork.spec import InputSpec

__all__ = ["ZOO", "BaselineCnn", "Resnet9", "zoo_network", "zoo_spec"]


class BaselineCnn(nn.Module):
    """Three convolutions with max-pooling, then a dense layer of 128: 11.2 million parameters at 224 pixels.

    Args:
        img_size: side of the input in pixels, >= 22; the dense layer depends on it.
    """

    num_features = 128
    head_hidden_size = 128

    def __init__(self, img_size: int) -> None:
        super().__init__()
        self.pretrained_cfg = {"classifier": None}
        side = img_size
        for _ in range(3):
            side = (side - 2) // 2  # a convolution without padding, then a pooling
        if side < 1:
            raise ValueError(f"its three poolings leave nothing of {img_size} pixels; it needs 22")
        self.conv1 = _plain_convolution(3, 32)
        self.conv2 = _plain_convolution(32, 64)
        self.conv3 = _plain_convolution(64, 128)
        self.dense = nn.Linear(128 * side * side, self.num_features)
        self.act = nn.ReLU()
        _start_for_relu(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(N,3,S,S) -> (N,128,s,s)."""
        found: torch.Tensor = self.conv3(self.conv2(self.conv1(x)))
        return found

    def forward_head(self, x: torch.Tensor, pre_logits: bool = True) -> torch.Tensor:
        """(N,128,s,s) -> (N,128); there is no classifier, so `pre_logits` changes nothing."""
        hidden: torch.Tensor = self.act(self.dense(x.flatten(1)))
        return hidden


def _plain_convolution(before: int, width: int) -> nn.Sequential:
    # ReLU and the maximum can change places; after the pooling there is a quarter to do.
    layers = [("conv", nn.Conv2d(before, width, 3)), ("pool", nn.MaxPool2d(2)), ("act", nn.ReLU())]
    return nn.Sequential(OrderedDict(layers))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = _convolution(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.second(self.first(x))
        return out


class Resnet9(nn.Module):
    """Four convolutions with batch norm, two residual blocks, adaptive max-pooling: 6.6 million parameters.

    Args:
        img_size: unused, since any side from 16 pixels on fits; every zoo network takes it.
    """

    num_features = 512
    head_hidden_size = 512

    def __init__(self, img_size: int) -> None:
        super().__init__()
        del img_size
        self.pretrained_cfg = {"classifier": None}
        self.conv1 = _convolution(3, 64)
        self.conv2 = _convolution(64, 128, pool=True)
        self.res1 = _Residual(128)
        self.conv3 = _convolution(128, 256, pool=True)
        self.conv4 = _convolution(256, 512, pool=True)
        self.res2 = _Residual(512)
        self.global_pool = nn.AdaptiveMaxPool2d(1)
        _start_for_relu(self)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(N,3,S,S) -> (N,512,S/8,S/8)."""
        for stage in (self.conv1, self.conv2, self.res1, self.conv3, self.conv4, self.res2):
            x = stage(x)
        return x

    def forward_head(self, x: torch.Tensor, pre_logits: bool = True) -> torch.Tensor:
        """(N,512,s,s) -> (N,512); there is no classifier, so `pre_logits` changes nothing."""
        pooled: torch.Tensor = self.global_pool(x).flatten(1)
        return pooled


def _convolution(before: int, width: int, *, pool: bool = False) -> nn.Sequential:
    layers: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(before, width, 3, padding=1, bias=False)),
        ("norm", nn.BatchNorm2d(width)),
        *([("pool", nn.MaxPool2d(2))] if pool else []),
        ("act", nn.ReLU(inplace=True)),
    ]
    return nn.Sequential(OrderedDict(layers))


def _start_for_relu(network: nn.Module) -> None:
    """He's start keeps the variance through ReLU. Source: K. He et al. (2015), arXiv:1502.01852."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


ZOO: dict[str, Callable[[int], nn.Module]] = {"baseline_cnn": BaselineCnn, "resnet9": Resnet9}
"""Name -> what builds the network for a side in pixels, with torch's current random state."""

_HALF = (0.5, 0.5, 0.5)
_SIZES = {"baseline_cnn": 224, "resnet9": 64}


def zoo_network(name: str, size: int) -> Any:
    """A network with new random weights.

    Raises:
        ValueError: if pictures of that side are too small for it.
    """
    return ZOO[name](size)


def zoo_spec(name: str) -> InputSpec:
    """The input that a zoo network is usually given: the largest square of a picture."""
    return InputSpec(size=_SIZES[name], mean=_HALF, std=_HALF, interpolation="bicubic", crop=1.0)
