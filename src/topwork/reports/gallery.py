"""`Gallery`: the photos a report shows, as small pictures inside the page. Knows nothing about HTML or networks.

Only photos that are shown are decoded. A photo that has vanished or broken since is shown as a gap with its name.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from topwork.data.decode import decode
from topwork.errors import DecodeError
from topwork.reports.inputs import SPLITS, ManifestRow, PredictionRow, ReportInputs

__all__ = ["ErrorPhoto", "Gallery", "Thumbnail", "make_gallery", "make_thumbnail"]

_MOST_ERRORS = 24
_SAMPLES_A_CLASS = 6
_SAMPLES = 96  # over all classes
_BYTES = 1_700_000  # of all data URIs; the rest of the page stays below 1.3 MB
_QUALITY = 78
_WORKERS = 2


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
class ErrorPhoto:
    """A photo that was taken for another class."""

    row: PredictionRow
    thumbnail: Thumbnail


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the report shows.

    Args:
        samples: class -> a few of its photos, of the training part where it has some.
        errors: wrong predictions of the judged part, the most confident first.
        errors_in_all: how many wrong predictions there are.
    """

    samples: dict[str, tuple[Thumbnail, ...]]
    errors: tuple[ErrorPhoto, ...]
    errors_in_all: int


def make_gallery(inputs: ReportInputs) -> Gallery:
    """Choose the photos by their content, never by their names, and make them small enough for one page."""
    wrong = [row for row in inputs.predictions if row.split == inputs.judged and row.label != row.predicted]
    worst = sorted(wrong, key=lambda row: (-row.confidence, row.path))[:_MOST_ERRORS]
    if inputs.root is None:
        return Gallery(samples={}, errors=(), errors_in_all=len(wrong))
    chosen = _sample_rows(inputs.manifest, inputs.classes)
    root = inputs.root
    jobs = [(row.path, 224) for row in worst] + [(row.path, 144) for rows in chosen.values() for row in rows]
    with ThreadPoolExecutor(_WORKERS) as pool:
        made = list(pool.map(lambda job: make_thumbnail(root, job[0], side=job[1]), jobs))
    pictures = iter(_within(made))
    errors = tuple(ErrorPhoto(row=row, thumbnail=next(pictures)) for row in worst)
    samples = {name: tuple(next(pictures) for _ in rows) for name, rows in chosen.items()}
    return Gallery(samples=samples, errors=errors, errors_in_all=len(wrong))


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


def _sample_rows(manifest: Sequence[ManifestRow], classes: Sequence[str]) -> dict[str, list[ManifestRow]]:
    each = max(1, min(_SAMPLES_A_CLASS, _SAMPLES // max(len(classes), 1)))
    rows: dict[str, list[ManifestRow]] = {name: [] for name in classes[:_SAMPLES]}
    # Digests put photos in an order that is the same everywhere and has nothing to do with names.
    for row in sorted(manifest, key=lambda row: (_rank(row.split), row.sha256, row.path)):
        mine = rows.get(row.label)
        if mine is not None and len(mine) < each:
            mine.append(row)
    return {name: mine for name, mine in rows.items() if mine}


def _rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _within(thumbnails: Sequence[Thumbnail]) -> list[Thumbnail]:
    """The first pictures that fit into the page's budget; the others stay as gaps with names."""
    left = _BYTES
    kept = []
    for thumbnail in thumbnails:
        left -= len(thumbnail.source or "")
        kept.append(thumbnail if left >= 0 else Thumbnail(path=thumbnail.path, source=None))
    return kept
