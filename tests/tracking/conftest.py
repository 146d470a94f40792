"""A start, a short history and an end, as `fit` gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from topwork.tracking.tracker import End, Start

PARAMETERS = {
    "data.seed": 0,
    "phase2.lr": 0.01,
    "data.mirror": True,
    "phase2.train": "top-3 blocks",
    "data.split": "80/10/10",
}


def line(epoch: int, *, phase: int = 1) -> dict[str, Any]:
    score = {"loss": 1.0 / epoch, "accuracy": 0.5, "precision": 0.4, "recall": 0.3, "f1": 0.2}
    return {"phase": phase, "epoch": epoch, "lr": 0.01, "seconds": 2.0, "train": score, "val": score, "kept": True}


@pytest.fixture
def history() -> list[dict[str, Any]]:
    return [line(1), line(2), line(1, phase=2)]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(name="run-1", folder=tmp_path / "run-1" / "tensorboard", parameters=PARAMETERS)


@pytest.fixture
def end(tmp_path: Path) -> End:
    figure = tmp_path / "confusion_matrix.png"
    Image.new("RGBA", (30, 20), "red").save(figure)
    numbers = {"test/accuracy": 0.9, "test/accuracy_low": 0.8, "test/accuracy_high": 0.95, "test/photos": 60.0}
    return End(numbers=numbers, figures=[figure], model=tmp_path / "run-1" / "model")
