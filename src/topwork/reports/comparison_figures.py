"""Figures of a comparison: curves over each other, classes side by side. Knows numbers and names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from topwork.evaluation.comparison import ModelScores
from topwork.reports.figures import encoded, figure_style
from topwork.reports.palette import PALETTE
from topwork.reports.wording import shortened, visible
from topwork.training.history import KERNEL_PHASE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_classes", "draw_curves", "lowest_classes"]

_History = Sequence[Mapping[str, Any]]

_MARKS = tuple(
    (PALETTE[role], marker)
    for role, marker in zip(("main", "train", "third", "warm", "ink", "muted"), "osD^vP", strict=True)
)
_LINES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)))
_MOST_CLASSES = 30


def draw_curves(histories: Mapping[str, Sequence[_History]]) -> tuple[str, bytes]:
    """Validation accuracy and loss by step of training, a mark a recipe: a thin line a fit, a thick one for their mean.

    A step is an epoch, or a strength that a solver tries. Kernel heads have no loss here: theirs is measured at the
    temperature that suits each step, so it is lower than that of other heads which answer alike.

    Args:
        histories: recipe -> the lines of `history.jsonl` of each of its fits; phases follow each other.

    Returns:
        SVG text and PNG bytes.
    """
    with figure_style():
        figure = Figure(figsize=(7.8, 5.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for number, (name, fits) in enumerate(histories.items()):
            _curve(upper, fits, key="accuracy", number=number, label=shortened(visible(name), 24))
            _curve(lower, fits, key="loss", number=number, label="")
        upper.set_ylabel("validation accuracy")
        lower.set_ylabel("validation loss")
        lower.set_xlabel("step of training")
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return encoded(figure)


def lowest_classes(scores: Mapping[str, ModelScores]) -> list[str]:
    """At most 30 classes that have photos, the one with the lowest recall of any model first.

    Args:
        scores: model -> numbers.
    """
    first = next(iter(scores.values()))
    classes = [name for name, row in first.per_class.items() if row.support]
    lowest = {name: min(each.per_class[name].recall.value for each in scores.values()) for name in classes}
    return sorted(classes, key=lambda name: (lowest[name], name))[:_MOST_CLASSES]


def draw_classes(scores: Mapping[str, ModelScores]) -> tuple[str, bytes]:
    """Precision, recall and F1 of each class side by side, a mark a model, with 95 % intervals.

    Args:
        scores: model -> numbers; the classes are the lowest ones.

    Returns:
        SVG text and PNG bytes.
    """
    classes = lowest_classes(scores)
    with figure_style():
        height = 1.2 + len(classes) * max(0.5, 0.16 * len(scores))
        figure = Figure(figsize=(7.8, height), layout="constrained")
        panels = figure.subplots(1, 3, sharex=True, sharey=True)
        for axes, kind in zip(panels, ("precision", "recall", "f1"), strict=True):
            for number, (name, each) in enumerate(scores.items()):
                shift = (number - (len(scores) - 1) / 2) * min(0.2, 0.8 / len(scores))
                found = [getattr(each.per_class[label], kind) for label in classes]
                rows = np.arange(len(classes)) + shift
                mark, label = _mark(number), shortened(visible(name), 24)
                ends = [i.low for i in found], [i.high for i in found]
                axes.hlines(rows, *ends, color=mark["color"], linewidth=1.4, alpha=0.55)
                axes.plot([i.value for i in found], rows, linestyle="none", label=label, **mark)
            axes.set_title({"f1": "F1"}.get(kind, kind.capitalize()))
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0, labelcolor=PALETTE["ink"])
        panels[0].set_yticks(range(len(classes)), [shortened(visible(name), 18) for name in classes])
        panels[0].set_ylim(len(classes) - 0.5, -0.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return encoded(figure)


def _mark(number: int) -> dict[str, Any]:
    """How the points of a recipe look; the seventh and later ones are hollow, for there are six colours."""
    colour, marker = _MARKS[number % len(_MARKS)]
    filled = "full" if number < len(_MARKS) else "none"
    return {"color": colour, "marker": marker, "fillstyle": filled, "markersize": 4}


def _curve(axes: Axes, fits: Sequence[_History], *, key: str, number: int, label: str) -> None:
    lines = _aligned(fits, key)  # (fits, steps), NaN where a fit had ended
    if not lines.size:
        return
    mark, style = _mark(number), _LINES[number // len(_MARKS) % len(_LINES)]
    steps = np.arange(1, lines.shape[1] + 1)
    for line in lines if len(lines) > 1 else []:
        axes.plot(steps, line, color=mark["color"], linestyle=style, linewidth=0.8, alpha=0.3)
    reached = ~np.isnan(lines)
    means = np.nansum(lines, axis=0) / np.maximum(reached.sum(axis=0), 1)
    means[2 * reached.sum(axis=0) <= len(lines)] = np.nan  # where most have ended, the mean of the others would jump
    axes.plot(steps, means, linestyle=style, label=label, **mark)


def _aligned(fits: Sequence[_History], key: str) -> npt.NDArray[np.float64]:
    """Values of every fit, so that each phase begins at the same step in all of them."""
    columns = []
    if key == "loss":
        fits = [[row for row in history if not _of_kernel(row)] for history in fits]
    for phase in sorted({row["phase"] for history in fits for row in history}):
        lines = [[float(row["val"][key]) for row in history if row["phase"] == phase] for history in fits]
        block = np.full((len(fits), max(map(len, lines))), np.nan)
        for line, values in zip(block, lines, strict=True):
            line[: len(values)] = values
        columns.append(block)
    return np.concatenate(columns, axis=1) if columns else np.empty((len(fits), 0))


def _of_kernel(row: Mapping[str, Any]) -> bool:
    """Whether a line of `history.jsonl` is of a kernel head, solved behind phase 2 or alone in phase 1."""
    return row["phase"] == KERNEL_PHASE or str(row.get("note", "")).startswith("kernel")
