"""`Heatmaps`: where in a picture the evidence for a class lies. Knows classifiers; nothing about files or drawing.

With A (C,h,w) the layer's output and g = dy/dA the gradient of the explained logit y:

    gradcam     relu(sum_k mean(g_k) A_k)
    gradcam++   relu(sum_k w_k A_k), w_k = sum(a_k relu(g_k)), a_k = g_k² / (2 g_k² + sum(A_k) g_k³)
    layercam    relu(sum_k relu(g_k) A_k): every place with its own weight
    eigencam    the first principal component of A over its places: no gradient, and no class
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from topwork.errors import RecipeError
from topwork.explanations.seam import Seam
from topwork.models.classifier import Classifier

__all__ = ["METHODS", "Heatmaps", "Method", "contrast_maps", "enlarged", "heatmaps", "heatmaps_and_contrasts"]

Method = Literal["gradcam", "gradcam++", "layercam", "eigencam"]
METHODS: tuple[Method, ...] = get_args(Method)
"""In the order of their age; the first is the default."""

_Images = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]
_Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The layer's output and its gradient, each (n,C,h,w) -> maps (n,h,w)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heatmaps:
    """Maps of N pictures.

    Args:
        raw: (N,h,w) at the layer's own resolution, unscaled: >= 0, but for contrasts signed.
        size: (H,W) of the pictures.
        logits: (N,K) of the pictures.
        targets: (N,) the class that each map explains.
        against: (N,) the class that it is contrasted with; None for ordinary maps.
        method: how they were made.
        layer: the block whose output they explain.
    """

    raw: _Floats
    size: tuple[int, ...]
    logits: _Floats
    targets: _Ints
    against: _Ints | None = None
    method: str
    layer: str

    @cached_property
    def maps(self) -> _Floats:
        """(N,H,W) at the pictures' size, each divided by its largest absolute value: [0,1], for contrasts [-1,1].

        A map without any evidence is 0 everywhere.
        """
        return enlarged(self.raw, self.size)


def heatmaps(
    classifier: Classifier,
    images: _Images,
    *,
    target: int | Sequence[int] | _Ints | None = None,
    method: Method = "gradcam",
    layer: str | None = None,
    batch: int = 16,
) -> Heatmaps:
    """Explain a class on every picture.

    Args:
        classifier: on the CPU; its mode is left as it was, and it runs in evaluation mode.
        images: (N,H,W,3) uint8 evaluation views, N >= 1.
        target: the class to explain, one for all or one a picture; None takes the predicted one.
        method: one of `METHODS`.
        layer: name of a block; None takes `default_layer`.
        batch: pictures of one pass, >= 1.

    Raises:
        RecipeError: if the method, the layer or the class does not exist.

    Source: R. Selvaraju et al. (2017), ICCV (Grad-CAM); A. Chattopadhay et al. (2018), WACV (Grad-CAM++); P. Jiang et
    al. (2021), IEEE TIP 30 (LayerCAM); M. Muhammad, M. Yeasin (2020), IJCNN (EigenCAM). ViT tokens are laid out as the
    grid of their patches, as J. Gildenblat's `grad-cam` does.
    """
    one = _One(target, method=method, count=len(images))
    seam = Seam(classifier, layer)
    (raw,), logits = _swept(classifier, images, seam=seam, asked=[one], batch=batch)
    return one.heatmaps(raw, logits, size=images.shape[1:3], layer=seam.layer)


def contrast_maps(
    classifier: Classifier,
    images: _Images,
    *,
    pairs: _Ints | None = None,
    layer: str | None = None,
    batch: int = 16,
) -> Heatmaps:
    """Why this class and not that one: Grad-CAM of the difference of two logits, with its sign.

    Positive places speak for the first class, negative ones for the second. Where the layer is the last, pooling a mean
    and the head linear, a raw map sums to the difference of the logits without their biases. A classifier that judges
    the mirror image too is explained on the picture alone, so its maps sum to the difference of the logits that the
    picture alone gets, and not of `Heatmaps.logits`.

    Args:
        classifier, images, layer, batch: as for `heatmaps`.
        pairs: (N,2) classes; None takes the two most likely ones.

    Raises:
        RecipeError: if the layer or a class does not exist.
    """
    two = _Two(pairs)
    seam = Seam(classifier, layer)
    (raw,), logits = _swept(classifier, images, seam=seam, asked=[two], batch=batch)
    return two.heatmaps(raw, logits, size=images.shape[1:3], layer=seam.layer)


def heatmaps_and_contrasts(
    classifier: Classifier,
    images: _Images,
    *,
    target: int | Sequence[int] | _Ints | None = None,
    method: Method = "gradcam",
    layer: str | None = None,
    batch: int = 16,
) -> tuple[Heatmaps, Heatmaps]:
    """What `heatmaps` and `contrast_maps` give, for one pass through the network instead of two.

    Args:
        classifier, images, target, method, layer, batch: as for `heatmaps`.

    Raises:
        RecipeError: if the method, the layer or the class does not exist.
    """
    one, two = _One(target, method=method, count=len(images)), _Two(None)
    seam = Seam(classifier, layer)
    (raw, contrasts), logits = _swept(classifier, images, seam=seam, asked=[one, two], batch=batch)
    size = images.shape[1:3]
    return (
        one.heatmaps(raw, logits, size=size, layer=seam.layer),
        two.heatmaps(contrasts, logits, size=size, layer=seam.layer),
    )


class _One:
    """Asks for one class of each picture."""

    def __init__(self, target: int | Sequence[int] | _Ints | None, *, method: Method, count: int) -> None:
        if method not in METHODS:
            raise RecipeError(f"There is no heatmap method {method!r}.", fix=f"use one of {', '.join(METHODS)}.")
        self.weigh, self._method = _WEIGH[method], method
        self._given = None if target is None else _classes_for(target, count)
        self._taken: list[_Ints] = []

    def chosen(self, logits: torch.Tensor, rows: slice) -> torch.Tensor:
        mine = logits.argmax(1) if self._given is None else torch.from_numpy(self._given[rows])
        _check_classes(mine, logits.shape[1])
        self._taken.append(mine.numpy().astype(np.int64))
        return logits.gather(1, mine[:, None])[:, 0]

    def heatmaps(self, raw: _Floats, logits: _Floats, *, size: tuple[int, ...], layer: str) -> Heatmaps:
        targets = np.concatenate(self._taken)
        return Heatmaps(raw=raw, size=size, logits=logits, targets=targets, method=self._method, layer=layer)


class _Two:
    """Asks for the difference of two classes."""

    def __init__(self, pairs: _Ints | None) -> None:
        self._pairs = pairs
        self._taken: list[_Ints] = []

    def weigh(self, activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return _weighted(activation, gradient)

    def chosen(self, logits: torch.Tensor, rows: slice) -> torch.Tensor:
        given = self._pairs
        mine = logits.topk(2, dim=1).indices if given is None else torch.from_numpy(np.asarray(given, np.int64)[rows])
        _check_classes(mine, logits.shape[1])
        self._taken.append(mine.numpy().astype(np.int64))
        both = logits.gather(1, mine)
        return both[:, 0] - both[:, 1]

    def heatmaps(self, raw: _Floats, logits: _Floats, *, size: tuple[int, ...], layer: str) -> Heatmaps:
        named = np.concatenate(self._taken)
        return Heatmaps(
            raw=raw,
            size=size,
            logits=logits,
            targets=named[:, 0],
            against=named[:, 1],
            method="contrast",
            layer=layer,
        )


def enlarged(raw: _Floats, size: tuple[int, ...]) -> _Floats:
    """Maps (N,h,w) -> (N,H,W), bicubic, each divided by its largest absolute value; what was >= 0 stays so.

    Bicubic, because a bilinear map always peaks in the middle of a cell, and the object's middle is between cells.
    """
    small = torch.from_numpy(raw)[:, None]
    large = torch.nn.functional.interpolate(small, size=(size[0], size[1]), mode="bicubic", align_corners=False)[:, 0]
    lowest = small.amin(dim=(1, 2, 3))[:, None, None]
    large = torch.where(lowest >= 0, large.clamp_min(0), large)  # a cubic swings a little below its lowest point
    peak = large.abs().amax(dim=(1, 2), keepdim=True)
    scaled: _Floats = torch.where(peak > 0, large / peak.clamp_min(torch.finfo(torch.float32).tiny), 0.0).numpy()
    return scaled


def _swept(
    classifier: Classifier, images: _Images, *, seam: Seam, asked: Sequence[_One | _Two], batch: int
) -> tuple[list[_Floats], _Floats]:
    """Raw maps (N,h,w) of everything that is asked, and logits (N,K), batch by batch."""
    modes = {module: module.training for module in classifier.modules()}
    classifier.eval()
    maps: list[list[_Floats]] = [[] for _ in asked]
    logits = []
    try:
        for start in range(0, len(images), batch):
            rows = slice(start, start + batch)
            activation = seam.below(torch.from_numpy(np.ascontiguousarray(images[rows]))).requires_grad_()
            with torch.enable_grad():
                found = _answers(classifier, activation, seam=seam, images=images[rows])
                for mine, each in zip(maps, asked, strict=True):
                    explained = each.chosen(found, rows).sum()
                    (gradient,) = torch.autograd.grad(explained, activation, retain_graph=each is not asked[-1])
                    mine.append(each.weigh(seam.grid(activation.detach()), seam.grid(gradient)).numpy())
            logits.append(found.detach().numpy())
    finally:
        for module, training in modes.items():
            module.training = training
    return [np.concatenate(mine).astype(np.float32) for mine in maps], np.concatenate(logits).astype(np.float32)


def _answers(classifier: Classifier, activation: torch.Tensor, *, seam: Seam, images: _Images) -> torch.Tensor:
    """Logits (n,K) with a way back to the activation."""
    found = seam.above(activation.clone())  # a block may begin with a layer that works in place
    if not classifier.mirror:
        return found
    # Answered with the mirror image, explained on the picture itself.
    with torch.no_grad():
        other = seam.above(seam.below(torch.from_numpy(np.ascontiguousarray(images[:, :, ::-1]))))
        half_way = (other - found) / 2
    return found + half_way


def _weighted(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(1)  # (N,C,h,w) -> (N,h,w)


def _gradcam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return _weighted(activation, gradient).relu()


def _gradcam_plus_plus(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    total = activation.sum(dim=(2, 3), keepdim=True)
    below = 2 * gradient**2 + total * gradient**3
    share = torch.where(gradient != 0, gradient**2 / (below + 1e-6), 0.0)  # the constant is grad-cam's
    weights = (share * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(1).relu()


def _layercam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return (gradient.relu() * activation).sum(1).relu()


def _eigencam(activation: torch.Tensor, _gradient: torch.Tensor) -> torch.Tensor:
    """The component is known up to its sign; the one is taken that rises with the activation's strength."""
    places = activation.flatten(2).transpose(1, 2).double()  # (N,C,h,w) -> (N,hw,C)
    centred = places - places.mean(dim=1, keepdim=True)
    if centred.shape[1] <= centred.shape[2]:  # the smaller Gram matrix: late layers have few places, early ones many
        values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2))  # (N,hw,hw)
        first = vectors[..., -1] * values[..., -1:].clamp_min(0).sqrt()  # = centred @ the first right singular vector
    else:
        _, vectors = torch.linalg.eigh(centred.transpose(1, 2) @ centred)  # (N,C,C)
        first = (centred @ vectors[..., -1:])[..., 0]  # (N,hw)
    strength = places.norm(dim=2)
    sign = (first * (strength - strength.mean(dim=1, keepdim=True))).sum(dim=1, keepdim=True)
    oriented = (first * torch.where(sign < 0, -1.0, 1.0)).relu().float()
    grid: torch.Tensor = oriented.reshape(len(activation), *activation.shape[2:])  # (N,hw) -> (N,h,w)
    return grid


_WEIGH: dict[str, _Weigh] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus_plus,
    "layercam": _layercam,
    "eigencam": _eigencam,
}


def _classes_for(target: int | Sequence[int] | _Ints, count: int) -> _Ints:
    classes = np.asarray(target, dtype=np.int64)
    if classes.ndim == 0:
        return np.full(count, int(classes))
    if classes.shape != (count,):
        raise RecipeError(
            f"The target of {count} pictures must be one class or {count}. Got {len(classes)}.",
            fix="give one class for all, or one for each picture.",
        )
    return classes


def _check_classes(classes: torch.Tensor, count: int) -> None:
    wrong = classes[(classes < 0) | (classes >= count)]
    if len(wrong):
        raise RecipeError(
            f"The class of a heatmap must be in 0..{count - 1}. Got {int(wrong[0])}.", fix="use a class of the model."
        )
