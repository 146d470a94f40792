"""Questions about a backbone that is not built: which numbers it would compute, and which input it expects.

Needs neither torch nor timm where the weights say what they are (wheels, files with metadata), so that a run whose
activations are all cached starts in milliseconds.
"""

from __future__ import annotations

from topwork.models.identity import source_identity, source_spec
from topwork.models.weights import WeightsSource, find_weights
from topwork.spec import InputSpec

__all__ = ["backbone_identity", "probe_spec"]


def probe_spec(name: str, weights: str, *, image_size: int | None = None, crop: float | None = None) -> InputSpec:
    """The input that `create_backbone` with the same arguments expects.

    Raises:
        WeightsError: if the weights cannot be found.
        RecipeError: if timm has no such network or the size does not fit.
    """
    return _spec(find_weights(name, weights), image_size, crop=crop)


def backbone_identity(
    name: str, weights: str, *, image_size: int | None = None, crop: float | None = None, seed: int = 0
) -> str:
    """Digest of everything that changes a backbone's outputs; equals `create_backbone(...).identity`.

    Raises:
        WeightsError: if the weights cannot be found.
        RecipeError: if timm has no such network or the size does not fit.
    """
    source = find_weights(name, weights)
    if source.kind == "hub":
        from topwork.models.backbone import locate  # only timm knows where a network's weights are

        source = locate(source)
    return source_identity(source, _spec(source, image_size, crop=crop), seed=seed)


def _spec(source: WeightsSource, image_size: int | None, *, crop: float | None) -> InputSpec:
    return source_spec(source, _stated, image_size=image_size, crop=crop)


def _stated(name: str) -> InputSpec:
    from topwork.models.networks import default_spec  # timm costs seconds, so it is asked only where it must be

    return default_spec(name)
