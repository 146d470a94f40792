"""What weights and wishes add up to: a backbone's input, and the digest of the numbers it computes. Loads nothing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable
from typing import Any

from topwork.digest import digest
from topwork.models.members import check_alike
from topwork.models.metadata import WeightsMetadata
from topwork.models.weights import WeightsSource
from topwork.spec import InputSpec

__all__ = ["source_identity", "source_spec"]

_VERSION = 1  # bump when the same weights would give other numbers


def source_spec(
    source: WeightsSource, stated: Callable[[str], InputSpec], *, image_size: int | None, crop: float | None
) -> InputSpec:
    """What the caller asks for, over what the weights carry, over what is stated for the network.

    Args:
        source: of one network, or of several, which must scale pictures alike; the largest of their inputs is taken.
        stated: a network's name -> its input; asked only where the weights do not say.
        image_size, crop: the caller's wish, or None.

    Raises:
        RecipeError: if the size or the crop is out of range, or several networks scale pictures differently.
    """
    if source.members:
        specs = {each.name: source_spec(each, stated, image_size=None, crop=None) for each in source.members}
        for key in ("mean", "std", "interpolation"):
            check_alike({name: getattr(spec, key) for name, spec in specs.items()}, what=f"the {key} of their inputs")
        base, carried = max(specs.values(), key=lambda spec: spec.size), WeightsMetadata()
    else:
        carried = source.metadata
        base = InputSpec() if carried.knows_input else stated(source.name)
    over: dict[str, Any] = {
        "size": carried.size if image_size is None else image_size,
        "mean": carried.mean,
        "std": carried.std,
        "interpolation": carried.interpolation,
        "crop": carried.crop if crop is None else crop,
    }
    return dataclasses.replace(base, **{key: value for key, value in over.items() if value is not None})


def source_identity(source: WeightsSource, spec: InputSpec, *, seed: int = 0) -> str:
    """Digest of name, weights (the seed of random ones), padding, eps and input; of several networks, in order."""
    if source.members:
        own = [source_identity(member, spec, seed=seed) for member in source.members]
        return digest(_VERSION, source.name, own)
    carried = source.metadata
    # Random weights depend on how timm and torch initialise; the numbers of a file do not.
    drawn_by = [importlib.metadata.version(package) for package in ("timm", "torch")] if source.kind == "none" else []
    if drawn_by and seed:
        drawn_by.append(f"seed {seed}")
    return digest(_VERSION, source.name, source.sha256, drawn_by, carried.padding, carried.bn_eps, spec.to_json())
