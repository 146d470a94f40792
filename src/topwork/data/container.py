"""Opening a picture file as far as its header: what is refused before memory is used, and why decoding failed.

Only the decoders of the allow-list are ever called. Knows nothing about what becomes of the pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from topwork.data.jpeg import count_scans
from topwork.data.pixels import UnsupportedMode

__all__ = ["Limits", "Refused", "check_memory", "open_picture", "why_it_failed"]

_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,  # of an MPO this is the first picture
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_COUNTS_FRAMES = ("WEBP", "AVIF", "PNG")  # their headers tell; later frames of a GIF or TIFF are never looked for
_SMALLER = "save the picture smaller."
_AGAIN = "restore the file from its source, or delete it."


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a picture may cost.

    Args:
        bytes: of the file.
        pixels: width x height as the header says.
        memory: bytes that decoding to RGB may take, by a forecast from the header.
        frames: of an animation whose header tells; only the first is ever decoded.
        scans: passes of a progressive JPEG over the picture; they bound the time.
    """

    bytes: int = 64 * 2**20
    pixels: int = 100_000_000
    memory: int = 400_000_000
    frames: int = 10_000
    scans: int = 100


class Refused(Exception):
    """A file cannot become a picture: the `kind` of the DecodeError, what it is, what to do."""

    def __init__(self, kind: str, what: str, *, fix: str) -> None:
        super().__init__(what)
        self.kind, self.what, self.fix = kind, what, fix


def open_picture(
    data: bytes, container: str, *, limits: Limits, target: int | None
) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    """Read the header, choose the scale, and refuse what would cost too much; no pixel is decoded.

    Args:
        data: the whole file.
        container: as `sniff.picture_format` names it.
        limits: what is refused.
        target: as `decode.decode` takes it.

    Returns:
        The picture, not yet loaded, which libjpeg may be going to scale down; and its full width and height.

    Raises:
        Refused: if a limit is passed, or HEIC cannot be read here.
        Exception: whatever Pillow raises for a broken header.
    """
    if container == "WEBP":  # its decoder reserves the canvas when it opens the file
        _check_pixels(_webp_size(data), limits)
    if container in ("AVIF", "HEIC") and _boxes_end(data) > len(data):  # the decoders would fill the rest with grey
        what = f"a truncated {container} file ({len(data):,} of {_boxes_end(data):,} bytes)"
        raise Refused("truncated", what, fix=_AGAIN)
    image = _heic(data) if container == "HEIC" else _OPENERS[container](io.BytesIO(data))
    width, height = image.size
    _check_pixels(image.size, limits)
    progressive = bool(container == "JPEG" and image.info.get("progressive"))
    scale = _draft(image, target) if container == "JPEG" else 1
    # a progressive JPEG is held as coefficients of the full size: 2 bytes for each of 3 channels
    need = _bytes_needed(image, container, coefficients=6 * scale**2 if progressive else 0)
    check_memory((width, height), need, limits=limits)
    if progressive and (scans := count_scans(data)) > limits.scans:
        raise Refused("too-many-scans", f"a JPEG of {scans} scans, more than {limits.scans}", fix="save it again.")
    if container in _COUNTS_FRAMES and (frames := getattr(image, "n_frames", 1)) > limits.frames:
        raise Refused("too-many-frames", f"an animation of {frames} frames, more than {limits.frames}", fix=_SMALLER)
    return image, (width, height)


def _draft(image: ImageFile.ImageFile, target: int | None) -> int:
    """Have libjpeg scale by 1/8, 1/4 or 1/2 while the short side stays >= 2 x target."""
    width, height = image.size
    if target is not None:
        for scale in (8, 4, 2):
            if min(width, height) >= 2 * target * scale:
                image.draft(image.mode, (width // scale, height // scale))
                return scale
    return 1


def _check_pixels(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.pixels:
        what = f"{width}x{height} pixels, more than {limits.pixels / 1e6:.0f} megapixels"
        raise Refused("too-many-pixels", what, fix=_SMALLER)


def check_memory(size: tuple[int, int], need: int, *, limits: Limits) -> None:
    """Refuse a picture of this size for which decoding would need too many bytes.

    Raises:
        Refused: if it passes the limit.
    """
    width, height = size
    if need > limits.memory:
        megapixels = width * height / 1e6
        what = f"{width}x{height} = {megapixels:.0f} megapixels that need {need / 1e6:.0f} MB to decode"
        raise Refused("too-many-pixels", what, fix=_SMALLER)


def _bytes_needed(image: ImageFile.ImageFile, container: str, *, coefficients: int) -> int:
    """Forecast of the peak: the decoder's own buffers + Pillow's picture + RGB out; measured to hold."""
    width, height = image.size
    stored = {"1": 1, "L": 1, "P": 1, "RGB": 4, "I;16": 8, "I;16B": 8, "I": 28, "F": 28}.get(image.mode, 5)
    decoder = {"WEBP": 12, "AVIF": 8, "HEIC": 8}.get(container, coefficients)
    return width * height * (decoder + stored + 3)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Canvas size; source: RFC 9649, sections 2.5 to 2.7."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _heic(data: bytes) -> ImageFile.ImageFile:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        fix = 'pip install "topwork[heic]", or convert it to JPEG.'
        raise Refused("heic-support-missing", "a HEIC photo, and pillow-heif is not installed", fix=fix) from None
    opener: Callable[[io.BytesIO], ImageFile.ImageFile] = HeifImageFile
    return opener(io.BytesIO(data))


def why_it_failed(error: Exception, data: bytes, *, container: str) -> Refused:
    """The refusal for whatever a decoder raised."""
    reason = str(error).strip() or type(error).__name__
    if isinstance(error, UnsupportedMode):
        return Refused("unsupported-mode", f"a {container} file in colour mode {reason}", fix="convert it to RGB.")
    if isinstance(error, Image.DecompressionBombError):
        return Refused("too-many-pixels", f"a {container} file of too many pixels", fix=_SMALLER)
    if "Decompressed data too large" in reason or "MAX_TEXT_MEMORY" in reason:
        return Refused("decompression-bomb", f"a {container} file with a text block that expands too far", fix=_AGAIN)
    if isinstance(error, EOFError) or "truncated" in reason.lower() or _ends_early(data, container):
        return Refused("truncated", f"a truncated {container} file ({reason})", fix=_AGAIN)
    return Refused("corrupt", f"a damaged {container} file ({reason})", fix=_AGAIN)


def _ends_early(data: bytes, container: str) -> bool:
    if container == "PNG":
        return b"IEND" not in data[-64:]
    if container == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    if container == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def _boxes_end(data: bytes) -> int:
    """Where the last top-level box says it ends; source: ISO/IEC 14496-12, section 4.2."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 0:  # to the end of the file
            return len(data)
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        position += max(8, length)
    return position
