"""`evaluate`: a finished run's numbers again, or its model on other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from topwork.data.scan import Scan, scan
from topwork.errors import DataError
from topwork.evaluation.evaluate import evaluate as measure
from topwork.evaluation.scores import Evaluation
from topwork.exports.predictor import Predictor
from topwork.measures.predictions import Predictions
from topwork.progress import Progress, silent
from topwork.training.history import epoch_losses
from topwork.workflow.rundir import RunDir

__all__ = ["evaluate"]

_SMALLEST = 1e-12  # a probability of 0 has no logarithm


def evaluate(run: str | Path, *, data: str | Path | None = None, progress: Progress = silent) -> Evaluation:
    """Measure a run's model.

    Args:
        run: a finished run; with `data` a bundle does too.
        data: other labelled photos, all of which count as test; None measures the run's own predictions again.
        progress: told how far it is.

    Raises:
        RunError: if there is no finished run.
        BundleError: if there is no model, or it must not be trusted.
        DataError: if the other data have a class that the model does not know.
    """
    if data is None:
        opened = RunDir.open(run)
        losses = epoch_losses(opened.history())
        return measure(opened.predictions(), seconds=opened.evaluation()["seconds"], losses=losses)
    found = scan(data, progress=progress)
    predictor = Predictor.load(run, photos=len(found.records), progress=progress)
    unknown = sorted(set(found.classes) - set(predictor.classes))
    if unknown:
        raise DataError(
            f"The model does not know the class {unknown[0]!r}; it knows {', '.join(predictor.classes)}.",
            fix="rename the class folders to the model's names, or leave the others out.",
        )
    return measure({"test": _predicted(predictor, found, progress=progress)}, seconds={})


def _predicted(predictor: Predictor, found: Scan, *, progress: Progress) -> Predictions:
    logits = np.zeros((len(found.records), len(predictor.classes)))
    paths = [found.root / record.path for record in found.records]
    for row, answer in enumerate(predictor.predict(paths)):
        if answer.error:
            raise DataError(answer.error, fix=answer.fix)
        logits[row] = np.log(np.maximum(list(answer.probabilities.values()), _SMALLEST))
        progress.step("predict", row + 1, len(paths))
    return Predictions(
        logits=logits,
        labels=np.array([predictor.classes.index(str(record.label)) for record in found.records]),
        paths=tuple(record.path for record in found.records),
        classes=predictor.classes,
    )
