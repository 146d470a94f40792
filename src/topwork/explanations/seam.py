"""`Seam`: where a classifier is parted for a heatmap, and how what flows there becomes a grid. Knows no method.

Below the seam nothing needs a gradient, so a frozen trunk costs no more than a prediction.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from topwork.errors import RecipeError
from topwork.models.classifier import Classifier

__all__ = ["Seam", "default_layer"]


def default_layer(classifier: Classifier) -> str:
    """The block whose output a heatmap explains: the last one, whose cells know most about the classes.

    A ViT is parted before its last attention: above it only the class token is read, and patches have no say any more.
    """
    names = classifier.backbone.block_names
    attention = [position for position, name in enumerate(names) if name.startswith("blocks.")]
    if classifier.backbone.family == "vit" and attention:
        return names[max(0, attention[-1] - 1)]
    return names[-1]


class Seam:
    """A classifier in two parts.

    Args:
        classifier: in evaluation mode.
        layer: the block whose output flows through the seam; None takes `default_layer`.

    Raises:
        RecipeError: if there is no such block.
    """

    def __init__(self, classifier: Classifier, layer: str | None = None) -> None:
        names = classifier.backbone.block_names
        self.layer = layer or default_layer(classifier)
        if self.layer not in names:
            raise RecipeError(
                f"The layer of a heatmap must be a block of {classifier.backbone.name}. Got {layer!r}.",
                fix=f"use one of {', '.join(names)}.",
            )
        self._classifier = classifier
        self._cut = names.index(self.layer) + 1

    def below(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 pictures (N,H,W,3) -> the layer's output, without a gradient: (N,C,h,w), (N,h,w,C) or (N,T,C)."""
        with torch.no_grad():
            normalised = self._classifier.normalise(images)
            activation: torch.Tensor = self._classifier.backbone.trunk(self._cut)(normalised)
        return activation.detach()

    def above(self, activation: torch.Tensor) -> torch.Tensor:
        """The layer's output -> logits (N,K)."""
        backbone = self._classifier.backbone
        logits: torch.Tensor = self._classifier.head(backbone.pool(backbone.top(self._cut)(activation)))
        return logits

    def grid(self, values: torch.Tensor) -> torch.Tensor:
        """The layer's output, or a gradient of its shape -> (N,C,h,w); class and register tokens are left out.

        Raises:
            RecipeError: if the output has no places.
        """
        network = cast(Any, self._classifier.backbone.network)
        if values.ndim == 4:
            width, whole = getattr(network, "num_features", None), not self._classifier.backbone.cuttable
            channels_last = whole and values.shape[1] != width and values.shape[3] == width
            return values.permute(0, 3, 1, 2) if channels_last else values
        if values.ndim == 3:
            patches = values[:, int(getattr(network, "num_prefix_tokens", 0)) :]
            rows, columns = _token_grid(network, patches.shape[1])
            if rows * columns == patches.shape[1]:
                return patches.transpose(1, 2).reshape(len(patches), -1, rows, columns)  # (N,T,C) -> (N,C,h,w)
        raise RecipeError(
            f"The layer of a heatmap must have places. The output of {self.layer} has shape {tuple(values.shape[1:])}.",
            fix="choose another layer, or another network.",
        )


def _token_grid(network: Any, tokens: int) -> tuple[int, int]:
    """Rows and columns of the patches: as the network says, else a square."""
    stated = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if stated is not None and stated[0] * stated[1] == tokens:
        return int(stated[0]), int(stated[1])
    side = round(tokens**0.5)
    return side, side
