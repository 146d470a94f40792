"""`InputSpec`: all that defines "the input" of a network. Knows nothing about files or torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from topwork.errors import RecipeError

__all__ = ["InputSpec"]

_Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How a decoded picture becomes a network's input.

    The short side is resized to `resize` pixels (antialiased), the centre `size` x `size` is cut out, and inside
    the network graph each channel becomes `(x / 255 - mean) / std`.

    Args:
        size: side of the square input in pixels, >= 16.
        mean: per channel (R, G, B), for values scaled to [0, 1].
        std: per channel, > 0.
        interpolation: `bicubic` or `bilinear`.
        crop: the share of the resized short side that the crop keeps, in (0, 1].

    Raises:
        RecipeError: if a value is out of range.

    Example:
        >>> InputSpec(size=224, crop=0.875).resize
        256
    """

    size: int = 224
    mean: _Triple = (0.5, 0.5, 0.5)
    std: _Triple = (0.5, 0.5, 0.5)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop: float = 0.875

    def __post_init__(self) -> None:
        if self.size < 16:
            raise RecipeError(
                f"The image size of an input must be at least 16 pixels. Got {self.size}.",
                fix="set data.image_size to 64 or more.",
            )
        if not 0.0 < self.crop <= 1.0:
            raise RecipeError(
                f"The crop share of an input must be in (0, 1]. Got {self.crop}.", fix="use 0.875 or 1.0."
            )
        if min(self.std) <= 0.0:
            raise RecipeError(
                f"The std of an input must be positive. Got {self.std}.",
                fix="use the values that the weights were trained with.",
            )

    @property
    def resize(self) -> int:
        """Short side in pixels before the centre crop."""
        return max(self.size, round(self.size / self.crop))

    def to_json(self) -> dict[str, Any]:
        """Plain values, readable by `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> InputSpec:
        """The inverse of `to_json`; tuples come back as tuples."""
        triples = {key: tuple(value[key]) for key in ("mean", "std")}
        return cls(**{**value, **triples})
