"""`KernelHead`: pooled features -> logits, by likeness to stored training photos. Knows not how it is solved."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["TINY", "KernelHead"]

TINY = 1e-6
"""Below this a feature, and the length of a row, count as this."""


class KernelHead(nn.Module):
    """logits = weight @ k(x), with k_m(x) = exp(-|z(x) - landmark_m|^2).

    z(x) takes the signed square root of every feature, brings the row to length 1, subtracts the training mean and
    divides by the training rows' root mean square distance from it. The root keeps a few strong channels from
    deciding alone; the distance makes classes that are no convex region of the features separable.

    Args:
        width: D of the pooled features (N,D).
        landmarks: M stored rows.
        classes: K of the logits (N,K).

    Source: the square root, F. Perronnin et al. (2010), ECCV, "Improving the Fisher kernel"; radial basis functions on
    stored rows, C. Williams and M. Seeger (2001), NeurIPS 13, "Using the Nyström method to speed up kernel machines".
    """

    mean: torch.Tensor
    scale: torch.Tensor
    landmarks: torch.Tensor

    def __init__(self, width: int, *, landmarks: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("landmarks", torch.zeros(landmarks, width))
        self.logits = nn.Linear(landmarks, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pooled features (N,D) -> logits (N,K)."""
        logits: torch.Tensor = self.logits(self.likeness(self.embedded(features)))
        return logits

    def embedded(self, features: torch.Tensor) -> torch.Tensor:
        """Pooled features (N,D) -> z (N,D)."""
        z: torch.Tensor = (self.directions(features) - self.mean) / self.scale
        return z

    @staticmethod
    def directions(features: torch.Tensor) -> torch.Tensor:
        """Pooled features (N,D) -> signed square roots as rows of length 1, (N,D)."""
        roots = features / (features.abs() + TINY).sqrt()  # its slope at 0 is finite, unlike the root's own
        directions: torch.Tensor = roots / roots.norm(dim=1, keepdim=True).clamp_min(TINY)
        return directions

    def likeness(self, z: torch.Tensor) -> torch.Tensor:
        """z (N,D) -> k (N,M), each in (0, 1]; 1 where z is the landmark."""
        squares = (z**2).sum(1, keepdim=True) + (self.landmarks**2).sum(1) - 2 * z @ self.landmarks.T
        likeness: torch.Tensor = torch.exp(-squares.clamp_min(0.0))
        return likeness
