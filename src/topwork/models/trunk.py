"""`Trunk`: the frozen part of a network at work: uint8 pictures in; the activation at the cut and pooled features out.

Knows no engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from topwork.spec import InputSpec

if TYPE_CHECKING:
    from topwork.models.backbone import Backbone

__all__ = ["ENGINE_VERSION", "PARITY", "Outputs", "Precision", "Trunk", "TrunkRequest", "cosines"]

ENGINE_VERSION = 1  # bump when the same request would give other numbers

Precision = Literal["f32", "bf16"]

PARITY: dict[Precision, float] = {"f32": 0.99999, "bf16": 0.998}
"""Smallest mean cosine between the engine's pooled features and PyTorch's at float32."""


class Outputs(NamedTuple):
    """What one pass gives: activation (n,h,w,C) or (n,T,C) or None when only features were asked for; pooled (n,D)."""

    activation: npt.NDArray[np.float32] | None
    pooled: npt.NDArray[np.float32]


class Trunk(Protocol):
    """A compiled frozen network.

    Attributes:
        engine: `openvino` or `torch`.
        precision: `f32` or `bf16`.
        version: of the engine; part of every cache key.
        parity: mean cosine with PyTorch float32, where it was measured.
    """

    engine: str
    precision: Precision
    version: str
    parity: float | None

    def __call__(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """Run images (n,H,W,3) uint8, any n >= 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrunkRequest:
    """Which network, cut where.

    Args:
        identity: digest of everything that changes the network's outputs.
        build: makes the network, which the engine then owns; called only where the stored graph does not do.
        cut: number of blocks below the cut; None asks for pooled features only.
        spec: the input the network expects.
        photos: digest that names the photos to run on; a precision that fails on some is tried again on others.
    """

    identity: str
    build: Callable[[], Backbone]
    cut: int | None
    spec: InputSpec
    photos: str = ""


def cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of each row of a (n,D) with the same row of b (n,D); in [-1, 1]."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left * right).sum(axis=1) / np.maximum(norms, 1e-30), dtype=np.float64)
