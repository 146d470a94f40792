"""`export`: a model -> a file of another framework, compared with the original before it counts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork.atomic import atomic_path, write_json
from topwork.data.decode import decode
from topwork.data.drawn import SPECIES, draw_flower
from topwork.data.manifest import Manifest
from topwork.data.view import evaluation_view
from topwork.digest import file_sha256
from topwork.errors import DecodeError, ExportError, TopworkError
from topwork.progress import Progress, silent
from topwork.spec import InputSpec
from topwork.workflow.rundir import RunDir

if TYPE_CHECKING:
    from topwork.exports.bundle import Bundle

__all__ = ["TOLERANCE", "Exported", "export"]

TOLERANCE = 1e-4
"""Largest difference of a probability from the original's that an export may have."""

_COMPARED = 16
_ENDINGS = (".keras", ".h5")
_Views = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What `export` wrote.

    Args:
        model: the file.
        facts: the JSON file beside it: classes in the order of the answers, and how to prepare a picture.
        difference: largest difference of a probability from topwork's own.
        photos: pictures that were compared.
        drawn: whether these were drawn flowers, because the run's own photos are not there.
    """

    model: Path
    facts: Path
    difference: float
    photos: int
    drawn: bool

    @property
    def pictures(self) -> str:
        """What was compared, in words."""
        return "drawn flowers" if self.drawn else "photos of the run"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": str(self.model),
            "facts": str(self.facts),
            "difference": self.difference,
            "tolerance": TOLERANCE,
            "photos": self.photos,
            "pictures": self.pictures,
        }


def export(
    model: str | Path, *, format: str = "keras", to: str | Path | None = None, progress: Progress = silent
) -> Exported:
    """Write a model for another framework, unless it would answer differently.

    Args:
        model: a run folder or a bundle.
        format: `keras`.
        to: the file, `.keras` or `.h5`; None takes the model's name with `.keras`, beside it.
        progress: told what happens.

    Raises:
        BundleError: if there is no model, or it must not be trusted.
        ExportError: if the format is unknown or its package not installed, the network cannot be rebuilt, or the file's
            probabilities differ by more than `TOLERANCE`.
    """
    from topwork.exports.bundle import read_bundle
    from topwork.exports.to_keras import keras_model, keras_probabilities, save_keras

    if format != "keras":
        raise ExportError(f"There is no export format {format!r}.", fix="use keras.")
    path = _target(Path(model), to)
    bundle = read_bundle(model)
    progress.say(f"Rebuilding {bundle.card.backbone.name} in Keras.")
    rebuilt = keras_model(bundle)
    views, drawn = _pictures(Path(model), bundle)
    with atomic_path(path) as draft:
        save_keras(rebuilt, draft)
        progress.say(f"Comparing {len(views)} pictures.")
        difference = _difference(keras_probabilities(draft, views), bundle, views=views)
    facts = path.with_name(f"{path.name}.json")
    write_json(facts, _facts(path, bundle, difference=difference))
    return Exported(model=path, facts=facts, difference=difference, photos=len(views), drawn=drawn)


def _target(model: Path, to: str | Path | None) -> Path:
    """The file to write."""
    if to is None:
        place = model if model.name.strip(".") else model.resolve()
        return place.with_name(f"{place.name}.keras")
    path = Path(to)
    if path.suffix not in _ENDINGS:
        raise ExportError(
            f"The file of a Keras model must end in {' or '.join(_ENDINGS)}. Got {str(to)!r}.",
            fix=f"use --to {path.name or 'model'}.keras.",
        )
    if path.is_dir():
        raise ExportError(f"{str(to)!r} is a folder.", fix="choose another name with --to.")
    if any(parent.is_file() for parent in path.parents):
        raise ExportError(f"{str(to)!r} lies below a file.", fix="choose another place with --to.")
    return path


def _pictures(model: Path, bundle: Bundle) -> tuple[_Views, bool]:
    """Evaluation views (n,size,size,3), and whether they are of drawn flowers."""
    found = list(islice(_readable(_photos(model), bundle.spec), _COMPARED))
    if found:
        return np.stack(found), False
    size = min(max(bundle.spec.size, 32), 512)
    drawn = [draw_flower(SPECIES[seed % len(SPECIES)], seed=seed, size=size).pixels for seed in range(_COMPARED)]
    return np.stack([evaluation_view(pixels, bundle.spec) for pixels in drawn]), True


def _photos(model: Path) -> Iterable[Path]:
    """Photos of the run that the model is or lies in, in an order that no name decides; none if there is no run."""
    for folder in (model, model.parent):
        with suppress(TopworkError, KeyError):
            run = RunDir.open(folder)
            manifest = Manifest.read_csv(run.manifest_file, root=Path(run.provenance()["data"]["root"]))
            return manifest.paths(sorted(manifest.rows, key=lambda row: row.sha256))
    return ()


def _readable(photos: Iterable[Path], spec: InputSpec) -> Iterable[_Views]:
    for photo in photos:
        try:
            yield evaluation_view(decode(photo, target=spec.resize).pixels, spec)
        except DecodeError:
            continue


def _difference(found: npt.NDArray[np.float32], bundle: Bundle, *, views: _Views) -> float:
    """The largest one from what topwork itself says.

    Raises:
        ExportError: if it is too large.
    """
    from topwork.exports.predictor import Predictor

    own = Predictor.load(bundle, engine="torch").probabilities(views)
    difference = float(np.abs(found - own).max())
    if not difference <= TOLERANCE:  # NaN is refused too
        raise ExportError(
            f"The Keras model of {bundle.card.backbone.name} would answer differently: its probabilities are up to "
            f"{difference:.1e} from topwork's own, and {TOLERANCE:.0e} is allowed. Nothing is written.",
            fix="use the bundle in RUN/model, and report this network.",
        )
    return difference


def _facts(path: Path, bundle: Bundle, *, difference: float) -> dict[str, Any]:
    from topwork.exports.to_keras import keras_version

    spec, backbone = bundle.spec, bundle.card.backbone
    return {
        "file": path.name,
        "sha256": file_sha256(path),
        "classes": list(bundle.classes),
        "input": {
            "shape": [None, spec.size, spec.size, 3],
            "values": "RGB, 0 to 255, as floats; normalisation is inside the model",
            "short_side": spec.resize,
            "crop": spec.size,
            "interpolation": f"{spec.interpolation}, antialiased",
        },
        "output": "calibrated probabilities, one a class, in the order of `classes`",
        "difference": difference,
        "backbone": {"name": backbone.name, "source": backbone.source, "licence": backbone.licence},
        "versions": {"topwork": bundle.card.topwork, "keras": keras_version()},
    }
