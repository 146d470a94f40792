"""Any Pillow image -> 8-bit RGB on white. Knows nothing about files, formats or sizes to come."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["UnsupportedMode", "rgb_pixels"]

_BAND_PIXELS = 4_000_000
_CONVERTIBLE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}
_WITH_ALPHA = {"LA": "RGBA", "PA": "RGBA", "RGBA": "RGBA", "La": "LA", "RGBa": "RGBA"}


class UnsupportedMode(Exception):
    """The colour mode has no agreed way to RGB; the argument is its name."""


def rgb_pixels(image: Image.Image) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """What the picture looks like on white paper.

    8-bit channels stay as they are; 16-bit grey is divided by 257 and rounded, never clipped; 32-bit grey and floats
    are scaled from their range; palettes are looked up; CMYK, YCbCr and HSV are converted by Pillow without colour
    profiles, so that the result depends on nothing but the file; transparency is composited on white.

    Args:
        image: loaded, any mode.

    Returns:
        (H,W,3) uint8, read-only, C order; and warnings, one sentence each.

    Raises:
        UnsupportedMode: for LAB and other modes without an agreed way to RGB.
    """
    if image.mode.startswith("I;16"):
        return _freeze(_repeat(_narrow(np.asarray(image)))), ()
    if image.mode in ("I", "F"):
        return _deep_grey(np.asarray(image))
    width, height = image.size
    if width * height <= _BAND_PIXELS:
        return _freeze(np.asarray(_on_white(image))), ()
    # Pillow holds 4 bytes a pixel and numpy's copy is made twice; bands keep a large picture to one copy
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        band.info = image.info
        pixels[top : top + rows] = np.asarray(_on_white(band))
    return _freeze(pixels), ()


def _on_white(image: Image.Image) -> Image.Image:
    mode = _WITH_ALPHA.get(image.mode)
    if mode is None and image.mode not in _CONVERTIBLE:
        raise UnsupportedMode(image.mode)
    if mode is None and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    if mode is None and image.mode not in ("1", "L", "P", "RGB"):
        return image.convert("RGB")
    layer = image.convert(mode or "RGBA").convert("RGBA")
    paper = Image.new("RGB", image.size, (255, 255, 255))
    paper.paste(layer, mask=layer.getchannel("A"))
    return paper


def _narrow(wide: NDArray[Any]) -> NDArray[Any]:
    """0..65535 -> 0..255: x / 257, rounded."""
    return ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _deep_grey(values: NDArray[Any]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        floor, ceiling = 0.0, 1.0
    elif low >= 0 and high <= 255:
        floor, ceiling = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        floor, ceiling = 0.0, 65535.0
    else:
        floor, ceiling = low, high
    shades = (np.where(finite, values, floor).astype(np.float64) - floor) * (255.0 / max(ceiling - floor, 1e-300))
    grey = np.rint(shades.clip(0, 255)).astype(np.uint8)
    return _freeze(_repeat(grey)), (f"32-bit grey was scaled from [{floor:g}, {ceiling:g}] to [0, 255]",)


def _repeat(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[:, :, None], 3, axis=2)  # (H,W) -> (H,W,3)


def _freeze(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    pixels.flags.writeable = False
    return pixels
