"""On which photos the recipes of a comparison disagree: those of the folds, and those of another folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from topwork.data.scan import list_images
from topwork.errors import DataError
from topwork.measures.predictions import Predictions
from topwork.progress import Progress, silent
from topwork.reports.comparison import Answer, Dispute, Elsewhere, strongest_disputes

__all__ = ["disputes_elsewhere", "disputes_out_of_fold", "photos_below"]


def disputes_out_of_fold(said: Mapping[str, Predictions]) -> list[Dispute]:
    """The photos on which models disagree.

    Args:
        said: model -> predictions of the same photos in the same order.
    """
    first = next(iter(said.values()))
    shares = {name: part.probabilities for name, part in said.items()}
    disputes = []
    guesses = np.stack([part.predicted for part in said.values()])  # (M,N)
    for row in map(int, np.flatnonzero((guesses != guesses[0]).any(axis=0))):
        answers = {
            name: Answer(predicted=first.classes[int(p[row].argmax())], p=float(p[row].max()))
            for name, p in shares.items()
        }
        disputes.append(Dispute(path=first.paths[row], label=first.classes[int(first.labels[row])], answers=answers))
    return disputes


def photos_below(folder: str | Path) -> tuple[Path, ...]:
    """The photos of a folder, at least one.

    Raises:
        DataError: if the folder does not exist or holds no photo.
    """
    paths = list_images([folder]) if Path(folder).is_dir() else ()
    if not paths:
        raise DataError(f"There is no photo in {str(folder)!r}.", fix="give a folder that holds some with --photos.")
    return paths


def disputes_elsewhere(photos: str | Path, models: Mapping[str, Path], *, progress: Progress = silent) -> Elsewhere:
    """Ask shipped models about photos that nobody labelled.

    Args:
        photos: a folder.
        models: name -> run folder or bundle.
        progress: told how far it is.

    Raises:
        DataError: if the folder does not exist or holds no photo.
        BundleError: if a model is missing or must not be trusted.
    """
    from topwork.exports.predictor import Predictor

    root, paths = Path(photos), photos_below(photos)
    answers: dict[Path, dict[str, Answer]] = {path: {} for path in paths}
    for number, (name, model) in enumerate(models.items()):
        predictor = Predictor.load(model, photos=len(paths), progress=progress)
        for done, found in enumerate(predictor.predict(paths), start=1):
            if found.predicted is not None:
                answers[found.path][name] = Answer(
                    predicted=found.predicted, p=float(found.probabilities[found.predicted])
                )
            progress.step("photos from elsewhere", number * len(paths) + done, len(models) * len(paths))
    disputes = [Dispute(path=_below(path, root), label=None, answers=said) for path, said in answers.items() if said]
    return Elsewhere(
        name=root.name or str(root),
        root=root.resolve(),
        photos=len(disputes),
        unreadable=len(paths) - len(disputes),
        disputes=strongest_disputes(disputes),
    )


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
