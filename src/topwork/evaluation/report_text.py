"""`classification_report.txt`: the table as people know it from scikit-learn, with intervals, in 100 columns."""

from __future__ import annotations

import textwrap
import unicodedata

from topwork.evaluation.evaluate import evaluate
from topwork.evaluation.scores import Evaluation, SplitScores
from topwork.measures.intervals import Interval
from topwork.measures.predictions import Predictions

__all__ = ["classification_report"]

_WIDTH = 100
_NAME = 20  # columns of the widest class name that is printed whole
_CELL = 21  # `0.943 [0.924, 0.958]` and a space
_SINGLE = {
    "balanced accuracy": "balanced_accuracy",
    "ECE": "ece",
    "NLL (nats)": "nll",
    "Brier score": "brier",
}


def classification_report(judged: Evaluation | Predictions, *, split: str | None = None, note: str = "") -> str:
    """Precision, recall and F1 of every class with 95 % intervals, at most 100 columns wide.

    Args:
        judged: the numbers, or predictions to measure first.
        split: one split only; default all, the one to believe first.
        note: a sentence that stands first, for what a reader must know before any number.

    Raises:
        KeyError: if there is no such split.
    """
    if isinstance(judged, Predictions):
        judged = evaluate({"all": judged}, seconds={})
    first = judged.headline_split
    names = [split] if split else [first, *(name for name in judged.splits if name != first)]
    parts = [_table(name, judged.splits[name]) for name in names]
    if note:
        parts.insert(0, textwrap.fill(_visible(note), _WIDTH, break_long_words=True) + "\n")
    if not split:
        parts.insert(bool(note), textwrap.fill(_visible(judged.headline()), _WIDTH, break_long_words=True) + "\n")
    if not split:
        gaps = {"train minus test": judged.gap, "train minus validation": judged.gap_to_val}
        parts += [
            f"{title}\n\n" + "".join(_line(name, _cell(found)) for name, found in gap.items())
            for title, gap in gaps.items()
            if gap
        ]
        parts += _stability(judged)
    return "\n".join(parts) + "\n95 % confidence intervals stand in brackets.\n"


def _stability(judged: Evaluation) -> list[str]:
    lines = [
        _line(phase, _cell(found.spread), f"largest rise {found.largest_rise:.3f}", end=str(found.spread.n))
        for phase, found in judged.stability.items()
    ]
    title = "spread of the validation loss from epoch to epoch, in nats, and the number of changes\n\n"
    return [title + "".join(lines)] if lines else []


def _table(name: str, scores: SplitScores) -> str:
    seen = "; seen by choices" if scores.seen_by_choices else ""
    title = "cross-validation" if name == "cv" else _visible(name)
    lines = [f"{title} ({scores.accuracy.n} photos{seen})\n\n"]
    lines.append(_line("", "precision", "recall", "F1", end="photos"))
    for label, row in scores.per_class.items():
        lines.append(_line(label, *map(_cell, (row.precision, row.recall, row.f1)), end=str(row.support)))
    lines.append("\n")
    macro = (scores.macro_precision, scores.macro_recall, scores.macro_f1)
    weighted = (scores.weighted_precision, scores.weighted_recall, scores.weighted_f1)
    total = str(scores.accuracy.n)
    lines.append(_line("accuracy", "", "", _cell(scores.accuracy), end=total))
    lines.append(_line("macro average", *map(_cell, macro), end=total))
    lines.append(_line("weighted average", *map(_cell, weighted), end=total))
    lines.append("\n")
    lines += [_line(label, _cell(getattr(scores, measure))) for label, measure in _SINGLE.items()]
    return "".join(lines)


def _line(name: str, *cells: str, end: str = "") -> str:
    name = _visible(name)
    kept = len(name)
    shown = name
    while _columns(shown) > _NAME:
        kept -= 1
        shown = f"{name[: kept - kept // 3]}…{name[len(name) - kept // 3 :]}"
    table = "".join(f"  {cell:<{_CELL}}" for cell in cells)
    return f"{shown}{' ' * (_NAME - _columns(shown))}{table}{end:>7}".rstrip() + "\n"


def _visible(text: str) -> str:
    """Class names come from folders, which may hold line breaks and terminal codes."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _columns(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    joined = sum(unicodedata.combining(character) > 0 for character in text)
    return len(text) + wide - joined


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
