"""The networks and pictures of the golden heatmaps, for the script that makes them and the test that reads them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from topwork.data.drawn import SPECIES, draw_flower
from topwork.models.backbone import create_backbone
from topwork.models.classifier import Classifier

CLASSES = 5
SUBJECTS = {
    "test_efficientnet": "conv_head",
    "test_resnet": "layer3",
    "test_convnext": "stages.3",
    "test_vit": "blocks.4",
}
"""Network -> the block that is explained."""


def subject(name: str) -> Classifier:
    """A classifier with random weights, the same every time; its features are spread out so that maps differ."""
    backbone = create_backbone(name, weights="none")
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1:  # random initial weights shrink signals; larger ones give maps with contrast
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5 * 1.4)
    head = nn.Linear(backbone.width, CLASSES)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
        head.bias.zero_()
    return Classifier(backbone, head).eval()


def pictures(size: int) -> np.ndarray:
    """(10,size,size,3) uint8."""
    return np.stack([draw_flower(SPECIES[seed % 5], seed=seed, size=size).pixels for seed in range(10)])
