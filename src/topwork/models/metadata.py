"""`WeightsMetadata`: what a weights file says about its own input and padding. Knows nothing about networks or torch.

The keys that a safetensors file may carry (all optional, all text):

    architecture    `NAME` or `timm NAME`; must be the network it is loaded into
    padding         `same` (TensorFlow's, asymmetric at stride 2) or `symmetric`
    bn_eps          a number, e.g. `1e-3`
    mean, std       one number or three with commas, for values scaled to [0, 1]
    input_size      a number of pixels, or `HxW`
    input_scaling   a sentence instead of the three above, e.g. `RGB, x/127.5-1 (mean 0.5, std 0.5), 224x224`
    interpolation   `bicubic` or `bilinear`
    crop            share of the short side, in (0, 1]
    licence         (or `license`) a sentence
    source          (or `source_repo`) where the numbers come from
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from topwork.errors import WeightsError

__all__ = ["WeightsMetadata", "parse_metadata"]

_Triple = tuple[float, float, float]
_Padding = Literal["same", "symmetric"]
_Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, kw_only=True)
class WeightsMetadata:
    """What weights carry with them; None where the file is silent.

    Args:
        architecture: the timm name of the network.
        padding: of strided convolutions.
        bn_eps: of every BatchNorm.
        mean, std: per channel (R, G, B), for values scaled to [0, 1].
        size: side of the input in pixels.
        interpolation, crop: as in `InputSpec`.
        licence, origin: sentences.
    """

    architecture: str | None = None
    padding: _Padding | None = None
    bn_eps: float | None = None
    mean: _Triple | None = None
    std: _Triple | None = None
    size: int | None = None
    interpolation: _Interpolation | None = None
    crop: float | None = None
    licence: str | None = None
    origin: str | None = None

    @property
    def knows_input(self) -> bool:
        """Whether scaling and size are stated, so that timm's defaults for the name are not needed."""
        return self.mean is not None and self.std is not None and self.size is not None


def parse_metadata(texts: Mapping[str, str], *, file: str) -> WeightsMetadata:
    """Read the documented keys; other keys are left alone.

    Args:
        texts: the metadata of a safetensors file.
        file: its name, for messages.

    Raises:
        WeightsError: if a documented key holds something that cannot be understood.

    Example:
        >>> parse_metadata({"input_scaling": "RGB, x/127.5-1, 224x224"}, file="a").mean
        (0.5, 0.5, 0.5)
    """
    reader = _Reader(texts, file)
    mean, std, size = reader.scaling()
    return WeightsMetadata(
        architecture=reader.architecture(),
        padding=reader.padding(),
        bn_eps=reader.number("bn_eps", low=0.0, high=1.0),
        mean=reader.triple("mean") or mean,
        std=reader.triple("std") or std,
        size=reader.size() or size,
        interpolation=reader.interpolation(),
        crop=reader.number("crop", low=0.0, high=1.0),
        licence=texts.get("licence") or texts.get("license"),
        origin=texts.get("source") or texts.get("source_repo"),
    )


class _Reader:
    def __init__(self, texts: Mapping[str, str], file: str) -> None:
        self._texts = texts
        self._file = file

    def architecture(self) -> str | None:
        words = self._texts.get("architecture", "").split()
        return words[-1] if words else None

    def padding(self) -> _Padding | None:
        text = self._texts.get("padding")
        if text is None:
            return None
        if "same" in text.lower():
            return "same"
        if text.strip().lower() in ("", "symmetric"):
            return "symmetric"
        raise self._error("padding", "'same' or 'symmetric'")

    def interpolation(self) -> _Interpolation | None:
        match self._texts.get("interpolation"):
            case None:
                return None
            case "bicubic":
                return "bicubic"
            case "bilinear":
                return "bilinear"
        raise self._error("interpolation", "'bicubic' or 'bilinear'")

    def number(self, key: str, *, low: float, high: float) -> float | None:
        text = self._texts.get(key)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low < value <= high:
            raise self._error(key, f"a number in ({low:g}, {high:g}]")
        return value

    def triple(self, key: str) -> _Triple | None:
        text = self._texts.get(key)
        return None if text is None else self._triple(key, re.findall(r"[-+\d.eE]+", text))

    def _triple(self, key: str, texts: list[str]) -> _Triple:
        try:
            values = [float(text) for text in texts]
        except ValueError:
            values = []
        if len(values) == 1:
            values *= 3
        if len(values) != 3 or (key == "std" and min(values) <= 0.0):
            raise self._error(key, "one number or three numbers with commas" + (", positive" * (key == "std")))
        return values[0], values[1], values[2]

    def size(self) -> int | None:
        text = self._texts.get("input_size")
        if text is None:
            return None
        found = re.fullmatch(r"\s*(\d+)\s*(?:x\s*(\d+)\s*)?", text)
        if not found or found[2] not in (None, found[1]) or int(found[1]) < 16:
            raise self._error("input_size", "a number of pixels >= 16, e.g. '224'")
        return int(found[1])

    def scaling(self) -> tuple[_Triple | None, _Triple | None, int | None]:
        """Mean, std and size out of the sentence; a sentence without scaling is an error, never a guess."""
        text = self._texts.get("input_scaling")
        if text is None:
            return None, None, None
        mean = re.search(r"mean\s+([\d.]+(?:\s*,\s*[\d.]+){2}|[\d.]+)", text)
        std = re.search(r"std\s+([\d.]+(?:\s*,\s*[\d.]+){2}|[\d.]+)", text)
        size = re.search(r"(\d+)\s*x\s*(\d+)", text)
        pixels = int(size[1]) if size else None
        if mean and std:
            return self._triple("mean", mean[1].split(",")), self._triple("std", std[1].split(",")), pixels
        if re.search(r"x\s*/\s*127\.5\s*-\s*1", text):
            return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), pixels
        raise self._error("input_scaling", "a sentence with 'mean M, std S' or 'x/127.5-1'")

    def _error(self, key: str, rule: str) -> WeightsError:
        return WeightsError(
            f"The metadata key {key!r} of {self._file} must be {rule}. Got {self._texts.get(key)!r}.",
            fix="correct the file's metadata, or use another file.",
        )
