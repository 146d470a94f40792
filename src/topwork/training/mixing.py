"""MixUp and CutMix on a batch of activations or features. Knows tensors only."""

from __future__ import annotations

import math

import numpy as np
import torch

from topwork.recipe import Phase

__all__ = ["mix"]


def mix(
    inputs: torch.Tensor, targets: torch.Tensor, *, phase: Phase, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each row with another row of the batch; where both are asked for, one of them is drawn per batch.

    MixUp: x = a x_i + (1 - a) x_j with a from Beta(m, m). Source: H. Zhang et al. (2018), arXiv:1710.09412; on hidden
    activations V. Verma et al. (2019), arXiv:1806.05236. CutMix: a rectangle of share 1 - a comes from x_j.
    Source: S. Yun et al. (2019), arXiv:1905.04899.

    Args:
        inputs: (B,D), (B,T,C) or (B,h,w,C); CutMix needs the last.
        targets: (B,K) probabilities.
        phase: gives `mixup` and `cutmix`.
        random: source of chance.

    Returns:
        Mixed inputs and targets of the same shapes; the given ones if neither is asked for.
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(phase, kind) > 0 and (kind == "mixup" or inputs.ndim == 4)]
    if not kinds:
        return inputs, targets
    kind = kinds[int(random.integers(len(kinds)))]
    strength = getattr(phase, kind)
    share = float(random.beta(strength, strength))
    other = torch.from_numpy(random.permutation(len(inputs)))
    if kind == "mixup":
        mixed = share * inputs + (1 - share) * inputs[other]
    else:
        mixed, share = _pasted(inputs, inputs[other], share=share, random=random)
    return mixed, share * targets + (1 - share) * targets[other]


def _pasted(
    inputs: torch.Tensor, others: torch.Tensor, *, share: float, random: np.random.Generator
) -> tuple[torch.Tensor, float]:
    height, width = inputs.shape[1:3]
    side = math.sqrt(1 - share)
    h, w = round(height * side), round(width * side)
    top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
    mixed = inputs.clone()
    mixed[:, top : top + h, left : left + w] = others[:, top : top + h, left : left + w]
    return mixed, 1 - h * w / (height * width)  # the share that was really kept
