"""`Classifier`: pictures -> logits, through a backbone and a head, whole or from a cached activation.

Normalisation is part of the graph, so pictures stay uint8 until they are inside. Knows nothing about training.
"""

from __future__ import annotations

import torch
from torch import nn

from topwork.models.backbone import Backbone
from topwork.spec import InputSpec

__all__ = ["Classifier", "Normalise", "normalised_trunk"]


class Normalise(nn.Module):
    """uint8 pictures (N,H,W,3) -> (N,3,H,W), each channel (x / 255 - mean) / std."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        # Not saved: the InputSpec travels with every model, and a second copy could disagree with it.
        self.register_buffer("mean", 255.0 * torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255.0 * torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The permuted view is channels-last in memory, which is what CPUs like best."""
        pixels: torch.Tensor = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return pixels


class Classifier(nn.Module):
    """Trunk + top + head.

    Args:
        backbone: without classifier.
        head: pooled features (N,D) -> logits (N,K).
        mirror: whether a picture's logits are the mean of its own and its mirror image's.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, *, mirror: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.mirror = mirror
        self.normalise = Normalise(backbone.spec)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 pictures (N,H,W,3) -> logits (N,K)."""
        logits: torch.Tensor = self.head(self.features(images))
        if self.mirror:
            logits = (logits + self.head(self.features(images.flip(2)))) / 2  # (N,H,W,3): left and right change places
        return logits

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures (N,H,W,3), uint8 or float in [0, 255] -> pooled features (N,D), of these pictures alone."""
        pooled: torch.Tensor = self.backbone(self.normalise(images))
        return pooled

    def pooled(self, activation: torch.Tensor, cut: int) -> torch.Tensor:
        """The trunk's activation (N,h,w,C) or (N,T,C), any float -> pooled features (N,D)."""
        return self.backbone.pool(self.backbone.top(cut)(_channels_first(activation.float())))

    def from_activation(self, activation: torch.Tensor, cut: int | None) -> torch.Tensor:
        """The trunk's activation (N,h,w,C) or (N,T,C), or pooled features (N,D) if cut is None -> logits (N,K)."""
        features = activation.float() if cut is None else self.pooled(activation, cut)
        logits: torch.Tensor = self.head(features)
        return logits

    def from_rows(self, rows: torch.Tensor, cut: int, *, opened: int) -> torch.Tensor:
        """What training reads -> logits (N,K); blocks below `opened` run without gradient.

        Args:
            rows: pictures (N,H,W,3) in 0..255 if the cut is 0, else activations at the cut, as in `from_activation`.
            cut: number of blocks below the rows.
            opened: number of blocks below the first one that learns.
        """
        x = _channels_first(rows.float()) if cut else self.normalise(rows)
        with torch.no_grad():
            for block in self.backbone.blocks[cut:opened]:
                x = block(x)
        logits: torch.Tensor = self.head(self.backbone.pool(self.backbone.top(max(cut, opened))(x)))
        return logits

    def parameters_by_depth(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """All parameters: of the head, of the last block (with the pooling stage), and so on down to the first."""
        *lower, last = ([block] for block in self.backbone.blocks)
        stages: list[list[nn.Module]] = [[self.head], [*last, self.backbone.pool_stage], *reversed(lower)]
        return tuple(
            tuple(dict.fromkeys(parameter for module in stage for parameter in module.parameters())) for stage in stages
        )


class _NormalisedTrunk(nn.Module):
    def __init__(self, backbone: Backbone, cut: int | None) -> None:
        super().__init__()
        self.normalise = Normalise(backbone.spec)
        self.trunk = backbone.trunk(len(backbone.blocks) if cut is None else cut)
        self.top = None if cut is None else backbone.top(cut)
        self.pool = backbone.pool_stage

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        activation: torch.Tensor = self.trunk(self.normalise(images))
        if self.top is None:
            pooled: torch.Tensor = self.pool(activation)
            return pooled
        return _channels_last(activation), self.pool(self.top(activation))


def normalised_trunk(backbone: Backbone, cut: int | None) -> nn.Module:
    """What an inference engine runs: uint8 pictures (N,H,W,3) -> (activation, pooled features).

    The activation at the cut is (N,h,w,C), for ViTs (N,T,C); the pooled features are (N,D). With cut None only the
    pooled features come out. The module suits `torch.export` with a dynamic batch.
    """
    return _NormalisedTrunk(backbone, cut).eval()


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    """(N,C,h,w) -> (N,h,w,C); others as they are."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    """(N,h,w,C) -> (N,C,h,w); others as they are."""
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x
