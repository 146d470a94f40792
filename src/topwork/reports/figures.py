"""Figures of a run: numbers -> SVG and PNG with matplotlib. Knows nothing about HTML, photos or networks.

Same numbers, same bytes: no dates, fixed ids, no global pyplot state. Text stays text in the SVG. `PALETTE` names every
colour that is used, so that a page can put its own in their place.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from topwork.atomic import write_bytes
from topwork.measures.intervals import wilson
from topwork.reports.inputs import judged_part
from topwork.reports.palette import PALETTE
from topwork.reports.wording import shortened, visible
from topwork.training.history import KERNEL_PHASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

__all__ = ["draw_figures", "encoded", "figure_style", "write_figures", "write_lr_figure"]

_DPI = 100
_INK, _MUTED, _GRID, _PAPER = (PALETTE[name] for name in ("ink", "muted", "grid", "paper"))
_MAIN, _TRAIN, _THIRD, _WARM = (PALETTE[name] for name in ("main", "train", "third", "warm"))
_MOST_CELLS = 20  # classes up to which a matrix is drawn cell by cell, with its counts
_MOST_ROWS = 30  # classes in the per-class figure
_DEPTH = 0.5  # opacity of the strongest cell: dark or light text stays readable on it
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "topwork",
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": [
        "DejaVu Sans",
        "Helvetica Neue",
        "Arial",
    ],  # the first ships with matplotlib: same layout anywhere
    "font.size": 9,
    "text.parse_math": False,  # a class may be called "$5"
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "figure.facecolor": _PAPER,
    "axes.facecolor": "none",
}


def write_figures(
    folder: Path,
    evaluation: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """Draw every figure that the numbers allow and write each as `NAME.svg` and `NAME.png`.

    Args:
        folder: where to; made if missing.
        evaluation: `evaluation.json` as plain values.
        history: lines of `history.jsonl`; without them there are no training curves.

    Returns:
        name -> SVG text, for `ReportInputs.figures`.
    """
    drawn = draw_figures(evaluation, history=history)
    for name, (svg, png) in drawn.items():
        write_bytes(folder / f"{name}.svg", svg.encode("utf-8"))
        write_bytes(folder / f"{name}.png", png)
    return {name: svg for name, (svg, _) in drawn.items()}


def draw_figures(
    evaluation: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
) -> dict[str, tuple[str, bytes]]:
    """The figures of `write_figures` as values: name -> (SVG text, PNG bytes)."""
    scores = evaluation["splits"][judged_part(evaluation)]
    classes = [shortened(visible(str(name)), 22) for name in evaluation["classes"]]
    drawn: dict[str, tuple[str, bytes]] = {}
    with figure_style():
        if history:
            drawn["training_curves"] = encoded(_training_curves(history))
        drawn["confusion_matrix"] = encoded(_confusion_matrix(np.asarray(scores["confusion_matrix"]), classes))
        drawn["per_class"] = encoded(_per_class(scores["per_class"]))
        if scores.get("reliability"):
            drawn["reliability"] = encoded(_reliability(scores["reliability"]))
    return drawn


def write_lr_figure(folder: Path, curves: Mapping[str, Any]) -> Path:
    """Draw the range tests of a run as `lr_finder.svg` and `lr_finder.png`.

    Args:
        folder: where to; made if missing.
        curves: `lr_finder.json`: phase -> curve.

    Returns:
        The path of the SVG.
    """
    with figure_style():
        svg, png = encoded(_lr_curves(curves))
    write_bytes(folder / "lr_finder.svg", svg.encode("utf-8"))
    write_bytes(folder / "lr_finder.png", png)
    return folder / "lr_finder.svg"


def _lr_curves(curves: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(7.8, 0.6 + 3.4 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        axes.plot(curve["rates"], curve["losses"], color=_TRAIN, linewidth=0.8, alpha=0.6, label="loss of a batch")
        axes.plot(curve["rates"], curve["smoothed"], color=_MAIN, label="running mean")
        for suggestion, marker in (("steepest", "v"), ("valley", "o")):
            rate = curve["suggestions"][suggestion]
            loss = float(np.interp(np.log(rate), np.log(curve["rates"]), curve["smoothed"]))
            label = f"{suggestion}: {rate:.1e}"
            axes.plot([rate], [loss], marker, ms=9, mfc="none", mec=_WARM, mew=1.6, label=label)
        first, lowest = curve["smoothed"][0], min(curve["smoothed"])
        fall = max(first - lowest, 1e-3 * abs(first), 1e-9)
        axes.set_ylim(lowest - 0.3 * fall, first + 0.6 * fall)  # the fall is what counts; an explosion leaves the frame
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axes.set_title(name.capitalize())
        axes.set_ylabel("loss")
        axes.legend(loc="best")
    panels[-1].set_xlabel("learning rate")
    return figure


@contextmanager
def figure_style() -> Iterator[None]:
    """Within it figures look as all of ours do, and the same numbers give the same bytes."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Names in scripts that the layout font lacks: viewers of the SVG bring a font of their own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def encoded(figure: Figure) -> tuple[str, bytes]:
    """A figure as (SVG text, PNG bytes)."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
    return svg.getvalue().decode("utf-8"), png.getvalue()


def _training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    phases = {
        number: [row for row in history if row["phase"] == number] for number in sorted({r["phase"] for r in history})
    }
    longest = max(len(rows) for rows in phases.values())
    widths = [max(len(rows), longest / 3) for rows in phases.values()]  # a short phase stays readable
    highest = max(_or_zero(row.get("lr")) for row in history)
    measures = ["loss", "accuracy", *(["lr"] if highest > 0 else [])]
    heights = [{"lr": 0.5}.get(measure, 1.0) for measure in measures]
    figure = Figure(figsize=(7.8, 2.5 * sum(heights)), layout="constrained")
    grid = figure.subplots(
        len(measures),
        len(phases),
        sharex="col",
        sharey="row",
        squeeze=False,
        width_ratios=widths,
        height_ratios=heights,
    )
    for column, (phase, rows) in enumerate(phases.items()):
        _curve(grid[0][column], rows, key="loss")
        _curve(grid[1][column], rows, key="accuracy")
        if "lr" in measures:
            _rates(grid[2][column], rows, highest=highest)
        grid[0][column].set_title("Kernel head" if phase == KERNEL_PHASE else f"Phase {phase}")
        is_solver = phase == KERNEL_PHASE or all(row.get("note") for row in rows)
        grid[-1][column].set_xlabel("strength tried" if is_solver else "epoch")
        _whole_epochs(grid[-1][column], rows)
    for axes, measure in zip(grid[:, 0], measures, strict=True):
        axes.set_ylabel({"lr": "learning rate"}.get(measure, measure))
    grid[0][-1].legend(*_legend_of(grid), loc="upper right")
    return figure


def _rates(axes: Axes, rows: Sequence[Mapping[str, Any]], *, highest: float) -> None:
    """The learning rate of each epoch; a solver has none."""
    stepped = [(row["epoch"], float(row["lr"])) for row in rows if _or_zero(row.get("lr")) > 0]
    axes.plot([epoch for epoch, _ in stepped], [rate for _, rate in stepped], color=_THIRD, marker="D", markersize=3.5)
    axes.set_ylim(0, 1.15 * highest)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    if not stepped:
        axes.text(0.5, 0.5, "solved, no rate", color=_MUTED, size=8, ha="center", va="center", transform=axes.transAxes)


def _curve(axes: Axes, rows: Sequence[Mapping[str, Any]], *, key: str) -> None:
    epochs = [row["epoch"] for row in rows]
    for part, colour, marker in (("train", _TRAIN, "s"), ("val", _MAIN, "o")):
        values = [_or_nan((row.get(part) or {}).get(key)) for row in rows]
        label = {"train": "training", "val": "validation"}[part]
        axes.plot(epochs, values, color=colour, marker=marker if len(rows) <= 40 else None, label=label)
    kept = [row for row in rows if row.get("kept")][-1:]
    for row in kept:
        value = _or_nan((row.get("val") or {}).get(key))
        axes.plot([row["epoch"]], [value], "o", ms=10, mfc="none", mec=_INK, mew=1.2, label="kept epoch")


def _legend_of(grid: Any) -> tuple[list[Any], list[str]]:
    """Each label once, whichever panel it stands in."""
    entries = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    return list(entries.values()), list(entries)


def _whole_epochs(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    epochs = sorted({int(row["epoch"]) for row in rows})
    step = max(1, -(-len(epochs) // 10))
    axes.set_xticks(epochs[::step])
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)


def _confusion_matrix(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)  # (K,K), rows sum to 1
    side = 6.6
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    if len(classes) <= _MOST_CELLS:
        _cells(axes, matrix, shares=shares)
        axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), classes)
        axes.tick_params(labelcolor=_INK, labelsize=10 if len(classes) <= 10 else 8)
    else:
        axes.imshow(_shaded(shares), interpolation="nearest", aspect="auto")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.tick_params(length=0)
    return figure


def _cells(axes: Axes, matrix: np.ndarray, *, shares: np.ndarray) -> None:
    size = 12 if len(matrix) <= 10 else 7
    for true, predicted in np.ndindex(*matrix.shape):
        count, share = int(matrix[true, predicted]), float(shares[true, predicted])
        right = true == predicted
        strength = share if right else share ** (1 / 3)  # rare errors must be seen
        colour = _MAIN if right else _WARM
        corner = (predicted - 0.48, true - 0.48)
        axes.add_patch(Rectangle(corner, 0.96, 0.96, color=colour, alpha=_DEPTH * strength, linewidth=0))
        text_colour = _INK if count else _MUTED
        axes.text(predicted, true, str(count), ha="center", va="center", color=text_colour, size=size)


def _shaded(shares: np.ndarray) -> np.ndarray:
    """(K,K) shares -> (K,K,4) uint8: one colour for right and one for wrong, opacity for how often."""
    picture = np.empty((*shares.shape, 4), dtype=np.uint8)
    picture[...] = (*_rgb(_WARM), 0)
    np.einsum("iic->ic", picture)[...] = (*_rgb(_MAIN), 0)
    opacity = np.cbrt(shares)
    np.einsum("ii->i", opacity)[...] **= 3
    picture[..., 3] = np.round(opacity * 255)
    return picture


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _per_class(per_class: Mapping[str, Mapping[str, Any]]) -> Figure:
    order = sorted(per_class, key=lambda name: (_or_zero(per_class[name]["f1"].get("value")), name))[:_MOST_ROWS]
    figure = Figure(figsize=(7.4, 1.1 + 0.52 * max(len(order), 2)), layout="constrained")
    axes = figure.subplots()
    for index, (key, colour, marker) in enumerate(
        (("precision", _TRAIN, "s"), ("recall", _THIRD, "D"), ("f1", _MAIN, "o"))
    ):
        rows = np.arange(len(order)) + (index - 1) * 0.22
        values = np.array([_or_nan(per_class[name][key].get("value")) for name in order])
        lows = np.array([_or_nan(per_class[name][key].get("low")) for name in order])
        highs = np.array([_or_nan(per_class[name][key].get("high")) for name in order])
        axes.hlines(rows, lows, highs, color=colour, linewidth=1.6, alpha=0.55)
        axes.plot(values, rows, marker, color=colour, label={"f1": "F1"}.get(key, key))
    axes.set_yticks(range(len(order)), [shortened(visible(name), 22) for name in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=_INK)
    axes.set_xlabel("value and 95 % interval")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(6.4, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    upper.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), label="as sure as right")
    sure = [item["confidence"] for item in bins]
    observed = [wilson(round(item["accuracy"] * item["n"]), int(item["n"])) for item in bins]
    lows, highs = [item.low for item in observed], [item.high for item in observed]
    upper.vlines(sure, lows, highs, color=_MAIN, linewidth=1.6, alpha=0.55)
    upper.plot(sure, [item.value for item in observed], "o-", color=_MAIN, label="observed, 95 % interval")
    upper.set_ylabel("share that was right")
    upper.set_ylim(-0.02, 1.03)
    upper.legend(loc="upper left")
    lefts, widths = [item["low"] for item in bins], [0.94 * (item["high"] - item["low"]) for item in bins]
    lower.bar(lefts, [item["n"] for item in bins], widths, align="edge", color=_MAIN, alpha=0.75)
    lower.set_ylabel("photos")
    lower.set_xlabel("probability of the predicted class")
    lower.set_xlim(0, 1.005)
    lower.grid(visible=False, axis="x")
    return figure


def _or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _or_zero(value: Any) -> float:
    return 0.0 if value is None else float(value)
