"""The one decode path: a file's bytes -> an upright 8-bit RGB picture, or a named refusal.

Training, evaluation, prediction and explaining all come through here, so they see the same pixels. Size limits are
checked on the header, before memory is used. Knows nothing about labels, folders or networks.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from topwork.data.container import Limits, Refused, check_memory, open_picture, why_it_failed
from topwork.data.jpeg import lacks_only_its_end, zeros_replace_its_end
from topwork.data.pixels import rgb_pixels
from topwork.data.sniff import EXTENSIONS, HEAD_BYTES, picture_format, why_not_a_picture
from topwork.errors import DecodeError

__all__ = ["DECODE_VERSION", "Decoded", "Limits", "decode", "decode_bytes", "printable", "read_file"]

DECODE_VERSION = 1
"""Part of every cache key: goes up whenever the pixels of any picture change."""

_LIMITS = Limits()
_ORIENTATION_TAG = 0x0112
_ONE_AT_A_TIME = threading.Lock()

# Pillow warns about broken EXIF blocks and large pictures on stderr; both are judged here instead.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A picture as a person sees it.

    Args:
        pixels: (H,W,3) uint8 RGB, upright, read-only; smaller than `width` x `height` after DCT scaling.
        width, height: of the upright picture at full size.
        warnings: one sentence each about what was mended or looks odd.
        mode: Pillow's name of the colour mode in the file, e.g. `RGB`, `CMYK`, `I;16`.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    warnings: tuple[str, ...]
    mode: str


def decode(path: Path | str, *, target: int | None = None, limits: Limits = _LIMITS) -> Decoded:
    """Read one picture: content decides what it is, not the name.

    EXIF orientation is applied, 16-bit values are scaled, transparency is composited on white, and of an animation the
    first frame is taken; later frames are never read. Colour profiles are ignored. A JPEG that lacks nothing but its
    end marker is accepted with a warning; any other truncated file is refused.

    Args:
        path: a file.
        target: the short side in pixels that the picture is going to be resized to. A JPEG whose short side is at
            least 4 times as long is scaled while decoding, to no less than 2 x target. None keeps every pixel.
        limits: what is refused before memory is used.

    Raises:
        DecodeError: the file cannot become a picture; `kind` names the reason. Never another exception.
    """
    name = printable(path)
    return decode_bytes(read_file(path, name=name, limits=limits), name=name, target=target, limits=limits)


def decode_bytes(data: bytes, *, name: str = "bytes", target: int | None = None, limits: Limits = _LIMITS) -> Decoded:
    """`decode` for a file's content; `name` is what messages call it.

    Raises:
        DecodeError: as `decode`.
    """
    head = data[:HEAD_BYTES]
    container = picture_format(head)
    try:
        if len(data) > limits.bytes:
            raise _too_many_bytes(len(data), limits)
        if container is None:
            raise _foreign(head)
        try:
            decoded = _decode(data, container, target=target, limits=limits)
        except Warning:
            # someone turned warnings into errors, and Pillow warns about EXIF blocks that must never be fatal
            with _ONE_AT_A_TIME, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decoded = _decode(data, container, target=target, limits=limits)
    except Refused as refused:
        raise _decode_error(name, refused) from None
    except Exception as error:  # decoders of eight formats raise whatever they like on hostile bytes
        raise _decode_error(name, why_it_failed(error, data, container=container or "unknown")) from error
    ending = os.path.splitext(name)[1]
    if EXTENSIONS.get(ending.lower(), container) == container:
        return decoded
    note = f"the content is {container} although the name ends in {ending}"
    return replace(decoded, warnings=(*decoded.warnings, note))


def printable(path: Path | str) -> str:
    """A path as text that every stream can print: bytes that are not UTF-8 become `\\xNN`.

    Example:
        >>> printable("caf\\udce9.jpg")
        'caf\\\\xe9.jpg'
    """
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def read_file(path: Path | str, *, name: str, limits: Limits = _LIMITS) -> bytes:
    """All bytes of a regular file that is not too large; `name` is what messages call it.

    Raises:
        DecodeError: as `decode`.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise Refused("not-a-file", "a folder or a device, not a file", fix="name a picture file.")
        if status.st_size > limits.bytes:
            raise _too_many_bytes(status.st_size, limits)
        with open(path, "rb") as stream:
            return stream.read(limits.bytes + 1)
    except Refused as refused:
        raise _decode_error(name, refused) from None
    except FileNotFoundError:
        gone = "a link that points to nothing" if os.path.islink(path) else "no such file"
        raise _decode_error(name, Refused("missing", gone, fix="check the path, or restore the file.")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        no_access = Refused("no-access", f"an error while reading ({reason})", fix="check the file's permissions.")
        raise _decode_error(name, no_access) from error


def _decode(data: bytes, container: str, *, target: int | None, limits: Limits) -> Decoded:
    image, full = open_picture(data, container, limits=limits, target=target)
    notes: list[str] = []
    try:
        if container == "JPEG" and zeros_replace_its_end(data):
            raise OSError("truncated: zeros in place of its end")
        image.load()
    except OSError as error:
        if container != "JPEG" or "truncated" not in str(error):
            raise
        image = _mended(data, error, target=target, limits=limits)
        notes.append("the end marker was missing; every pixel is there")
    if container != "JPEG":
        full = image.size  # TIFF turns itself upright while loading; HEIC knows its size only then
    mode, turn = image.mode, _orientation(image)
    if turn != 1:
        check_memory(full, 2 * 3 * image.width * image.height, limits=limits)  # RGB, and RGB turned
    pixels, more = rgb_pixels(image)
    del image  # before a turn copies the pixels
    width, height = full if turn < 5 else full[::-1]
    upright = _upright(pixels, turn)
    return Decoded(pixels=upright, width=width, height=height, warnings=(*notes, *more), mode=mode)


def _mended(data: bytes, error: OSError, *, target: int | None, limits: Limits) -> ImageFile.ImageFile:
    """The picture of a JPEG whose only fault is the missing end marker; else the error."""

    def load(content: bytes) -> ImageFile.ImageFile:
        image, _ = open_picture(content, "JPEG", limits=limits, target=target)
        image.load()
        return image

    def look(content: bytes) -> bytes:
        return rgb_pixels(load(content))[0].tobytes()

    if not lacks_only_its_end(data, look):
        raise error
    return load(data + b"\xff\xd9")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Warning:
        raise
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF orientation 1..8 (Exif 2.32, tag 0x0112): where row 0 and column 0 of the file belong."""
    if orientation == 1:
        return pixels
    if orientation >= 5:  # row 0 is a side of the scene
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    upright = np.ascontiguousarray(pixels)
    upright.flags.writeable = False
    return upright


def _too_many_bytes(size: int, limits: Limits) -> Refused:
    return Refused("too-many-bytes", f"{size:,} bytes, more than {limits.bytes:,}", fix="save the picture smaller.")


def _foreign(head: bytes) -> Refused:
    why = why_not_a_picture(head)
    fixes = {
        "git-lfs-pointer": "run `git lfs pull` in the repository it came from.",
        "format-not-allowed": "convert it to JPEG or PNG.",
        "html": "download the photo again; the server sent a page instead.",
        "empty": "restore the file, or delete it.",
    }
    return Refused(why.kind, why.what, fix=fixes.get(why.kind, "remove it from the photos."))


def _decode_error(name: str, refused: Refused) -> DecodeError:
    what = f"The content of {name} must be a readable picture. Got {refused.what}."
    return DecodeError(what, fix=refused.fix, kind=refused.kind)
