"""When and by which camera a photo was taken, as its EXIF block says. Decodes no pixel; knows nothing of groups."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

__all__ = ["Capture", "capture_of"]

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF")
_EXIF_BLOCK = 0x8769
_MAKE, _MODEL, _SERIAL = 0x010F, 0x0110, 0xA431
# Exif 2.32: the moment of the picture, or of its scan. `DateTime` is left aside: editors set it to the time of saving.
_MOMENTS = ((0x9003, 0x9291), (0x9004, 0x9292))


@dataclass(frozen=True)
class Capture:
    """One press of a shutter.

    Args:
        camera: maker, model and serial number, as far as they are known; may be empty.
        seconds: of the camera's clock since 1970, without a time zone.
    """

    camera: str
    seconds: float


def capture_of(photo: Path | BinaryIO) -> Capture | None:
    """What the EXIF block of a photo says, or None where there is none or it makes no sense. Reads the header only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow comments on broken blocks
            with Image.open(photo, formats=_FORMATS) as image:
                top = image.getexif()
                inner = top.get_ifd(_EXIF_BLOCK)
    except Exception:  # whatever a broken block does to its reader, it tells no time
        return None
    camera = " ".join(filter(None, (_text(value) for value in (top.get(_MAKE), top.get(_MODEL), inner.get(_SERIAL)))))
    for moment, fraction in _MOMENTS:
        seconds = _seconds(_text(inner.get(moment)), _text(inner.get(fraction)))
        if seconds is not None:
            return Capture(camera, seconds)
    return None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="ignore")
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


def _seconds(moment: str, fraction: str) -> float | None:
    try:
        whole = datetime.strptime(moment, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return whole + float(f"0.{fraction}") if fraction.isascii() and fraction.isdigit() else whole
