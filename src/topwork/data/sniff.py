"""What a file is, by its first bytes. Knows nothing about file names, decoding or folders."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EXTENSIONS", "HEAD_BYTES", "NotAPicture", "picture_format", "why_not_a_picture"]

HEAD_BYTES = 512
"""How many leading bytes the functions of this module look at."""

EXTENSIONS: dict[str, str] = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".hif": "HEIC",
}
"""File name endings (lower case) of the formats on the allow-list. Content decides; the ending only tells intent."""

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "office-document", "an Office document"),
    (b"PK\x03\x04", "office-document", "a ZIP archive or an Office document"),
    (b"%PDF", "not-an-image", "a PDF document"),
    (b"8BPS", "format-not-allowed", "a Photoshop file"),
    (b"\x01\xda", "format-not-allowed", "an SGI picture"),
    (b"\xff\x4f\xff\x51", "format-not-allowed", "a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cjP  ", "format-not-allowed", "a JPEG 2000 picture"),
    (b"\xff\x0a", "format-not-allowed", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "format-not-allowed", "a JPEG XL picture"),
    (b"\x00\x00\x01\x00", "format-not-allowed", "an icon"),
    (b"\x1f\x8b", "not-an-image", "a gzip archive"),
    (b"Rar!", "not-an-image", "a RAR archive"),
    (b"7z\xbc\xaf", "not-an-image", "a 7z archive"),
    (b"\x00\x05\x16\x07", "not-an-image", "a macOS side file (AppleDouble)"),
)


@dataclass(frozen=True)
class NotAPicture:
    """Why bytes are no picture that topwork reads.

    Args:
        kind: the `kind` of the `DecodeError`.
        what: a noun phrase for a sentence, e.g. `an HTML page`.
    """

    kind: str
    what: str


def picture_format(head: bytes) -> str | None:
    """Name of the allowed format that the bytes start like, or None.

    Args:
        head: the first `HEAD_BYTES` bytes of a file, or all of it.

    Returns:
        `JPEG` (MPO included), `PNG`, `WEBP`, `AVIF`, `GIF`, `BMP`, `TIFF` or `HEIC`.

    Example:
        >>> picture_format(b"GIF89a....")
        'GIF'
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(_TIFF_STARTS):
        return "TIFF"
    if head[4:8] == b"ftyp":
        return _container_format(head)
    # "BM" alone is two letters of text; a bitmap's bytes 6..9 are reserved or a short hot spot, never letters
    if head.startswith(b"BM") and len(head) > 18 and head[14:18] in _BMP_HEADERS:
        return "BMP"
    return None


_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)}


def _container_format(head: bytes) -> str | None:
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, length, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def why_not_a_picture(head: bytes) -> NotAPicture:
    """A name for bytes that `picture_format` does not know.

    Example:
        >>> why_not_a_picture(b"<!DOCTYPE html><html>").what
        'an HTML page'
    """
    if not head:
        return NotAPicture("empty", "empty")
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return NotAPicture("git-lfs-pointer", "a Git LFS pointer, not the photo itself")
    for start, kind, what in _FOREIGN:
        if head.startswith(start):
            return NotAPicture(kind, what)
    if head[4:8] == b"ftyp":
        return NotAPicture("not-an-image", "a video")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if re.match(rb"<(!doctype html|html|head|body)", text):
        return NotAPicture("html", "an HTML page")
    if text.startswith((b"<?xml", b"<svg")):
        return NotAPicture("format-not-allowed" if b"<svg" in text else "not-an-image", "an XML or SVG document")
    if not re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", head):
        return NotAPicture("not-an-image", "a text file")
    return NotAPicture("not-an-image", f"no known picture format (it starts with {head[:8].hex(' ')})")
