"""The training loss, and what it does about unequal classes. Knows logits and labels only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from topwork.recipe import LossChoice

__all__ = ["FOCUS", "Loss", "class_weights", "logit_shift", "make_loss", "sampling_weights"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (N,K), target probabilities (N,K)) -> mean loss, a scalar."""

FOCUS = 2.0
"""Gamma of the focal loss; the paper's default."""


def make_loss(choice: LossChoice, class_counts: npt.NDArray[np.int64]) -> Loss:
    """Cross-entropy with soft targets, changed as the recipe asks.

    * `weights`: each class counts with N / (K n_k).
    * `focal`: each photo counts with (1 - p_true) ** 2. Source: T.-Y. Lin et al. (2017), arXiv:1708.02002.
    * `logit-adjust`: log class frequencies are added to the logits in training only.
      Source: A. K. Menon et al. (2021), arXiv:2007.07314.
    * `none`, `sampler`: plain; the sampler changes which photos are drawn, see `sampling_weights`. So is `auto`, which
      is one of the others by the time anything trains.

    Args:
        choice: the recipe's loss section.
        class_counts: (K,) training photos of each class, >= 0.
    """
    weighted, shifted, k = choice.imbalance == "weights", choice.imbalance == "logit-adjust", len(class_counts)
    weights = torch.tensor(class_weights(class_counts) if weighted else np.ones(k), dtype=torch.float32)
    shift = torch.tensor(logit_shift(class_counts) if shifted else np.zeros(k), dtype=torch.float32)

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smoothed = targets * (1 - choice.label_smoothing) + choice.label_smoothing / targets.shape[1]
        log_p = F.log_softmax(logits.float() + shift, dim=1)  # (N,K)
        each = -(smoothed * log_p).sum(1)  # (N,)
        counted = (targets * weights).sum(1)  # (N,)
        if choice.imbalance == "focal":
            counted = counted * (1 - (targets * log_p.exp()).sum(1)) ** FOCUS
        return (each * counted).mean()

    return loss


def class_weights(class_counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """N / (K n_k) of each class (K,), whose mean over photos is 1; a class without photos counts as if it had one."""
    return np.asarray(class_counts.sum() / (len(class_counts) * np.maximum(class_counts, 1)), dtype=np.float64)


def logit_shift(class_counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Log of each class's share (K,); a class without photos counts as if it had one."""
    return np.asarray(np.log(np.maximum(class_counts, 1) / class_counts.sum()), dtype=np.float64)


def sampling_weights(choice: LossChoice, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Probability of drawing each photo, (N,), so that classes are drawn equally; None draws each photo once."""
    if choice.imbalance != "sampler":
        return None
    counts = np.bincount(labels)
    weights = 1.0 / counts[labels]
    return np.asarray(weights / weights.sum(), dtype=np.float64)
