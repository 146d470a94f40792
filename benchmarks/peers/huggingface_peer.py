"""Hugging Face's Trainer on a timm network: the whole network from the first step, AdamW, linear schedule, warm-up."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from peer_log import Log, Stopwatch, opened
from torch import nn
from torch_photos import Photos, network
from transformers import Trainer, TrainerCallback, TrainingArguments


class WithLoss(nn.Module):
    """A network that also gives its loss, as the Trainer wants it."""

    def __init__(self, made: nn.Module) -> None:
        super().__init__()
        self.made = made

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.made(pixel_values)
        found = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)}
        return {**found, "logits": logits}


class EpochLog(TrainerCallback):
    """Writes every epoch down, validation included."""

    def __init__(self, log: Log, plan: dict[str, Any]) -> None:
        self.log, self.plan, self.watch, self.epochs = log, plan, Stopwatch(), 0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.watch.lap()

    def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
        self.epochs += 1
        self.log.write(
            "epoch",
            phase="fine-tuning",
            epoch=self.epochs,
            val_accuracy=metrics["eval_accuracy"],
            images=len(self.plan["photos"]["train"]),
            seconds=self.watch.lap(),
        )


def _accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(found.predictions, axis=1) == found.label_ids).mean())}


def arguments(plan: dict[str, Any], folder: str) -> TrainingArguments:
    """One epoch more than the others fine-tune, since none is frozen."""
    return TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        num_train_epochs=plan["epochs"] + plan["frozen_epochs"],
        per_device_train_batch_size=plan["batch"],
        per_device_eval_batch_size=plan["batch"],
        learning_rate=plan["lr"],
        weight_decay=0.05,
        warmup_steps=0.1,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        save_only_model=True,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        dataloader_num_workers=plan["threads"],
        dataloader_persistent_workers=True,
        disable_tqdm=True,
        report_to=[],
        seed=plan["seed"],
    )


def main() -> None:
    """Train, then predict the test part once."""
    plan, log = opened("transformers", "accelerate", "torch", "timm")
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(plan["threads"])
        trainer = Trainer(
            model=WithLoss(network(plan, classes=len(plan["classes"]))),
            args=arguments(plan, folder),
            train_dataset=Photos(plan, "train", augment=True),
            eval_dataset=Photos(plan, "val", augment=False),
            compute_metrics=_accuracy,
            callbacks=[EpochLog(log, plan)],
        )
        trainer.train()
        logits = trainer.predict(Photos(plan, "test", augment=False)).predictions
        names = [plan["classes"][number] for number in np.argmax(logits, axis=1).tolist()]
        paths = [path for path, _ in plan["photos"]["test"]]
        log.write("test", predicted=dict(zip(paths, names, strict=True)))


if __name__ == "__main__":
    main()
