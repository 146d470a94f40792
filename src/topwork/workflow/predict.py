"""`predict`: a model and photos -> answers, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from topwork.data.scan import list_images
from topwork.errors import DataError
from topwork.exports.predictor import Prediction, Predictor
from topwork.progress import Progress, silent

__all__ = ["predict"]

_SPOKEN = 200  # photos from which on progress is worth a line


def predict(model: str | Path, paths: Iterable[str | Path], *, progress: Progress = silent) -> Iterator[Prediction]:
    """Predict photos and folders of photos.

    Args:
        model: a run folder or a bundle.
        paths: files, and folders whose pictures are taken.
        progress: told how far it is.

    Yields:
        One answer a photo, in order; a photo that cannot be read is an answer with an error.

    Raises:
        BundleError: if there is no model, or it must not be trusted.
        DataError: if there is no photo at all.
    """
    photos = list_images(paths)
    if not photos:
        raise DataError("There is no photo among what was given.", fix="name photos, or folders that hold some.")
    predictor = Predictor.load(model, photos=len(photos), progress=progress)
    return _told(predictor.predict(photos), len(photos), progress=progress)


def _told(answers: Iterable[Prediction], total: int, *, progress: Progress) -> Iterator[Prediction]:
    for done, answer in enumerate(answers, start=1):
        yield answer
        if total >= _SPOKEN:
            progress.step("predict", done, total)
