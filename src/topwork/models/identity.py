"""Which numbers a backbone computes, as one digest, and which input it expects: answered before the network is built.

Needs neither torch nor timm where the weights say what they are (wheels, random, files with metadata), so that a run
whose activations are all cached starts in milliseconds.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from typing import TYPE_CHECKING, Any

from topwork.digest import digest
from topwork.models.weights import WeightsSource, find_weights
from topwork.spec import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["backbone_identity", "probe_spec", "source_identity", "source_spec"]

_VERSION = 1  # bump when the same weights would give other numbers


def probe_spec(name: str, weights: str, image_size: int | None = None, crop: float | None = None) -> InputSpec:
    """The input that `create_backbone` with the same arguments expects.

    Args:
        name: as for `create_backbone`.
        weights: as for `create_backbone`.
        image_size: side in pixels; None takes the weights' own.
        crop: share of the short side; None takes the weights' own.

    Raises:
        WeightsError: if the weights cannot be found.
        RecipeError: if timm has no such network or the size does not fit.
    """
    return source_spec(find_weights(name, weights), image_size, crop, default=lambda: _timm_default(name))


def backbone_identity(name: str, weights: str, image_size: int | None = None, crop: float | None = None) -> str:
    """Digest of everything that changes a backbone's outputs; equals `Backbone.identity`.

    Raises:
        WeightsError: if the weights cannot be found.
        RecipeError: if timm has no such network or the size does not fit.
    """
    source = find_weights(name, weights)
    if source.kind == "hub":
        from topwork.models.backbone import locate  # only timm knows where a network's weights are

        source = locate(source)
    return source_identity(source, source_spec(source, image_size, crop, default=lambda: _timm_default(name)))


def source_spec(
    source: WeightsSource, image_size: int | None, crop: float | None, *, default: Callable[[], InputSpec]
) -> InputSpec:
    """What the caller asks for, over what the weights carry, over the default."""
    carried = source.metadata
    base = InputSpec() if carried.knows_input else default()
    stated: dict[str, Any] = {
        "size": image_size or carried.size,
        "mean": carried.mean,
        "std": carried.std,
        "interpolation": carried.interpolation,
        "crop": crop or carried.crop,
    }
    return dataclasses.replace(base, **{key: value for key, value in stated.items() if value is not None})


def source_identity(source: WeightsSource, spec: InputSpec) -> str:
    """Digest of name, weights, padding, eps and input."""
    carried = source.metadata
    # Random weights depend on how timm and torch initialise; the numbers of a file do not.
    drawn_by = [importlib.metadata.version(package) for package in ("timm", "torch")] if source.kind == "none" else []
    return digest(_VERSION, source.name, source.sha256, drawn_by, carried.padding, carried.bn_eps, spec.to_json())


def _timm_default(name: str) -> InputSpec:
    from topwork.models.backbone import default_spec  # timm costs seconds, so it is asked only where it must be

    return default_spec(name)
