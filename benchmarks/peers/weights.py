"""The weights that all peers of a contest load: a safetensors file under timm's names, checked before it is trusted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from plan import Contest
from safetensors.torch import save_file

from topwork.atomic import atomic_path
from topwork.data.decode import decode
from topwork.data.manifest import Manifest
from topwork.data.view import evaluation_view
from topwork.models.backbone import create_backbone
from topwork.models.classifier import Normalise

__all__ = ["export_weights", "write_feature_check"]


def export_weights(contest: Contest, folder: Path) -> Path | str:
    """The weights of a contest as a safetensors file, or why there are none."""
    if contest.name == "mobilenetv2_100":
        shared = Path(__file__).resolve().parents[3] / "shared" / "weights"
        path = Path(os.environ.get("TOPWORK_TEST_WEIGHTS", shared)) / "mobilenetv2_100.safetensors"
        return path if path.is_file() else f"there is no {path}; TOPWORK_TEST_WEIGHTS names another folder"
    path = folder / f"{contest.timm}.safetensors"
    if not path.exists():
        state = create_backbone(contest.name).network.state_dict()
        with atomic_path(path) as draft:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, draft)
    return path


@torch.inference_mode()
def write_feature_check(path: Path, contest: Contest, *, weights: Path, manifest: Manifest) -> None:
    """Sixteen photos as the network sees them, (N,H,W,3), and the features (N,D) that timm's network gives them."""
    backbone = create_backbone(contest.name, weights=str(weights))
    rows = manifest.rows[:: max(1, len(manifest.rows) // 16)][:16]
    views = [evaluation_view(decode(file).pixels, backbone.spec) for file in manifest.paths(rows)]
    images = Normalise(backbone.spec)(torch.from_numpy(np.stack(views)))  # (N,H,W,3) -> (N,3,H,W)
    np.savez(path, images=images.permute(0, 2, 3, 1).numpy(), features=backbone(images).numpy())
