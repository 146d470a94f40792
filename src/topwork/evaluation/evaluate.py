"""Predictions -> `Evaluation`: every number with its interval and its n. Knows nothing about images, models or torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.measures.calibration import BINS, brier_terms, gap_terms, nll_terms, reliability
from topwork.measures.intervals import Interval, bca_interval, resampled_totals, wilson, wilson_difference
from topwork.measures.metrics import (
    accuracy,
    averaged,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
    most_confused,
)
from topwork.measures.predictions import Predictions

__all__ = ["Evaluation", "evaluate"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of `evaluation.json`.

    Args:
        classes: K names.
        splits: split -> measures, in the shape that the design page gives.
        gap: `{"train_minus_test": {"accuracy", "macro_f1"}}`, empty without both splits.
        seconds: stage -> wall time, with `total`.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Mapping[str, Any]]
    gap: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "splits": {name: dict(measures) for name, measures in self.splits.items()},
            "gap": {name: dict(measures) for name, measures in self.gap.items()},
            "classes": list(self.classes),
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`."""
        return cls(
            classes=tuple(value["classes"]), splits=value["splits"], gap=value["gap"], seconds=value["seconds"]
        )

    @property
    def headline_split(self) -> str:
        """`test` where there is one, else `val`, else `train`."""
        return next(name for name in ("test", "val", "train") if name in self.splits)

    def interval(self, split: str, measure: str) -> Interval:
        """One number of one split, e.g. `interval("test", "accuracy")`."""
        return Interval(**self.splits[split][measure])


def evaluate(
    parts: Mapping[str, Predictions],
    *,
    seconds: Mapping[str, float],
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure every split.

    Shares of photos have Wilson intervals, the rest BCa bootstrap intervals, stratified by class. Where photos come in
    groups, whole groups are resampled for every number but per-class precision and recall.

    Args:
        parts: split -> predictions, all over the same classes; `val` is marked as seen by choices.
        seconds: stage -> wall time.
        groups: split -> group name of each photo (empty: a group of its own).
        seed: of the bootstrap.
    """
    splits = {}
    for name, part in parts.items():
        if len(part):
            names = groups.get(name) if groups else None
            splits[name] = {**_measure(part, names, seed), "seen_by_choices": name == "val"}
    gap = {}
    if "train" in splits and "test" in splits:
        both = ("accuracy", "macro_f1")
        pairs = {key: (Interval(**splits["train"][key]), Interval(**splits["test"][key])) for key in both}
        gap["train_minus_test"] = {key: wilson_difference(*pair).to_json() for key, pair in pairs.items()}
    classes = next(iter(parts.values())).classes
    return Evaluation(classes=classes, splits=splits, gap=gap, seconds=dict(seconds))


def _measure(part: Predictions, groups: Sequence[str] | None, seed: int) -> dict[str, Any]:
    k, n = len(part.classes), len(part)
    units, strata, grouped = _units(part, groups)
    totals = resampled_totals(units, strata, seed=seed)

    def interval(statistic: Callable[[Floats], Floats]) -> Interval:
        return bca_interval(statistic, units, totals, n=n)

    measures = {name: interval(statistic).to_json() for name, statistic in _statistics(k).items()}
    if not grouped:
        measures["accuracy"] = wilson(int(part.correct.sum()), n).to_json()
    matrix = confusion_matrix(part.labels, part.predicted, k)
    measures["per_class"] = {
        name: _class_measures(matrix, number, interval) for number, name in enumerate(part.classes)
    }
    measures["confusion_matrix"] = matrix.tolist()
    measures["most_confused"] = [list(pair) for pair in most_confused(matrix, part.classes)]
    measures["reliability"] = reliability(part)
    return measures


def _class_measures(
    matrix: Ints, number: int, interval: Callable[[Callable[[Floats], Floats]], Interval]
) -> dict[str, Any]:
    k = len(matrix)
    hits, support, guesses = (int(matrix[number, number]), int(matrix[number].sum()), int(matrix[:, number].sum()))

    def f1(totals: Floats) -> Floats:
        return np.asarray(class_scores("f1", *_counted(totals, k))[..., number])

    return {
        "precision": wilson(hits, guesses).to_json(),
        "recall": wilson(hits, support).to_json(),
        "f1": {**interval(f1).to_json(), "n": support},
        "support": support,
    }


def _units(part: Predictions, groups: Sequence[str] | None) -> tuple[Floats, Ints, bool]:
    """Additive quantities (m,d) of each photo or group, its stratum (m,), and whether any group has two photos.

    Columns: hits (K), guesses (K), truths (K), calibration gaps (BINS), NLL, Brier, photos.
    """
    one_hot = np.eye(len(part.classes))
    guesses, truths = one_hot[part.predicted], one_hot[part.labels]
    columns = [guesses * truths, guesses, truths, gap_terms(part)]
    singles = [nll_terms(part), brier_terms(part), np.ones(len(part))]
    rows = np.concatenate([*columns, np.stack(singles, axis=1)], axis=1)
    names = [group or f"photo {position}" for position, group in enumerate(groups or [""] * len(part))]
    _, first, unit_of = np.unique(names, return_index=True, return_inverse=True)
    if len(first) == len(rows):
        return rows, part.labels, False
    units = np.zeros((len(first), rows.shape[1]))
    np.add.at(units, unit_of, rows)
    return units, part.labels[first], True


def _counted(totals: Floats, k: int) -> tuple[Floats, Floats, Floats]:
    return totals[..., :k], totals[..., k : 2 * k], totals[..., 2 * k : 3 * k]


def _statistics(k: int) -> dict[str, Callable[[Floats], Floats]]:
    """Name -> function of totals (..., d); the columns are those of `_units`."""

    def mean_of(column: int) -> Callable[[Floats], Floats]:
        return lambda totals: np.asarray(totals[..., column] / np.maximum(totals[..., -1], 1e-12))

    def mean_score(how: Any, kind: Any) -> Callable[[Floats], Floats]:
        return lambda totals: averaged(kind, how, _counted(totals, k))

    def calibration_error(totals: Floats) -> Floats:
        gaps = np.abs(totals[..., 3 * k : 3 * k + BINS]).sum(-1)
        return np.asarray(gaps / np.maximum(totals[..., -1], 1e-12))

    return {
        "accuracy": lambda totals: accuracy(totals[..., :k], totals[..., 2 * k : 3 * k]),
        "balanced_accuracy": lambda totals: balanced_accuracy(totals[..., :k], totals[..., 2 * k : 3 * k]),
        **{f"{how}_{kind}": mean_score(how, kind) for how in ("macro", "weighted") for kind in ("f1", "precision", "recall")},
        "ece": calibration_error,
        "nll": mean_of(-3),
        "brier": mean_of(-2),
    }
