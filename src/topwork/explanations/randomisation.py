"""Parameter randomisation: a heatmap that stays the same when the model forgets everything explains the photo only."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from topwork.explanations.faithfulness import mean_interval
from topwork.explanations.gradcam import Method, heatmaps
from topwork.measures.intervals import Interval
from topwork.models.classifier import Classifier

__all__ = ["Randomisation", "randomisation"]

_SAME = 0.5  # mean rank correlation above which maps count as unchanged


@dataclass(frozen=True, kw_only=True)
class Randomisation:
    """Rank correlation of maps with those of ever more forgetful models.

    Args:
        stages: `head`, then the blocks from the last down; at each, everything named so far is shuffled.
        correlations: Spearman's, mean over photos, one for each stage; a map without evidence counts as 0.
    """

    stages: tuple[str, ...]
    correlations: tuple[Interval, ...]

    @property
    def passed(self) -> bool:
        """Whether the maps depend on the head and on the network: they change beyond the interval."""
        return self.correlations[0].high < 1 - 1e-6 and self.correlations[-1].high < _SAME

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        steps = zip(self.stages, self.correlations, strict=True)
        return {"passed": self.passed, "stages": [{"stage": name, **each.to_json()} for name, each in steps]}


def randomisation(
    classifier: Classifier,
    images: npt.NDArray[np.uint8],
    *,
    method: Method = "gradcam",
    layer: str | None = None,
    seed: int = 0,
) -> Randomisation:
    """Shuffle the parameters from the head downwards, and compare the maps of the classes that were explained first.

    Each parameter keeps its values in another order, so that their distribution, and what BatchNorm needs, stay.

    Args:
        classifier: unchanged.
        images: (N,H,W,3) uint8 evaluation views, N >= 2.
        method, layer: as for `heatmaps`.
        seed: of the order.

    Source: J. Adebayo et al. (2018), NeurIPS (cascading randomisation).
    """
    first = heatmaps(classifier, images, method=method, layer=layer)
    forgetful = copy.deepcopy(classifier)
    backbone = forgetful.backbone
    stages: list[tuple[str, list[nn.Module]]] = [("head", [forgetful.head])]
    for name, block in reversed(list(zip(backbone.block_names, backbone.blocks, strict=True))):
        stages.append((name, [block, backbone.pool_stage] if len(stages) == 1 else [block]))
    generator = torch.Generator().manual_seed(seed)
    correlations = []
    for _, modules in stages:
        _shuffle(modules, generator)
        now = heatmaps(forgetful, images, target=first.targets, method=method, layer=layer)
        correlations.append(mean_interval([_spearman(a, b) for a, b in zip(first.raw, now.raw, strict=True)]))
    return Randomisation(stages=tuple(name for name, _ in stages), correlations=tuple(correlations))


def _shuffle(modules: list[nn.Module], generator: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in dict.fromkeys(each for module in modules for each in module.parameters()):
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))


def _spearman(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    from scipy.stats import spearmanr

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)
