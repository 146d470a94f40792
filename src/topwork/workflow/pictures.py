"""Explained photos -> pictures for people: overlay and contrast of each, grids by class, examples of a run.

Names of photos and classes are made fit to be shown here; `explanations.overlay` draws what it is given.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topwork.atomic import write_bytes, write_json
from topwork.data.decode import printable
from topwork.progress import Progress, silent
from topwork.reports.wording import shortened, visible
from topwork.workflow.explain import Explained, ExplainedPhoto

if TYPE_CHECKING:
    from topwork.explanations.overlay import Panel

__all__ = ["write_examples", "write_pictures"]

_GRID = 6  # photos of a class
_CLASSES = 10  # in the grid of a run
_NAME = 24  # letters beside which a panel has room for a few more
_LONGEST = 30  # letters that a panel is wide or high


def write_pictures(explained: Explained, folder: Path, *, progress: Progress = silent) -> list[Path]:
    """Write an overlay and a contrast for every photo, a grid for every class, and `explanations.json`.

    Args:
        explained: from `explain`.
        folder: made if it is not there; files of the same names are replaced.
        progress: told how far it is.

    Returns:
        The overlays, in the order of the photos.
    """
    from topwork.explanations.overlay import panels_png

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    grids: dict[str, list[Panel]] = defaultdict(list)
    if explained.photos:
        progress.step("pictures", 0, len(explained.photos))
    for number, photo in enumerate(explained.photos, start=1):
        panels = _panels(photo, title=_fit(photo.path.name, _LONGEST))
        written.append(folder / f"{number:03d}-{_safe(photo.path.stem)}.png")
        write_bytes(written[-1], panels_png([("", panels)]))
        if len(grids[photo.target]) < _GRID:
            grids[photo.target].append(panels[1])
        progress.step("pictures", number, len(explained.photos))
    for number, (name, panels) in enumerate(grids.items(), start=1):  # two names may be the same once they are safe
        write_bytes(folder / f"grid-{number:03d}-{_safe(name)}.png", panels_png([(_fit(name, _LONGEST), panels)]))
    write_json(folder / "explanations.json", explained.to_json())
    return written


def write_examples(labelled: Sequence[tuple[str, ExplainedPhoto]], folder: Path) -> None:
    """Write `gradcam_grid.png`, some heatmaps of each class, and `gradcam_example.png`, a right and a wrong answer.

    Args:
        labelled: photos with their true class; of each class the first ones are shown.
        folder: made if it is not there.
    """
    from topwork.explanations.overlay import panels_png

    folder.mkdir(exist_ok=True)
    rows: dict[str, list[Panel]] = {}
    for label, photo in sorted(labelled, key=lambda pair: pair[0]):
        if label not in rows and len(rows) == _CLASSES:
            continue
        mine = rows.setdefault(label, [])
        if len(mine) < _GRID:
            mine.append(_heat_panel(photo, is_wrong=label != photo.predicted))
    grid = [(_fit(label, _LONGEST), panels) for label, panels in rows.items()]
    write_bytes(folder / "gradcam_grid.png", panels_png(grid))
    right = [pair for pair in labelled if pair[0] == pair[1].predicted][:1]
    errors = [pair for pair in labelled if pair[0] != pair[1].predicted]
    wrong = sorted(errors, key=lambda pair: -pair[1].probabilities[pair[1].predicted])[:1]
    example = [
        (name, _panels(photo, title=f"labelled {_fit(label, _NAME - 4)}", is_wrong=name == "wrong"))
        for name, chosen in (("right", right), ("wrong", wrong))
        for label, photo in chosen
    ]
    write_bytes(folder / "gradcam_example.png", panels_png(example))


def _panels(photo: ExplainedPhoto, *, title: str, is_wrong: bool = False) -> list[Panel]:
    """The photo, its heatmap, and what speaks for which of the two likeliest classes."""
    from topwork.explanations.overlay import Panel, contrast_overlay

    why = f"blue speaks for {_fit(photo.predicted, _NAME - 8)}\norange for {_fit(photo.against, _NAME - 4)}"
    contrast = Panel(pixels=contrast_overlay(photo.view, photo.contrast), title=why)
    return [Panel(pixels=photo.view, title=title), _heat_panel(photo, is_wrong=is_wrong), contrast]


def _heat_panel(photo: ExplainedPhoto, *, is_wrong: bool) -> Panel:
    from topwork.explanations.overlay import Panel, overlay

    title = f"{_fit(photo.target, _NAME)} {photo.probabilities[photo.target]:.2f}"
    blank = "" if photo.raw.any() else "\nno place speaks for it"
    return Panel(pixels=overlay(photo.view, photo.heatmap), title=title + blank, is_wrong=is_wrong)


def _fit(name: str, length: int) -> str:
    """A name that can be drawn and that the panel has room for."""
    return shortened(visible(name), length)


def _safe(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", printable(name))[:60].strip("._") or "unnamed"
