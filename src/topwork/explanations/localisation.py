"""Does a heatmap lie on the object? For pictures whose exact mask is known. Knows arrays only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.explanations.faithfulness import Score, mean_interval
from topwork.measures.bootstrap import bootstrap
from topwork.measures.intervals import Interval, wilson

__all__ = ["Localisation", "accuracy_on", "localisation", "on_other_background"]

_Images = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]
_Masks = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]

_TOLERANCE = 15 / 224  # of the side; J. Zhang et al. (2016) allow 15 pixels


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """How much of a map lies on the object.

    Args:
        energy: mean share of the map's sum that lies inside the mask; a map without evidence has 0.
        area: mean share of the picture that the mask covers: the energy of a map that knows nothing.
        ratio: energy / area, of the means.
        pointing: share of pictures whose highest place lies inside the mask.
        pointing_near: the same, if 15/224 of the side beside the mask counts too.
    """

    energy: Interval
    area: Interval
    ratio: Interval
    pointing: Interval
    pointing_near: Interval

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name).to_json() for name in self.__dataclass_fields__}


def localisation(maps: _Floats, masks: _Masks) -> Localisation:
    """Energy inside the mask and the pointing game.

    Args:
        maps: (N,H,W), >= 0, N >= 1.
        masks: (N,H,W), True on the object.

    Source: H. Wang et al. (2020), CVPR workshops (energy-based pointing game); J. Zhang et al. (2016), ECCV.
    """
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = (maps * masks).sum(axis=(1, 2), dtype=np.float64)
    energy = np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)
    area = masks.mean(axis=(1, 2))
    ratio = bootstrap(
        np.stack([energy, area], axis=1),
        lambda sums: {"ratio": sums[..., 0] / np.maximum(sums[..., 1], 1e-12)},
        strata=np.zeros(len(maps), np.int64),
    ).interval("ratio", ceiling=1 / max(float(area.mean()), 1e-12))
    hit = [_hit(each, mask, reach=0) for each, mask in zip(maps, masks, strict=True)]
    reach = round(_TOLERANCE * maps.shape[1])
    near = [_hit(each, mask, reach=reach) for each, mask in zip(maps, masks, strict=True)]
    return Localisation(
        energy=mean_interval(energy),
        area=mean_interval(area),
        ratio=ratio,
        pointing=wilson(sum(hit), len(hit)),
        pointing_near=wilson(sum(near), len(near)),
    )


def on_other_background(images: _Images, backgrounds: _Images, *, masks: _Masks) -> _Images:
    """The objects of some pictures before the backgrounds of others, all (N,H,W,3)."""
    return np.where(masks[..., None], images, backgrounds)


def accuracy_on(
    score: Score, variants: Mapping[str, _Images], *, labels: _Ints, batch: int = 64
) -> dict[str, Interval]:
    """Accuracy of a model on changed pictures (N,H,W,3) whose labels (N,) stay those of the originals."""
    found = {}
    for name, images in variants.items():
        answers = [score(images[start : start + batch]).argmax(1) for start in range(0, len(images), batch)]
        found[name] = wilson(int((np.concatenate(answers) == labels).sum()), len(labels))
    return found


def _hit(heatmap: _Floats, mask: _Masks, *, reach: int) -> bool:
    if heatmap.max() <= 0:
        return False
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    rows, columns = np.nonzero(mask)
    return bool(len(rows)) and bool(((rows - row) ** 2 + (columns - column) ** 2).min() <= reach**2)
