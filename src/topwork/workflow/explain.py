"""`explain`: a model and photos -> heatmaps, and why one class and not the next. Writes nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork.cores import CORES
from topwork.data.batches import run_ahead
from topwork.data.decode import decode, printable
from topwork.data.scan import list_images
from topwork.data.view import evaluation_view
from topwork.errors import DataError, DecodeError, RecipeError
from topwork.measures.predictions import softmax
from topwork.progress import Progress, silent
from topwork.spec import InputSpec

if TYPE_CHECKING:
    from topwork.explanations.gradcam import Heatmaps, Method
    from topwork.explanations.neighbours import Neighbour
    from topwork.exports.bundle import Bundle

__all__ = ["Explained", "ExplainedPhoto", "explain"]

_BATCH = 16
_Pixels = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainedPhoto:
    """One photo and why it is what it is.

    Args:
        path: as it was given.
        probabilities: of every class.
        target: the class that `heatmap` explains.
        against: the other one of the two most likely classes; `contrast` speaks for `predicted` where positive.
        view: (H,W,3) uint8, what the network sees.
        raw: (h,w) the heatmap at the layer's own resolution.
        raw_contrast: (h,w) the contrast.
        neighbours: the most similar training photos, where the model is a run whose features are cached.
    """

    path: Path
    probabilities: dict[str, float]
    target: str
    against: str
    view: _Pixels
    raw: _Floats
    raw_contrast: _Floats
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def predicted(self) -> str:
        """The most likely class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def heatmap(self) -> _Floats:
        """(H,W) in [0,1], made when it is asked for: of many photos only the small maps are kept."""
        return _enlarged(self.raw, self.view)

    @property
    def contrast(self) -> _Floats:
        """(H,W) in [-1,1], likewise."""
        return _enlarged(self.raw_contrast, self.view)

    @property
    def peak(self) -> tuple[float, float] | None:
        """Where the heatmap is highest: shares of the view's width and height from its upper left corner.

        None where no place speaks for the class.
        """
        heatmap = self.heatmap
        if not heatmap.any():
            return None
        row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
        return float((column + 0.5) / heatmap.shape[1]), float((row + 0.5) / heatmap.shape[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values; the maps are left out."""
        peak = self.peak
        return {
            "path": printable(self.path),
            "predicted": self.predicted,
            "target": self.target,
            "against": self.against,
            "p": self.probabilities,
            "peak": None if peak is None else [round(share, 4) for share in peak],
            "neighbours": [each.to_json() for each in self.neighbours],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """What `explain` gives.

    Args:
        photos: in the order given.
        failed: path and reason of photos that cannot be read.
        method: of the heatmaps.
        layer: the block that they look at.
        verdict: whether such heatmaps could be believed where the model's run checked them, or that it checked others;
            empty where nothing was checked.
    """

    photos: tuple[ExplainedPhoto, ...]
    failed: tuple[tuple[Path, str], ...]
    method: str
    layer: str
    verdict: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "method": self.method,
            "layer": self.layer,
            "verdict": self.verdict,
            "photos": [photo.to_json() for photo in self.photos],
            "failed": [{"path": printable(path), "error": reason} for path, reason in self.failed],
        }


def explain(
    model: str | Path | Bundle,
    images: str | Path | Iterable[str | Path],
    *,
    target: str | None = None,
    method: Method = "gradcam",
    layer: str | None = None,
    progress: Progress = silent,
) -> Explained:
    """Where on photos a model sees a class.

    Args:
        model: a run folder, a bundle's folder, or a bundle.
        images: photos, and folders of photos.
        target: name of the class to explain; None takes what each photo is predicted to be.
        method: `gradcam`, `gradcam++`, `layercam` or `eigencam`.
        layer: the block to look at; None takes the last, of a ViT the one before the last attention.
        progress: told how far it is.

    Raises:
        BundleError: if there is no model, or it must not be trusted.
        RecipeError: if method, layer or class do not exist.
        DataError: if there is no photo at all.
    """
    from topwork.explanations.gradcam import heatmaps_and_contrasts
    from topwork.exports.bundle import Bundle, read_bundle

    paths = list_images([images] if isinstance(images, str | Path) else images)
    if not paths:
        raise DataError("There is no photo among what was given.", fix="name photos, or folders that hold some.")
    bundle = model if isinstance(model, Bundle) else read_bundle(model)
    number = None if target is None else _class_number(target, bundle.classes)
    progress.step("explain", 0, len(paths))
    photos: list[ExplainedPhoto] = []
    failed: list[tuple[Path, str]] = []
    seen_layer = ""
    for names, views in _views(paths, bundle.spec, failed=failed):
        maps, contrasts = heatmaps_and_contrasts(
            bundle.classifier, views, target=number, method=method, layer=layer, batch=_BATCH
        )
        photos += _photos(names, views, bundle=bundle, maps=maps, contrasts=contrasts)
        seen_layer = maps.layer
        progress.step("explain", len(photos) + len(failed), len(paths))
    _tell_blank(photos, bundle, layer=seen_layer, progress=progress)
    explained = Explained(photos=tuple(photos), failed=tuple(failed), method=method, layer=seen_layer)
    return explained if isinstance(model, Bundle) else _with_memory(explained, model, progress=progress)


def _tell_blank(photos: Sequence[ExplainedPhoto], bundle: Bundle, *, layer: str, progress: Progress) -> None:
    """Say so where no heatmap shows anything: a network that reads only a class token behind the layer has none."""
    if not photos or any(photo.raw.any() for photo in photos):
        return
    earlier = " or an earlier --layer" if layer != bundle.classifier.backbone.block_names[0] else ""
    progress.say(f"No heatmap shows anything: no place of layer {layer} speaks for a class.")
    progress.say(f"Try `topwork explain` with --method eigencam{earlier}.")


def _with_memory(explained: Explained, model: str | Path, *, progress: Progress) -> Explained:
    """With what the model's run knows, where the model is a run."""
    from topwork.workflow.run_memory import RunMemory

    memory = RunMemory.of(model, progress=progress)
    if memory is None or not explained.photos:
        return explained
    near = memory.nearest([photo.path for photo in explained.photos])
    photos = tuple(replace(photo, neighbours=mine) for photo, mine in zip(explained.photos, near, strict=True))
    return replace(explained, photos=photos, verdict=memory.verdict(explained.method, explained.layer))


def _class_number(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise RecipeError(f"The model does not know the class {name!r}.", fix=f"use one of {', '.join(classes)}.")
    return list(classes).index(name)


def _views(
    paths: Sequence[Path], spec: InputSpec, *, failed: list[tuple[Path, str]]
) -> Generator[tuple[list[Path], _Pixels], None, None]:
    """Batches of readable photos; the others go to `failed`."""

    def read(path: Path) -> tuple[Path, _Pixels | DecodeError]:
        try:
            return path, evaluation_view(decode(path, target=spec.resize).pixels, spec)
        except DecodeError as error:
            return path, error

    remaining = iter(paths)
    for group in run_ahead(read, iter(lambda: list(islice(remaining, _BATCH)), []), workers=CORES):
        failed += [(path, found.what) for path, found in group if isinstance(found, DecodeError)]
        readable = [(path, found) for path, found in group if not isinstance(found, DecodeError)]
        if readable:
            yield [path for path, _ in readable], np.stack([view for _, view in readable])


def _photos(
    names: Sequence[Path], views: _Pixels, *, bundle: Bundle, maps: Heatmaps, contrasts: Heatmaps
) -> list[ExplainedPhoto]:
    assert contrasts.against is not None
    found = softmax(maps.logits.astype(np.float64) / bundle.card.temperature)
    return [
        ExplainedPhoto(
            path=path,
            probabilities={name: float(p) for name, p in zip(bundle.classes, found[row], strict=True)},
            target=bundle.classes[int(maps.targets[row])],
            against=bundle.classes[int(contrasts.against[row])],
            view=views[row],
            raw=maps.raw[row],
            raw_contrast=contrasts.raw[row],
        )
        for row, path in enumerate(names)
    ]


def _enlarged(raw: _Floats, view: _Pixels) -> _Floats:
    from topwork.explanations.gradcam import enlarged

    large: _Floats = enlarged(raw[None], view.shape[:2])[0]
    return large
