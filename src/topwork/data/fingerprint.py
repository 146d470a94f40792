"""What one photo is, whatever it is called: its digest, its size and a hash of how it looks. Knows no folders."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.data.capture import Capture, capture_of
from topwork.data.decode import decode_bytes, read_file
from topwork.data.look import LOOK_SIDE, Look, measure_look

__all__ = ["Fingerprint", "fingerprint", "perceptual_hash"]

_SIDE, _LOW = 32, 8
# Rows 0..7 of the orthonormal DCT-II of length 32 (Ahmed, Natarajan, Rao 1974): cos(pi * (2x + 1) * u / 64)
_DCT = np.cos(np.pi * np.outer(np.arange(_LOW), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
_DCT[0] /= np.sqrt(2)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What one readable photo is.

    Args:
        sha256: of the file's bytes, 64 hexadecimal digits.
        bytes: of the file.
        width, height: of the upright picture, in pixels.
        phash: `perceptual_hash`, in [0, 2**64).
        warnings: what decoding mended or found odd.
        look: its light and focus.
        capture: when and by which camera; None if the file does not say.
    """

    sha256: str
    bytes: int
    width: int
    height: int
    phash: int
    look: Look
    warnings: tuple[str, ...] = ()
    capture: Capture | None = None


def fingerprint(path: Path | str, *, name: str) -> Fingerprint:
    """Read and decode one photo; `name` is what messages call it.

    Raises:
        DecodeError: the file cannot become a picture.
    """
    data = read_file(path, name=name)
    decoded = decode_bytes(data, name=name, target=LOOK_SIDE)
    return Fingerprint(
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        width=decoded.width,
        height=decoded.height,
        phash=perceptual_hash(decoded.pixels),
        look=measure_look(decoded.pixels, mode=decoded.mode),
        warnings=decoded.warnings,
        capture=capture_of(io.BytesIO(data)),
    )


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """64 bits of how a picture looks: copies that were resized or recompressed differ in few of them.

    The picture becomes 32x32 shades of grey; each bit tells whether one of the 8x8 lowest frequencies of its cosine
    transform lies above their median. A blank picture is 0. Source: C. Zauner (2010), Implementation and Benchmarking
    of Perceptual Image Hash Functions, section 3.2.1 (there without the lowest row and column).

    Args:
        pixels: (H,W,3) uint8 RGB, upright.

    Returns:
        An integer in [0, 2**64); bit 63 is the mean, bit 0 the highest frequency.
    """
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = _DCT @ np.asarray(grey, np.float64) @ _DCT.T  # (32,32) -> (8,8)
    waves = low.ravel()
    above = waves > np.median(waves) + 1e-6  # rounding noise of a blank picture is no pattern
    if not above[1:].any():
        return 0
    return int.from_bytes(np.packbits(above).tobytes(), "big")
