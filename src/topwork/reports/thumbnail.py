"""`Thumbnail`: one photo as a small picture inside a page. Knows nothing about HTML, or about why it is shown.

A photo that has vanished or broken since is a gap with its name.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from topwork.data.decode import decode
from topwork.errors import DecodeError

__all__ = ["Take", "Thumbnail", "Wanted", "hung", "make_thumbnail"]

_QUALITY = 78
_WORKERS = 2
_Layout = TypeVar("_Layout")


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """One small picture, square unless it is `whole`.

    Args:
        path: as the manifest names the photo.
        source: a JPEG as a data URI; None where the photo cannot be read any more.
        whole: whether it shows all of the photo, and not its central square.
    """

    path: str
    source: str | None
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A picture that a page would like to show.

    Args:
        root: the folder that the path starts from.
        path: of the photo.
        side: of the thumbnail, in pixels.
    """

    root: Path
    path: str
    side: int


Take = Callable[[Wanted], Thumbnail]
"""How a layout gets its pictures."""


def hung(layout: Callable[[Take], _Layout], *, budget: int) -> _Layout:
    """A layout with its pictures, the first ones it asks for as far as the budget goes; the others stay gaps.

    The layout is made twice: once to learn which pictures it wants, once with them. So it must ask for the same ones
    in the same order each time.

    Args:
        layout: gets its pictures from what it is given.
        budget: bytes of all data URIs; a picture that is shown twice counts twice.
    """
    asked: list[Wanted] = []

    def note(wanted: Wanted) -> Thumbnail:
        asked.append(wanted)
        return Thumbnail(path=wanted.path, source=None)

    layout(note)
    return layout(_made(asked, budget).__getitem__)


def _made(asked: Sequence[Wanted], budget: int) -> dict[Wanted, Thumbnail]:
    times = Counter(asked)
    with ThreadPoolExecutor(_WORKERS) as pool:
        pictures = list(pool.map(lambda wanted: make_thumbnail(wanted.root, wanted.path, side=wanted.side), times))
    made = {}
    for wanted, picture in zip(times, pictures, strict=True):
        size = times[wanted] * len(picture.source or "")
        made[wanted] = picture if size <= budget else Thumbnail(path=wanted.path, source=None)
        budget -= min(size, budget)  # nothing smaller slips in after a gap: order is what counts
    return made


def make_thumbnail(root: Path, path: str, *, side: int, whole: bool = False) -> Thumbnail:
    """The central square of a photo, `side` pixels wide; or the whole of it, `side` pixels long."""
    try:
        pixels = decode(root / path, target=side).pixels  # (H,W,3) uint8
    except DecodeError:
        return Thumbnail(path=path, source=None)
    image = Image.fromarray(pixels)
    if whole:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    else:
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        image = image.crop((left, top, left + short, top + short))
        image = image.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=_QUALITY, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return Thumbnail(path=path, source=source, whole=whole)
