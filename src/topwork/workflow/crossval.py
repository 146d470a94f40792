"""Cross-validation for splits without a test part: models judge only what they never saw. Knows no run folder."""

from __future__ import annotations

import time
from collections.abc import Callable

from topwork.data.manifest import Manifest
from topwork.data.scan import Scan
from topwork.data.split import folds
from topwork.measures.predictions import Predictions
from topwork.progress import Progress
from topwork.recipe import Recipe, split_shares

__all__ = ["cross_validated"]


def cross_validated(
    recipe: Recipe,
    found: Scan,
    *,
    judge: Callable[[int, Manifest], Predictions],
    seconds: float | None,
    progress: Progress,
) -> Predictions:
    """Train `data.folds` times and pool what each model says about the fold that it never saw.

    Photos that belong together stay in one fold. The rest of a fold is divided into training and validation photos in
    the recipe's own proportion, and every choice is made there, the temperature too.

    Args:
        recipe: the choices.
        found: the photos.
        judge: trains on a fold, given its number from 1 too, and predicts the fold's test part.
        seconds: that one training took, for the forecast; None where nobody knows.
        progress: told what it costs and how far it is.

    Returns:
        Predictions for every photo, each model at its own temperature.

    Raises:
        DataError: if there are fewer groups of photos than folds.
    """
    k = recipe.data.folds
    train, val, _ = split_shares(recipe.data.split)
    forecast = "" if seconds is None else f": about {k * seconds / 60:.1f} more minutes"
    progress.say(
        f"There is no test part, so the headline comes from {k}-fold cross-validation{forecast}; data.folds=0 leaves "
        "it out."
    )
    parts = []
    manifests = folds(found, k=k, seed=recipe.data.seed, val_share=val / (train + val))
    for number, manifest in enumerate(manifests, start=1):
        started = time.perf_counter()
        judged = judge(number, manifest)
        parts.append(judged)
        progress.step("cross-validation", number, k)
        progress.say(
            f"fold {number} of {k}: accuracy {judged.correct.mean():.3f} n={len(judged)} in "
            f"{time.perf_counter() - started:.0f} s"
        )
    return Predictions.pooled(parts)
