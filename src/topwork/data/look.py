"""`Look`: what the light and the focus of one picture are, in a few numbers. Knows no files and judges nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["LOOK_SIDE", "Look", "measure_look"]

LOOK_SIDE = 128
"""Short side in pixels at which a picture is looked at; a smaller one is taken as it is."""

_TILE = 16


@dataclass(frozen=True, kw_only=True)
class Look:
    """Light and focus.

    Args:
        mode: Pillow's name of the colour mode in the file, e.g. `RGB`, `L`, `CMYK`.
        mean: grey level, 0 (black) to 255 (white).
        low, high: the 1st and 99th percentile of the grey levels.
        sharpness: of the sharpest twentieth of the picture, in grey levels: the mean absolute Laplacian of 16x16-pixel
            tiles, at its 95th percentile. Photos in focus have 15 to 130; one that is sharp anywhere counts as sharp.
    """

    mode: str
    mean: float
    low: float
    high: float
    sharpness: float


def measure_look(pixels: NDArray[np.uint8], *, mode: str) -> Look:
    """Measure a picture.

    Args:
        pixels: (H,W,3) uint8 RGB, upright.
        mode: as in the file.
    """
    image = Image.fromarray(pixels).convert("L")
    scale = LOOK_SIDE / min(image.size)
    if scale < 1:
        width, height = (round(side * scale) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    grey = np.asarray(image, np.float32)
    low, high = np.percentile(grey, (1, 99))
    return Look(
        mode=mode,
        mean=round(float(grey.mean()), 2),
        low=round(float(low), 2),
        high=round(float(high), 2),
        sharpness=round(_sharpness(grey), 3),
    )


def _sharpness(grey: NDArray[np.float32]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    edges = np.abs(4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    rows, columns = (max(1, side // _TILE) for side in edges.shape)
    high, wide = (min(_TILE, side) for side in edges.shape)
    tiles = edges[: rows * high, : columns * wide].reshape(rows, high, columns, wide)
    return float(np.quantile(tiles.mean(axis=(1, 3)), 0.95))
