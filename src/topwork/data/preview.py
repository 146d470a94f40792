"""One sheet of photos and their augmented views, for a person to judge. Writes no file, knows no folder layout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from topwork.data.batches import Item, read_batches
from topwork.data.decode import printable
from topwork.digest import digest
from topwork.recipe import Augment
from topwork.spec import InputSpec

__all__ = ["VIEWS", "Sample", "pick_samples", "preview_sheet"]

VIEWS = 7
"""Augmented views of a photo on the sheet, beside the clean one."""

_TILE = 160  # largest side of a view on the sheet, in pixels
_GAP = 4
_MARGIN = 120  # left of the views, for the labels
_HEADER = 24
_TEXT = 13
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


@dataclass(frozen=True)
class Sample:
    """One photo that may be shown: its class, its file, and the SHA-256 of the file's bytes."""

    label: str
    path: Path
    sha256: str


def pick_samples(samples: Iterable[Sample], *, count: int, seed: int = 0) -> tuple[Sample, ...]:
    """Up to `count` photos, every class once before any class again; depends on contents, not on names or order.

    Args:
        samples: any number of photos.
        count: rows of the sheet, >= 1.
        seed: another seed picks other photos.
    """
    by_label: dict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for sample in samples:
        by_label[sample.label].append((digest(sample.sha256, seed), sample))
    turns = [
        (turn, label, sample)
        for label, drawn in by_label.items()
        for turn, (_, sample) in enumerate(sorted(drawn, key=lambda pair: pair[0]))
    ]
    turns.sort(key=lambda entry: entry[:2])
    return tuple(sample for _, _, sample in turns[:count])


def preview_sheet(samples: Sequence[Sample], spec: InputSpec, *, augment: Augment, seed: int) -> NDArray[np.uint8]:
    """Photos below one another; in each row the clean view and `VIEWS` augmented ones, exactly as training sees them.

    Args:
        samples: one row each, e.g. from `pick_samples`.
        spec: the network's input.
        augment: how the views are changed.
        seed: the recipe's; views 1 to 7 are the first seven that a run with this seed trains on.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        DataError: if a photo is gone or has changed.
    """
    tile = min(spec.size, _TILE)
    step = tile + _GAP
    sheet = Image.new("RGB", (_MARGIN + (VIEWS + 1) * step, _HEADER + len(samples) * step), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for column in range(VIEWS + 1):
        title = f"view {column}" if column else "clean"
        pen.text((_MARGIN + column * step + tile / 2, _HEADER / 2), title, _INK, font, anchor="mm")
    items = [Item(sample.path, sample.sha256, view) for sample in samples for view in range(VIEWS + 1)]
    batches = read_batches(items, spec, batch=VIEWS + 1, workers=1, augment=augment, seed=seed)
    for row, (sample, batch) in enumerate(zip(samples, batches, strict=True)):
        top = _HEADER + row * step
        label = _shortened(printable(sample.label), font, width=_MARGIN - 3 * _GAP)
        pen.text((_MARGIN - 2 * _GAP, top + tile / 2), label, _INK, font, anchor="rm")
        for column, image in enumerate(batch.images):
            shown = Image.fromarray(image).resize((tile, tile), Image.Resampling.LANCZOS)
            sheet.paste(shown, (_MARGIN + column * step, top))
    return np.array(sheet)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, *, width: float) -> str:
    """The text, or as much of its beginning as fits with an ellipsis; one line."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
