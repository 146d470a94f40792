"""A decoded picture -> the square that a network sees in evaluation. Knows nothing about files or augmentation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.spec import InputSpec

__all__ = ["evaluation_view"]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def evaluation_view(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Antialiased resize of the short side to `spec.resize`, then the centre crop, in one resampling.

    Only the part of the picture under the crop is resampled, so a 750:1 strip costs no more than a square. The crop is
    centred exactly, to a fraction of a pixel. Pictures that are too small are enlarged.

    Args:
        pixels: (H,W,3) uint8 RGB, any H, W >= 1.
        spec: the input.

    Returns:
        (size,size,3) uint8 RGB.
    """
    height, width = pixels.shape[:2]
    side = spec.size * min(height, width) / spec.resize  # of the crop, in pixels of the picture
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    picture = Image.fromarray(pixels)
    square = picture.resize((spec.size, spec.size), resample=_FILTERS[spec.interpolation], box=box)
    return np.array(square)
