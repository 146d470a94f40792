"""What weights and wishes add up to: a backbone's input, and the digest of the numbers it computes. Loads nothing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from typing import Any

from topwork.digest import digest
from topwork.models.weights import WeightsSource
from topwork.spec import InputSpec

__all__ = ["source_identity", "source_spec"]

_VERSION = 1  # bump when the same weights would give other numbers


def source_spec(source: WeightsSource, default: InputSpec, *, image_size: int | None, crop: float | None) -> InputSpec:
    """What the caller asks for, over what the weights carry, over the default.

    Raises:
        RecipeError: if the size or the crop is out of range.
    """
    carried = source.metadata
    stated: dict[str, Any] = {
        "size": carried.size if image_size is None else image_size,
        "mean": carried.mean,
        "std": carried.std,
        "interpolation": carried.interpolation,
        "crop": carried.crop if crop is None else crop,
    }
    base = InputSpec() if carried.knows_input else default
    return dataclasses.replace(base, **{key: value for key, value in stated.items() if value is not None})


def source_identity(source: WeightsSource, spec: InputSpec, *, seed: int = 0) -> str:
    """Digest of name, weights (the seed of random ones), padding, eps and input."""
    carried = source.metadata
    # Random weights depend on how timm and torch initialise; the numbers of a file do not.
    drawn_by = [importlib.metadata.version(package) for package in ("timm", "torch")] if source.kind == "none" else []
    if drawn_by and seed:
        drawn_by.append(f"seed {seed}")
    return digest(_VERSION, source.name, source.sha256, drawn_by, carried.padding, carried.bn_eps, spec.to_json())
