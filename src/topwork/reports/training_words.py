"""How training went, in words: unequal classes, steadiness, and what it learnt by heart. Knows nothing about HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from topwork.measures.stability import Stability
from topwork.reports.inputs import ReportInputs
from topwork.reports.wording import bounds, count, number

__all__ = ["imbalance_in_words", "training_in_words"]

_GAPS = {"train_minus_test": "test", "train_minus_val": "validation"}


def imbalance_in_words(provenance: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """A (topic, sentence) pair where a comparison decided what is done about unequal classes, else nothing."""
    found = provenance.get("imbalance")
    if not found:
        return ()
    text = str(found["why"]).partition(": ")[2]
    return (("Unequal classes", f"{text[:1].upper()}{text[1:]}."),)


def training_in_words(inputs: ReportInputs) -> tuple[str, ...]:
    """Sentences: how steadily each phase trained, and how much better training photos come out than others."""
    stability = inputs.evaluation.get("stability") or {}
    gaps = inputs.evaluation.get("gap") or {}
    sentences = [_steadiness(phase, found) for phase, found in stability.items()]
    sentences += [
        _gap(gaps[name]["accuracy"], part) for name, part in _GAPS.items() if gaps.get(name, {}).get("accuracy")
    ]
    return tuple(sentences)


def _steadiness(phase: str, found: Mapping[str, Any]) -> str:
    spread, rise = found["spread"], float(found["largest_rise"])
    changes = int(spread["n"])
    verdict = "unsteady" if Stability.from_json(found).unsteady else "steady"
    rises = f"it rose {count(int(found['rises']), 'time')}, at most by {number(rise)}" if rise else "it never rose"
    return (
        f"{phase.capitalize()} was {verdict}: from epoch to epoch the validation loss changed with a deviation of "
        f"{number(spread['value'])} {bounds(spread)} nats ({count(changes, 'change')}); {rises}."
    )


def _gap(gap: Mapping[str, Any], part: str) -> str:
    points = f"{gap['value'] * 100:+.1f} points [{gap['low'] * 100:+.1f}, {gap['high'] * 100:+.1f}]"
    if float(gap["low"]) >= 0.05:
        verdict = "it has learnt much of its training photos by heart"
    elif float(gap["low"]) > 0:
        verdict = "it knows its training photos better than others"
    else:
        verdict = "no overfitting that these photos could show"
    seen = ", which was seen by choices" if part == "validation" else ""
    return f"Accuracy on training photos minus that on the {part} part{seen}: {points}; {verdict}."
