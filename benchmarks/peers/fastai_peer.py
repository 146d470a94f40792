"""fastai as its book teaches it: `vision_learner` on a timm network, `aug_transforms`, `fine_tune`, defaults."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    vision_learner,
)
from peer_log import Log, Stopwatch, opened
from torch_photos import load_weights


class EpochLog(Callback):
    """Writes every epoch down; epochs before `frozen` are those of the head alone."""

    order = 90  # after the recorder

    def __init__(self, log: Log, plan: dict[str, Any]) -> None:
        self.log, self.plan, self.epochs = log, plan, 0

    def before_epoch(self) -> None:
        self.watch = Stopwatch()

    def after_epoch(self) -> None:
        if not hasattr(self.learn, "recorder") or hasattr(self.learn, "gather_preds"):
            return
        self.epochs += 1
        frozen = self.plan["frozen_epochs"]
        self.log.write(
            "epoch",
            phase="frozen" if self.epochs <= frozen else "fine-tuning",
            epoch=self.epochs if self.epochs <= frozen else self.epochs - frozen,
            val_accuracy=float(self.learn.recorder.values[-1][-1]),
            images=len(self.plan["photos"]["train"]),
            seconds=self.watch.lap(),
        )


def main() -> None:
    """Train, then predict the test part once."""
    plan, log = opened("fastai", "torch", "timm")
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(plan["threads"])
        torch.manual_seed(plan["seed"])
        rows = [(*row, part == "val") for part in ("train", "val") for row in plan["photos"][part]]
        data = ImageDataLoaders.from_df(
            pd.DataFrame(rows, columns=["path", "label", "is_valid"]),
            path=plan["root"],
            valid_col="is_valid",
            item_tfms=Resize(round(plan["size"] / plan["crop"])),
            batch_tfms=[
                *aug_transforms(size=plan["size"], min_scale=0.75),
                Normalize.from_stats(plan["mean"], plan["std"]),
            ],
            bs=min(64, len(plan["photos"]["train"])),
            num_workers=plan["threads"],
        )
        learner = vision_learner(
            data, plan["network"], pretrained=False, normalize=False, metrics=accuracy, path=Path(folder)
        )
        load_weights(learner.model[0].model, plan)
        with learner.no_bar():
            learner.fine_tune(plan["epochs"], freeze_epochs=plan["frozen_epochs"], cbs=EpochLog(log, plan))
            paths = [path for path, _ in plan["photos"]["test"]]
            shares, _ = learner.get_preds(dl=data.test_dl([Path(plan["root"]) / path for path in paths]))
        names = [str(data.vocab[number]) for number in shares.argmax(1).tolist()]
        log.write("test", predicted=dict(zip(paths, names, strict=True)))


if __name__ == "__main__":
    main()
