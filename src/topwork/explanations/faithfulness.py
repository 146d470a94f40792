"""Is a heatmap faithful? What happens to the answer when the marked places are taken away, or nothing else is shown.

A map is worth looking at only if it does better than chance and better than "look at the middle", so both are measured
on the same photos, and differences come with intervals. Knows a model only as pictures -> logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from topwork.explanations.gradcam import enlarged
from topwork.measures.bootstrap import bootstrap
from topwork.measures.intervals import Interval, wilson
from topwork.measures.predictions import softmax

__all__ = [
    "ENOUGH",
    "Areas",
    "Faithfulness",
    "Removal",
    "Score",
    "accuracy_without",
    "blurred_views",
    "centre_maps",
    "faithfulness",
    "mean_interval",
    "random_maps",
]

_Images = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]
Score = Callable[[_Images], npt.NDArray[Any]]
"""uint8 evaluation views (n,H,W,3) -> logits (n,K)."""

ENOUGH = 50
"""Photos from which a difference that matters would be seen; below, no difference may be for lack of photos."""

_BLUR = 1 / 20  # sigma in picture sides: shapes are gone, colours stay
_BATCH = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Areas:
    """Areas under the curves of N photos, each (N,) in [0,1].

    Args:
        deletion: the sooner the probability falls, the smaller, and the better the map.
        insertion: the sooner it rises, the larger, and the better the map.
    """

    deletion: npt.NDArray[np.float64]
    insertion: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Removal:
    """Takes places away from photos in the order of a map, and asks the model again.

    Deletion fills the places with one colour, from the most important on; insertion starts from a blurred photo and
    brings the places back. The curve is the probability of the explained class over the share of places.

    Args:
        score: the model.
        images: (N,H,W,3) uint8 evaluation views.
        targets: (N,) the explained classes.
        fill: colour of what was deleted, (3,) in [0,255]; the mean that the network subtracts.
        steps: points of a curve after the first, >= 2.

    Source: V. Petsiuk, A. Das, K. Saenko (2018), BMVC (RISE).
    """

    score: Score
    images: _Images
    targets: _Ints
    fill: tuple[float, float, float] = (127.5, 127.5, 127.5)
    steps: int = 10

    def areas(self, maps: _Floats, *, seed: int = 0) -> Areas:
        """Areas under both curves for maps (N,H,W); places of equal importance go in random order."""
        blurred, filled, (whole, nothing, soft) = self._ends
        deletion, insertion = [whole], [soft]
        ranks = _ranks(maps, seed=seed)  # (N,H,W): 0 is the most important place
        places = ranks[0].size
        for step in range(1, self.steps):
            taken = (ranks < places * step / self.steps)[..., None]
            deletion.append(self._probability(np.where(taken, filled, self.images)))
            insertion.append(self._probability(np.where(taken, self.images, blurred)))
        return Areas(deletion=_area([*deletion, nothing]), insertion=_area([*insertion, whole]))

    @cached_property
    def _ends(self) -> tuple[_Images, _Images, list[npt.NDArray[np.float64]]]:
        """The blurred and the filled photos, and the answers to whole, filled and blurred ones: of every curve."""
        blurred, filled = blurred_views(self.images), np.empty_like(self.images)
        filled[:] = np.round(self.fill)
        return blurred, filled, [self._probability(views) for views in (self.images, filled, blurred)]

    def _probability(self, views: _Images) -> npt.NDArray[np.float64]:
        parts = [softmax(np.asarray(self.score(part), np.float64)) for part in _batches(views)]
        found: npt.NDArray[np.float64] = np.concatenate(parts)[np.arange(len(views)), self.targets]
        return found


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """How a method's maps do against maps that know nothing of the model.

    Args:
        deletion, insertion: mean areas of the method.
        against: `random` and `centre` -> `deletion` and `insertion` -> mean difference to that map, photo by photo.
    """

    deletion: Interval
    insertion: Interval
    against: Mapping[str, Mapping[str, Interval]]

    def beats(self, other: str) -> bool:
        """Whether deletion is lower and insertion higher than the other map's, both beyond the interval."""
        return self.against[other]["deletion"].high < 0 < self.against[other]["insertion"].low

    @property
    def enough(self) -> bool:
        """Whether the photos are many enough to say that there is no difference."""
        return self.deletion.n >= ENOUGH

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        lost = [name for name, words in _OTHERS.items() if not self.beats(name)]
        if not lost:
            return "The heatmaps mark what the model uses: better than random maps and than the middle of the photo."
        names = " nor ".join(_OTHERS[name] for name in lost)
        if not self.enough:
            return f"{self.deletion.n} photos do not show that the heatmaps are better than {names}: they are too few."
        return f"The heatmaps are not shown to be better than {names} on {self.deletion.n} photos; do not rely on them."

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "deletion": self.deletion.to_json(),
            "insertion": self.insertion.to_json(),
            "against": {
                name: {key: interval.to_json() for key, interval in each.items()} for name, each in self.against.items()
            },
            "beats": {name: self.beats(name) for name in self.against},
            "enough": self.enough,
            "verdict": self.verdict,
        }


_OTHERS = {"random": "random maps", "centre": "the middle of the photo"}


def faithfulness(removal: Removal, maps: _Floats, *, cells: tuple[int, int], seed: int = 0) -> Faithfulness:
    """Deletion and insertion of maps against random maps and the centre prior, on the same photos.

    Args:
        removal: the model and N photos, N >= 2.
        maps: (N,H,W) the method's.
        cells: (h,w) of the method's raw maps: a random map has the same grain, else it would be too easy to beat.
        seed: of the random maps.
    """
    size = removal.images.shape[1:3]
    mine = removal.areas(maps, seed=seed)
    others = {
        "random": removal.areas(random_maps(len(maps), size, cells=cells, seed=seed), seed=seed),
        "centre": removal.areas(centre_maps(len(maps), size), seed=seed),
    }
    return Faithfulness(
        deletion=mean_interval(mine.deletion),
        insertion=mean_interval(mine.insertion),
        against={
            name: {
                "deletion": mean_interval(mine.deletion - other.deletion),
                "insertion": mean_interval(mine.insertion - other.insertion),
            }
            for name, other in others.items()
        },
    )


def random_maps(count: int, size: tuple[int, ...], *, cells: tuple[int, int], seed: int) -> _Floats:
    """(count,H,W): uniform noise on a grid of cells, enlarged as heatmaps are."""
    noise = np.random.default_rng(seed).random((count, *cells), dtype=np.float32)
    return enlarged(noise, size)


def centre_maps(count: int, size: tuple[int, ...]) -> _Floats:
    """(count,H,W): the closer to the middle, the higher; knows nothing of the photo."""
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    near = np.exp(-2 * (rows[:, None] ** 2 + columns[None, :] ** 2))
    return np.broadcast_to(near, (count, *near.shape)).astype(np.float32)


def accuracy_without(removal: Removal, maps: _Floats, *, labels: _Ints, share: float = 0.25) -> dict[str, Interval]:
    """Accuracy when the background, and when the object, is blurred, as far as a heatmap can tell them apart.

    Args:
        removal: the model and its photos.
        maps: (N,H,W).
        labels: (N,) true classes.
        share: of the places, the most important ones, that count as object.

    Returns:
        `intact`, `background blurred`, `object blurred`.
    """
    hot = (_ranks(maps, seed=0) < share * maps[0].size)[..., None]
    blurred = blurred_views(removal.images)
    views = {
        "intact": removal.images,
        "background blurred": np.where(hot, removal.images, blurred),
        "object blurred": np.where(hot, blurred, removal.images),
    }
    right = {
        name: sum(
            int((removal.score(part).argmax(1) == labels[start : start + _BATCH]).sum())
            for start, part in zip(range(0, len(each), _BATCH), _batches(each), strict=True)
        )
        for name, each in views.items()
    }
    return {name: wilson(count, len(labels)) for name, count in right.items()}


def mean_interval(values: npt.ArrayLike, *, seed: int = 0) -> Interval:
    """The mean of one number a photo, with its BCa bootstrap interval; at least one value."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2 or np.ptp(numbers) < 1e-12:  # resampling shows nothing
        value = float(numbers.mean())
        return Interval(value=value, low=value, high=value, n=len(numbers))
    summands = np.stack([numbers, np.ones_like(numbers)], axis=1)
    found = bootstrap(
        summands,
        lambda sums: {"mean": sums[..., 0] / np.maximum(sums[..., 1], 1)},
        strata=np.zeros(len(numbers), np.int64),
        seed=seed,
    )
    return found.interval("mean")


def blurred_views(images: _Images) -> _Images:
    """(N,H,W,3) without shapes: what insertion starts from."""
    sigma = images.shape[1] * _BLUR
    return np.stack([np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8) for image in images])


def _ranks(maps: _Floats, *, seed: int) -> npt.NDArray[np.int64]:
    """(N,H,W): how many places of the same map are more important; equal ones in random order."""
    flat = maps.reshape(len(maps), -1)
    dice = np.random.default_rng(seed).random(flat.shape[1])
    ranks = np.empty(flat.shape, np.int64)
    for row, values in enumerate(flat):
        ranks[row, np.lexsort((dice, -values))] = np.arange(len(values))
    return ranks.reshape(maps.shape)


def _area(points: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Trapezoids over equal steps of [0,1]: S+1 points (N,) -> (N,)."""
    curve = np.stack(points)
    return np.asarray((curve[:-1] + curve[1:]).sum(axis=0) / (2 * (len(points) - 1)))


def _batches(views: _Images) -> list[_Images]:
    return [views[start : start + _BATCH] for start in range(0, len(views), _BATCH)]
