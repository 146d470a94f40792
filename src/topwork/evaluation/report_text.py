"""`classification_report.txt`: the per-class table as people know it, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from topwork.evaluation.evaluate import Evaluation

__all__ = ["classification_report"]


def classification_report(evaluation: Evaluation, *, split: str | None = None) -> str:
    """Precision, recall and F1 of every class with 95 % intervals, at most 100 columns for class names up to 16.

    Args:
        evaluation: the numbers.
        split: default the headline split.
    """
    split = split or evaluation.headline_split
    measures = evaluation.splits[split]
    width = max(16, *(len(name) for name in evaluation.classes))
    lines = [f"{split} part{', seen by choices' if measures['seen_by_choices'] else ''}; 95 % intervals in brackets", ""]
    lines.append(f"{'':{width}}  {'precision':22} {'recall':22} {'f1':22} {'support':>7}")
    for name in evaluation.classes:
        row = measures["per_class"][name]
        cells = " ".join(f"{_cell(row[kind]):22}" for kind in ("precision", "recall", "f1"))
        lines.append(f"{name:{width}}  {cells} {row['support']:>7}")
    lines.append("")
    for average in ("macro", "weighted"):
        cells = " ".join(f"{_cell(measures[f'{average}_{kind}']):22}" for kind in ("precision", "recall", "f1"))
        lines.append(f"{average + ' average':{width}}  {cells} {measures['accuracy']['n']:>7}")
    for label, key in (("accuracy", "accuracy"), ("balanced accuracy", "balanced_accuracy"), ("ECE", "ece")):
        lines.append(f"{label:{width}}  {_cell(measures[key])}")
    return "\n".join(lines) + "\n"


def _cell(interval: Mapping[str, Any]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
