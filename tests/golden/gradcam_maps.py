"""Golden heatmaps by the `grad-cam` package, made once: an oracle that shares no line with topwork.

The package wants opencv-python, which would overwrite the headless OpenCV, so it lives in an environment of its own:

    python -m venv /tmp/gradcam
    /tmp/gradcam/bin/pip install -e .
    /tmp/gradcam/bin/pip install --no-deps grad-cam==1.5.7 ttach
    /tmp/gradcam/bin/python tests/golden/gradcam_maps.py

Networks have the random weights that `weights="none"` always gives; the pictures are drawn flowers. Kept are the maps
before they are enlarged: (n,h,w) float32, for each network and method.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from gradcam_subjects import CLASSES, SUBJECTS, pictures, subject

HERE = Path(__file__).parent / "gradcam_maps.npz"


def _grid(classifier: Any) -> Any:
    network = classifier.backbone.network

    def reshape(tokens: torch.Tensor) -> torch.Tensor:
        patches = tokens[:, network.num_prefix_tokens :]
        rows, columns = network.patch_embed.grid_size
        return patches.reshape(len(patches), rows, columns, -1).permute(0, 3, 1, 2)

    return reshape if classifier.backbone.family == "vit" else None


class _Whole(nn.Module):
    """Normalised pictures -> logits: the package wants float inputs that carry gradients."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.backbone, self.head = classifier.backbone, classifier.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.backbone.blocks:  # the blocks themselves must be called, for the package hooks them
            x = block(x)
        return self.head(self.backbone.pool(x))


def main() -> None:
    from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    methods = {"gradcam": GradCAM, "gradcam++": GradCAMPlusPlus, "layercam": LayerCAM, "eigencam": EigenCAM}
    golden: dict[str, np.ndarray] = {}
    for name, layer in SUBJECTS.items():
        classifier = subject(name)
        names = classifier.backbone.block_names
        block = classifier.backbone.blocks[names.index(layer)]
        inputs = classifier.normalise(torch.from_numpy(pictures(classifier.backbone.spec.size)))
        targets = [ClassifierOutputTarget(row % CLASSES) for row in range(len(inputs))]
        for method, kind in methods.items():
            with kind(
                model=_Whole(classifier).eval(), target_layers=[block], reshape_transform=_grid(classifier)
            ) as cam:
                cam(input_tensor=inputs.clone(), targets=targets)
                found = cam.activations_and_grads
                activation = found.activations[0].numpy()
                if method == "eigencam":  # its sign is arbitrary: kept before negative values are cut off
                    maps = get_2d_projection(activation)
                else:
                    gradient = found.gradients[0].numpy()
                    maps = cam.get_cam_image(inputs, block, targets, activation, gradient, False)
                    maps = np.maximum(maps, 0)
            golden[f"{name}/{method}"] = maps.astype(np.float32)
    np.savez_compressed(HERE, **golden)
    print(HERE, HERE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
