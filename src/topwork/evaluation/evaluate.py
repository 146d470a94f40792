"""`Predictions` -> `Evaluation`: every number with its interval and its n. Knows nothing about images, models or torch.

Which interval a number gets:

* shares of photos (accuracy, precision and recall of a class): Wilson's; the F1 of a class: what follows from it;
* averages over classes, NLL and Brier score: the BCa bootstrap, stratified by class; ECE: see `ece_interval`;
* photos in groups (bursts of one scene, say) are not independent: then whole groups are resampled, accuracy included,
  and the per-class intervals count as many photos as the groups are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.digest import seed_from
from topwork.errors import DataError
from topwork.evaluation.scores import ClassScores, Evaluation, SplitScores
from topwork.measures.bootstrap import Bootstrap, bootstrap, unit_numbers
from topwork.measures.calibration import BINS, brier_terms, ece_interval, gap_terms, nll_terms, reliability
from topwork.measures.intervals import Interval, design_effect, difference, f1_interval, wilson
from topwork.measures.metrics import ClassCounts, confusion_matrix, most_confused
from topwork.measures.predictions import Predictions
from topwork.measures.stability import Stability

__all__ = ["Evaluation", "evaluate"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]

_SEEN = ("val",)  # parts that chose an epoch, a learning rate, a temperature
_CEILINGS = {"brier": 2.0, "nll": 16.0}  # e^-16 is about the resolution of float32: what a confident error can cost


def evaluate(
    parts: Mapping[str, Predictions],
    *,
    seconds: Mapping[str, float],
    groups: Mapping[str, Sequence[str]] | None = None,
    losses: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure every split; the module's docstring says with which intervals.

    Args:
        parts: split -> predictions, all over the same classes; `val` is marked as seen by choices.
        seconds: stage -> wall time in s.
        groups: split -> group name of each photo (empty: a group of its own); a split that is not named has none.
        losses: phase -> validation loss of each of its epochs, for the stability.
        seed: of the bootstrap; the same seed gives the same numbers, whatever the other splits are.

    Raises:
        DataError: if no split has a photo, classes differ, or groups and photos differ in number.
    """
    filled = {name: part for name, part in parts.items() if len(part)}
    grouped = {name: _groups_of(name, part, groups=(groups or {}).get(name)) for name, part in filled.items()}
    if not filled or len({part.classes for part in filled.values()}) != 1:
        raise DataError(
            f"The parts of an evaluation must hold photos of the same classes. Got {len(filled)} parts with photos.",
            fix="evaluate the parts of one run.",
        )
    resampled = {
        name: _resampled(part, grouped[name], seed=seed_from("bootstrap", seed, name)) for name, part in filled.items()
    }
    splits = {name: _scores(name, part, groups=grouped[name], sampled=resampled[name]) for name, part in filled.items()}
    return Evaluation(
        classes=next(iter(filled.values())).classes,
        splits=splits,
        gap=_gap(splits, resampled, other="test"),
        seconds=dict(seconds),
        gap_to_val=_gap(splits, resampled, other="val"),
        stability={phase: found for phase, each in (losses or {}).items() if (found := Stability.of(each)) is not None},
    )


def _groups_of(name: str, part: Predictions, *, groups: Sequence[str] | None) -> Sequence[str] | None:
    """None if no group has two photos: then photos are independent."""
    if groups is None:
        return None
    if len(groups) != len(part):
        raise DataError(
            f"The groups of {name} must name one group for each of {len(part)} photos. Got {len(groups)}.",
            fix="give the manifest's group of each photo, in the order of the predictions.",
        )
    named = [group for group in groups if group]
    return None if len(set(named)) == len(named) else groups


def _resampled(part: Predictions, groups: Sequence[str] | None, *, seed: int) -> Bootstrap:
    summands = _summands(part)
    whole = np.asarray(summands.sum(axis=0)).ravel()
    statistics = _statistics(len(part.classes), whole)
    return bootstrap(summands, statistics, strata=part.labels, groups=groups, seed=seed)


def _summands(part: Predictions) -> Any:
    """(N, 3K + BINS + 3) sparse: hit, guess and truth of each class, gap of each bin, NLL, Brier score, 1."""
    from scipy import sparse

    k, rows = len(part.classes), np.arange(len(part))
    gaps, bins = gap_terms(part)
    ones = np.ones(len(part))
    entries = [  # (column, number) of each photo
        (part.labels, part.correct.astype(np.float64)),
        (k + part.predicted, ones),
        (2 * k + part.labels, ones),
        (3 * k + bins, gaps),
        (np.full(len(part), 3 * k + BINS), nll_terms(part)),
        (np.full(len(part), 3 * k + BINS + 1), brier_terms(part)),
        (np.full(len(part), 3 * k + BINS + 2), ones),
    ]
    columns, numbers = (np.concatenate(each) for each in zip(*entries, strict=True))
    return sparse.csr_array((numbers, (np.tile(rows, len(entries)), columns)), shape=(len(part), 3 * k + BINS + 3))


def _statistics(k: int, whole: _Floats) -> Callable[[_Floats], dict[str, _Floats]]:
    """Sums (...,C) of `_summands`, whose sums over all photos are `whole` (C,) -> measures (...) by name."""
    bins = slice(3 * k, 3 * k + BINS)

    def statistics(sums: _Floats) -> dict[str, _Floats]:
        counts = ClassCounts(hits=sums[..., :k], guesses=sums[..., k : 2 * k], truths=sums[..., 2 * k : 3 * k])
        photos = np.maximum(sums[..., -1], 1.0)  # a split of one photo has none when that one is left out
        return {
            "accuracy": counts.accuracy,
            "balanced_accuracy": counts.balanced_accuracy,
            "macro_f1": counts.macro_f1,
            "macro_precision": counts.macro_precision,
            "weighted_f1": counts.weighted_f1,
            "weighted_precision": counts.weighted_precision,
            "ece": np.abs(sums[..., bins]).sum(-1) / photos,
            "ece_noise": np.abs(sums[..., bins] - whole[bins]).sum(-1) / photos,
            "nll": sums[..., -3] / photos,
            "brier": sums[..., -2] / photos,
        }

    return statistics


def _scores(name: str, part: Predictions, *, groups: Sequence[str] | None, sampled: Bootstrap) -> SplitScores:
    plain = sampled.values.keys() - {"ece", "ece_noise"}
    found = {measure: sampled.interval(measure, ceiling=_CEILINGS.get(measure, 1.0)) for measure in plain}
    if groups is None:
        found["accuracy"] = wilson(int(part.correct.sum()), len(part))
    predicted = part.predicted
    matrix = confusion_matrix(part.labels, predicted, classes=len(part.classes))
    unit_of = None if groups is None else unit_numbers(groups)
    return SplitScores(
        **found,
        ece=ece_interval(sampled),
        macro_recall=found["balanced_accuracy"],  # the same number by definition, so the same interval
        weighted_recall=found["accuracy"],
        per_class={
            label: _class_scores(predicted == number, part.labels == number, unit_of=unit_of)
            for number, label in enumerate(part.classes)
        },
        confusion_matrix=tuple(tuple(map(int, row)) for row in matrix),
        most_confused=tuple(most_confused(matrix, part.classes)),
        reliability=reliability(part),
        seen_by_choices=name in _SEEN,
    )


def _class_scores(guess: _Flags, truth: _Flags, *, unit_of: _Ints | None) -> ClassScores:
    hit, either = guess & truth, guess | truth
    hits = int(hit.sum())

    def effect(trials: _Flags) -> float:
        if unit_of is None:
            return 1.0
        return design_effect(_sums(unit_of, hit), _sums(unit_of, trials))

    return ClassScores(
        precision=wilson(hits, int(guess.sum()), effect=effect(guess)),
        recall=wilson(hits, int(truth.sum()), effect=effect(truth)),
        f1=f1_interval(hits, int(either.sum()), effect=effect(either)),
        support=int(truth.sum()),
    )


def _sums(unit_of: _Ints, chosen: _Flags) -> _Floats:
    return np.asarray(np.bincount(unit_of, weights=chosen), dtype=np.float64)


def _gap(splits: Mapping[str, SplitScores], sampled: Mapping[str, Bootstrap], *, other: str) -> dict[str, Interval]:
    """Training minus another split."""
    if not {"train", other} <= splits.keys():
        return {}
    train, less = splits["train"], splits[other]
    drawn = sampled["train"].minus(sampled[other])
    macro_f1 = drawn.interval("macro_f1") if drawn.varies("macro_f1") else difference(train.macro_f1, less.macro_f1)
    return {"accuracy": difference(train.accuracy, less.accuracy), "macro_f1": macro_f1}
