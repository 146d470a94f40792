"""`Evaluation`: what was measured, as values and as `evaluation.json`. Knows nothing about how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from topwork.errors import RunError
from topwork.measures.calibration import ReliabilityBin
from topwork.measures.intervals import Interval
from topwork.measures.stability import Stability

__all__ = ["ClassScores", "Evaluation", "SplitScores"]


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class of one split. Precision rests on the photos given the class, recall on those that have it, F1 on both.

    Args:
        precision, recall, f1: in [0, 1].
        support: photos that have the class.
    """

    precision: Interval
    recall: Interval
    f1: Interval
    support: int


@dataclass(frozen=True, kw_only=True)
class SplitScores:
    """All numbers of one split. Macro averages run over the classes that have photos in it.

    Args:
        accuracy, balanced_accuracy, macro_f1, macro_precision, macro_recall, weighted_f1, weighted_precision,
            weighted_recall, ece: in [0, 1].
        nll: mean negative log likelihood in nats.
        brier: in [0, 2].
        per_class: by class name, in the order of the classes.
        confusion_matrix: (K,K) photos, a row for each true class.
        most_confused: `(true, predicted, photos)`, at most ten, most first.
        reliability: the calibration bins that hold photos.
        seen_by_choices: whether a choice has seen this split, so that its numbers flatter.
    """

    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    macro_precision: Interval
    macro_recall: Interval
    weighted_f1: Interval
    weighted_precision: Interval
    weighted_recall: Interval
    ece: Interval
    nll: Interval
    brier: Interval
    per_class: Mapping[str, ClassScores]
    confusion_matrix: tuple[tuple[int, ...], ...]
    most_confused: tuple[tuple[str, str, int], ...]
    reliability: tuple[ReliabilityBin, ...]
    seen_by_choices: bool


_MEASURES = tuple(each.name for each in fields(SplitScores) if each.type == "Interval")
_CLASS_MEASURES = ("precision", "recall", "f1")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of `evaluation.json`.

    Args:
        classes: K names.
        splits: split -> its numbers; a split without photos is left out.
        gap: `accuracy` and `macro_f1` of train minus those of test; empty unless both splits exist.
        seconds: stage -> wall time in s, with `total`.
        gap_to_val: as `gap`, of train minus validation.
        stability: phase, e.g. `phase 2` -> how steadily it trained; phases of fewer than three epochs are left out.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, SplitScores]
    gap: Mapping[str, Interval]
    seconds: Mapping[str, float]
    gap_to_val: Mapping[str, Interval] = field(default_factory=dict)
    stability: Mapping[str, Stability] = field(default_factory=dict)

    @property
    def headline_split(self) -> str:
        """`test` where there is one, else `cv` (cross-validation), `val`, `train`, or the first one."""
        return next((name for name in ("test", "cv", "val", "train") if name in self.splits), next(iter(self.splits)))

    def interval(self, split: str, measure: str) -> Interval:
        """One number of one split, e.g. `interval("test", "accuracy")`.

        Raises:
            KeyError: if there is no such split or measure.
        """
        if measure not in _MEASURES:
            raise KeyError(f"The measure of a split must be one of {', '.join(_MEASURES)}. Got {measure!r}.")
        found: Interval = getattr(self.splits[split], measure)
        return found

    def headline(self) -> str:
        """The outcome in one sentence, with its uncertainty."""
        name = self.headline_split
        scores = self.splits[name]
        where = "In cross-validation" if name == "cv" else f"On the {name} split"
        start = f"{where}, accuracy is {scores.accuracy} and macro-F1 is {scores.macro_f1}"
        seen = " (seen by choices, so this flatters)" if scores.seen_by_choices else ""
        if not scores.most_confused:
            return f"{start}{seen}; no photo is given a wrong class."
        true, predicted, photos = scores.most_confused[0]
        support = scores.per_class[true].support
        return f"{start}{seen}; most often {true} is taken for {predicted} ({photos} of {support})."

    def to_json(self) -> dict[str, Any]:
        """Plain values; every number is `{"value", "low", "high", "n"}`."""
        gaps = {"train_minus_test": self.gap, "train_minus_val": self.gap_to_val}
        return {
            "splits": {name: _split_to_json(scores) for name, scores in self.splits.items()},
            "gap": {
                name: {measure: interval.to_json() for measure, interval in gap.items()}
                for name, gap in gaps.items()
                if gap
            },
            "stability": {phase: found.to_json() for phase, found in self.stability.items()},
            "classes": list(self.classes),
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`.

        Raises:
            RunError: if the value is not what `to_json` writes.
        """
        try:
            gaps = {
                name: {measure: Interval.from_json(interval) for measure, interval in gap.items()}
                for name, gap in value["gap"].items()
            }
            stability = value.get("stability", {})  # runs of earlier versions have none
            return cls(
                classes=tuple(value["classes"]),
                splits={name: _split_from_json(scores) for name, scores in value["splits"].items()},
                gap=gaps.get("train_minus_test", {}),
                seconds={stage: float(seconds) for stage, seconds in value["seconds"].items()},
                gap_to_val=gaps.get("train_minus_val", {}),
                stability={phase: Stability.from_json(found) for phase, found in stability.items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise RunError(
                f"The evaluation of a run must have the shape that topwork writes. Got {problem!r}.",
                fix="make it again with `topwork evaluate RUN`.",
            ) from problem


def _split_to_json(scores: SplitScores) -> dict[str, Any]:
    return {
        **{measure: getattr(scores, measure).to_json() for measure in _MEASURES},
        "per_class": {
            name: {**{kind: getattr(each, kind).to_json() for kind in _CLASS_MEASURES}, "support": each.support}
            for name, each in scores.per_class.items()
        },
        "confusion_matrix": [list(row) for row in scores.confusion_matrix],
        "most_confused": [list(pair) for pair in scores.most_confused],
        "reliability": [each.to_json() for each in scores.reliability],
        "seen_by_choices": scores.seen_by_choices,
    }


def _split_from_json(value: Mapping[str, Any]) -> SplitScores:
    return SplitScores(
        **{measure: Interval.from_json(value[measure]) for measure in _MEASURES},
        per_class={
            name: ClassScores(
                **{kind: Interval.from_json(each[kind]) for kind in _CLASS_MEASURES}, support=int(each["support"])
            )
            for name, each in value["per_class"].items()
        },
        confusion_matrix=tuple(tuple(map(int, row)) for row in value["confusion_matrix"]),
        most_confused=tuple((str(true), str(guess), int(n)) for true, guess, n in value["most_confused"]),
        reliability=tuple(ReliabilityBin.from_json(each) for each in value["reliability"]),
        seen_by_choices=bool(value["seen_by_choices"]),
    )
