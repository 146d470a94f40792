"""Photos and the network for the peers on PyTorch: torchvision transforms, a DataLoader, timm, given weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Photos(Dataset):
    """Pictures (3,H,W) and labels of one part, as a dict with the names that Hugging Face's Trainer expects."""

    def __init__(self, plan: dict[str, Any], part: str, *, augment: bool) -> None:
        self.rows = plan["photos"][part]
        self._root = Path(plan["root"])
        self._number = {name: number for number, name in enumerate(plan["classes"])}
        self._transform = _augmenting(plan) if augment else _plain(plan)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self.rows[index]
        with Image.open(self._root / path) as picture:
            pixels = self._transform(picture.convert("RGB"))
        return {"pixel_values": pixels, "labels": self._number[label]}


def _plain(plan: dict[str, Any]) -> Any:
    size = plan["size"]
    return transforms.Compose(
        [
            transforms.Resize(round(size / plan["crop"]), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(plan["mean"], plan["std"]),
        ]
    )


def _augmenting(plan: dict[str, Any]) -> Any:
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(plan["size"], scale=(0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize(plan["mean"], plan["std"]),
        ]
    )


def loader(plan: dict[str, Any], part: str, *, augment: bool) -> DataLoader:
    """Batches of one part, decoded by as many processes as there are cores."""
    workers = plan["threads"]
    return DataLoader(
        Photos(plan, part, augment=augment),
        batch_size=plan["batch"],
        shuffle=augment,
        drop_last=augment and len(plan["photos"][part]) > plan["batch"],  # a last batch of one breaks BatchNorm
        num_workers=workers,
        persistent_workers=True,
    )


def network(plan: dict[str, Any], *, classes: int) -> nn.Module:
    """The timm network with the weights of the plan; only a classifier, if asked for, keeps its random start."""
    made = timm.create_model(plan["network"], num_classes=classes)
    load_weights(made, plan)
    return made


def load_weights(made: nn.Module, plan: dict[str, Any]) -> None:
    """Load strictly: nothing but the classifier may be missing, nothing may be left over."""
    missing, left_over = made.load_state_dict(load_file(plan["weights"]), strict=False)
    wrong = [name for name in missing if not name.startswith("classifier.")] + list(left_over)
    if wrong:
        raise SystemExit(f"The weights {plan['weights']} do not fit {plan['network']}: {wrong[:3]}")


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right predictions of logits (N,K)."""
    return float((logits.argmax(1) == labels).float().mean())
