"""Plain PyTorch and timm: one epoch for the head, then the whole network; AdamW, one-cycle, the best epoch is kept."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peer_log import Log, Stopwatch, opened
from torch import nn
from torch.utils.data import DataLoader
from torch_photos import accuracy, loader, network


@torch.inference_mode()
def logits_of(model: nn.Module, batches: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N,K) and labels (N,) of one part."""
    model.eval()
    found = [(model(_last(batch["pixel_values"])), batch["labels"]) for batch in batches]
    return torch.cat([logits for logits, _ in found]), torch.cat([labels for _, labels in found])


def _last(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.contiguous(memory_format=torch.channels_last)


def train(model: nn.Module, plan: dict[str, Any], log: Log) -> None:
    """Both phases; leaves the weights of the best validation epoch in the model."""
    batches, validation = loader(plan, "train", augment=True), loader(plan, "val", augment=False)
    best, kept = -1.0, copy.deepcopy(model.state_dict())
    for phase, epochs, rate in (
        ("frozen", plan["frozen_epochs"], 10 * plan["lr"]),
        ("fine-tuning", plan["epochs"], plan["lr"]),
    ):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(phase == "fine-tuning" or name.startswith("classifier."))
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.05)
        steps = max(1, epochs * len(batches))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps + 1)
        for epoch in range(1, epochs + 1):
            watch = Stopwatch()
            model.train(phase == "fine-tuning")  # the frozen part keeps its BatchNorm statistics
            for batch in batches:
                loss = nn.functional.cross_entropy(
                    model(_last(batch["pixel_values"])), batch["labels"], label_smoothing=0.1
                )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
            score = accuracy(*logits_of(model, validation))
            images = len(plan["photos"]["train"])
            log.write("epoch", phase=phase, epoch=epoch, val_accuracy=score, images=images, seconds=watch.lap())
            if score > best:
                best, kept = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)


def main() -> None:
    """Train, then predict the test part once."""
    plan, log = opened("torch", "torchvision", "timm")
    torch.set_num_threads(plan["threads"])
    torch.manual_seed(plan["seed"])
    model = network(plan, classes=len(plan["classes"])).to(memory_format=torch.channels_last)
    train(model, plan, log)
    logits, _ = logits_of(model, loader(plan, "test", augment=False))
    names = [plan["classes"][number] for number in logits.argmax(1).tolist()]
    paths = [path for path, _ in plan["photos"]["test"]]
    log.write("test", predicted=dict(zip(paths, names, strict=True)))


if __name__ == "__main__":
    main()
