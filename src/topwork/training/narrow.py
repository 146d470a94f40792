"""Numbers in half their bytes: float16, and bfloat16 for what does not fit into it. Knows no file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["narrowed", "widened"]


def narrowed(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """Values as they are stored: uint8 as they are, float16 clipped to its range, or bfloat16 bits in uint16."""
    if dtype == "uint8":
        return values
    if dtype == "float16":
        half: npt.NDArray[np.float16] = np.clip(values, -65504.0, 65504.0).astype(np.float16)
        return half
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # round to nearest even on the upper 16 bits
    narrow: npt.NDArray[np.uint16] = (rounded >> 16).astype(np.uint16)
    return narrow


def widened(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Stored values of any shape as float32; uint16 means the bits of a bfloat16."""
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    wide: npt.NDArray[np.float32] = values.astype(np.float32)
    return wide
