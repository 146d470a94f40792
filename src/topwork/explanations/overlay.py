"""Heatmaps -> pictures for people: overlays, one photo's example, a grid of classes. Knows no network and no files.

A heatmap's colours grow brighter with the evidence, so they survive grey printing; a contrast has two hues that
colour-blind readers tell apart, and its two classes stand in its title.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Panel", "contrast_overlay", "overlay", "panels_png"]

_Pixels = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]

_FOR, _AGAINST = np.array([31, 122, 232]), np.array([232, 106, 23])  # blue and orange
_DEPTH = 0.62  # opacity of the strongest evidence
_DIM = 0.55  # brightness of a photo's part without any
_INCHES = 2.3  # side of a panel
_LINE, _PAD = 0.16, 0.12  # inches of a title's line, and above it
_DPI = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One picture with its words.

    Args:
        pixels: (H,W,3) uint8.
        title: above it; may have several lines. Names of others must have been made fit to be shown, and short.
        is_wrong: marks a wrong prediction.
    """

    pixels: _Pixels
    title: str = ""
    is_wrong: bool = False


def overlay(picture: _Pixels, heatmap: _Floats) -> _Pixels:
    """A picture under its heatmap.

    Args:
        picture: (H,W,3) uint8.
        heatmap: (H,W) in [0,1].

    Returns:
        (H,W,3) uint8.
    """
    from matplotlib import colormaps

    strength = np.clip(heatmap, 0, 1)[..., None]
    colours = 255 * colormaps["inferno"](0.25 + 0.75 * strength[..., 0])[..., :3]
    # Without evidence the photo is dark but recognisable; the more evidence, the more colour.
    dimmed = picture * (_DIM + (1 - _DIM) * strength)
    opacity = _DEPTH * strength
    return np.asarray(np.clip(dimmed * (1 - opacity) + colours * opacity, 0, 255).round(), np.uint8)


def contrast_overlay(picture: _Pixels, contrast: _Floats) -> _Pixels:
    """A grey picture under a signed map (H,W) in [-1,1]: blue speaks for the first class, orange for the second."""
    grey = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    opacity = _DEPTH * np.abs(np.clip(contrast, -1, 1))[..., None] ** 0.7
    colours = np.where(contrast[..., None] >= 0, _FOR, _AGAINST)
    return np.asarray((grey[..., None] * (1 - opacity) + colours * opacity).round(), np.uint8)


def panels_png(rows: Sequence[tuple[str, Sequence[Panel]]]) -> bytes:
    """Rows of panels, each row with its name at the left, as a PNG.

    Args:
        rows: name and panels of each; a name must be as fit to be shown as a title, an empty one takes no room.
    """
    from matplotlib.figure import Figure

    columns = max(len(panels) for _, panels in rows)
    lines = max((panel.title.count("\n") + 1 for _, panels in rows for panel in panels if panel.title), default=0)
    has_names = any(name for name, _ in rows)
    size = (columns * _INCHES + 0.35 * has_names, len(rows) * (_INCHES + _LINE * lines + _PAD))
    with _lettering():
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        for (name, panels), line in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
            for axes in line:
                axes.set_axis_off()
            for panel, axes in zip(panels, line, strict=False):
                axes.imshow(panel.pixels, interpolation="antialiased")
                colour = "#c4493d" if panel.is_wrong else "#1c2733"
                axes.set_title(panel.title, fontsize=8, color=colour, loc="left")
            if name:
                line[0].text(
                    -0.06,
                    0.5,
                    name,
                    transform=line[0].transAxes,
                    rotation=90,
                    ha="right",
                    va="center",
                    fontsize=9,
                    fontweight="bold",
                    color="#1c2733",
                )
        stream = io.BytesIO()
        figure.savefig(stream, format="png", facecolor="white", metadata={"Software": None})
    return stream.getvalue()


@contextmanager
def _lettering() -> Iterator[None]:
    """The same letters everywhere, no formulas, and no word about scripts that this font lacks."""
    from matplotlib import rc_context

    with (
        rc_context({"text.parse_math": False, "font.family": ["sans-serif"], "font.sans-serif": ["DejaVu Sans"]}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
