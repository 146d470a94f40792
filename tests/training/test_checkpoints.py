"""Checkpoints: training that was broken off anywhere goes on to the same bits; a write is whole or did not happen."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from topwork import atomic
from topwork.errors import RecipeError, ResourceError, RunError
from topwork.measures.predictions import Predictions
from topwork.recipe import LossChoice, Phase, StopChoice
from topwork.training import checkpoints as module
from topwork.training.checkpoints import Checkpoints
from topwork.training.history import EpochRecord
from topwork.training.loop import fit_epochs
from topwork.training.loss import make_loss
from topwork.training.task import Task, snapshot

STEPS, EPOCHS = 4, 5
PHASE = Phase(epochs=EPOCHS, lr=0.05, warmup=0.3, weight_decay=0.01, clip_norm=1.0, ema=0.8, mixup=0.4)
STOP = StopChoice(patience=1000)
KINDS: dict[str, dict[str, Any]] = {
    "adamw, one-cycle, average, mixup": {},
    "sgd, cosine": {"optimizer": "sgd", "schedule": "cosine", "ema": 0.0, "mixup": 0.0},
    "adam, step, cutmix asked for": {"optimizer": "adam", "schedule": "step", "cutmix": 1.0},
}


class AsPicture(nn.Module):
    """Points (N,4) -> (N,3,2,2), channels last, as the loop's networks have them."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return points.view(-1, 1, 2, 2).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class Killed(BaseException):
    """The process ends here."""


class Feed:
    """Four shuffled batches an epoch; ends the process before a batch if told to."""

    steps = STEPS

    def __init__(self, kill: tuple[int, int] | None) -> None:
        random = np.random.default_rng(0)
        self.labels = random.integers(3, size=32)
        self.points = torch.from_numpy(random.normal(size=(32, 4)).astype(np.float32))
        self._kill = kill

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        order = np.random.default_rng(number).permutation(32).reshape(STEPS, 8)
        for step in range(start, STEPS):
            if (number, step) == self._kill:
                raise Killed
            yield self.points[order[step]], self.labels[order[step]]


def make_task(kill: tuple[int, int] | None = None) -> Task:
    torch.manual_seed(1)
    layers = nn.Sequential(
        AsPicture(),
        nn.Conv2d(3, 5, 2, padding=1),  # its weights lie in another order in memory than their shape says
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(45, 3),
    ).to(memory_format=torch.channels_last)
    feed = Feed(kill)

    def validate() -> Predictions:
        with torch.no_grad():
            logits = layers(feed.points).numpy()
        return Predictions(logits=logits, labels=feed.labels, paths=("",) * 32, classes=("a", "b", "c"))

    return Task(
        forward=layers,
        module=layers,
        train_mode=layers.train,
        depths=[list(layers[6].parameters()), [*layers[1].parameters(), *layers[2].parameters()]],
        feed=feed,
        loss=make_loss(LossChoice(), np.array([1, 1, 1])),
        validate=validate,
        classes=("a", "b", "c"),
    )


def train(folder: Path | None, phase: Phase, kill: tuple[int, int] | None = None) -> tuple[Task, Checkpoints]:
    task, kept = make_task(kill), Checkpoints(folder)
    for _ in fit_epochs(task, phase, number=2, stop=STOP, checkpoints=kept):
        pass
    return task, kept


def without_seconds(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def same(one: dict[str, torch.Tensor] | None, two: dict[str, torch.Tensor] | None) -> bool:
    assert one is not None
    assert two is not None
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("often", [False, True], ids=["every epoch", "every step"])
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_training_goes_on_to_the_same_bits_from_any_step(
    changes: dict[str, Any], often: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0 if often else 1e9)
    phase = PHASE.model_copy(update=changes)
    whole, memory = train(None, phase)
    for epoch, step in [(1, 1), (2, 0), (3, 2), (5, 3)]:
        folder = tmp_path / f"{epoch}-{step}"
        with pytest.raises(Killed):
            train(folder, phase, kill=(epoch, step))
        torch.manual_seed(99)  # whatever the new process drew before must not matter
        resumed, disk = train(folder, phase)
        assert same(snapshot(resumed.module), snapshot(whole.module))
        assert same(disk.last, memory.last)
        assert without_seconds(disk.history) == without_seconds(memory.history)
        assert len(disk.history) == EPOCHS


def test_a_save_on_the_way_spares_the_steps_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    with pytest.raises(Killed):
        train(tmp_path, PHASE, kill=(2, 3))
    task, first = make_task(), []
    epoch = task.feed.epoch
    task.feed.epoch = lambda number, start=0: first.append((number, start)) or epoch(number, start)  # type: ignore[method-assign,func-returns-value]
    list(fit_epochs(task, PHASE, number=2, stop=STOP, checkpoints=Checkpoints(tmp_path)))
    assert first[0] == (2, 3)


def test_a_finished_phase_is_not_trained_again_and_early_stopping_is_remembered(tmp_path: Path) -> None:
    done, _ = train(tmp_path, PHASE)
    again, kept = train(tmp_path, PHASE, kill=(1, 0))
    assert same(snapshot(again.module), snapshot(done.module))
    assert len(kept.history) == EPOCHS
    impatient = StopChoice(patience=1, metric="accuracy")
    task = make_task()
    phase = PHASE.model_copy(update={"epochs": 50})
    stopped = list(fit_epochs(task, phase, number=2, stop=impatient, checkpoints=Checkpoints(tmp_path / "b")))
    assert len(stopped) < 50
    more = make_task((len(stopped) + 1, 0))
    assert list(fit_epochs(more, phase, number=2, stop=impatient, checkpoints=Checkpoints(tmp_path / "b"))) == []
    assert same(snapshot(more.module), snapshot(task.module))


def test_an_epoch_that_a_pace_took_away_stays_away(tmp_path: Path) -> None:
    def paced(kill: tuple[int, int] | None, folder: Path | None) -> tuple[Task, list[EpochRecord]]:
        task, records = make_task(kill), []
        hurry = fit_epochs(task, PHASE, number=2, stop=STOP, pace=lambda done, n: 3, checkpoints=Checkpoints(folder))
        for record in hurry:
            records.append(record)
        return task, records

    whole, records = paced(None, None)
    assert len(records) == 3
    with pytest.raises(Killed):
        paced((2, 1), tmp_path)
    resumed, _ = paced(None, tmp_path)
    assert same(snapshot(resumed.module), snapshot(whole.module))


def test_only_the_files_that_count_are_left(tmp_path: Path) -> None:
    (tmp_path / ".state-0.safetensors.abc.tmp.safetensors").write_bytes(b"half")
    train(tmp_path, PHASE)
    card = json.loads((tmp_path / "checkpoint.json").read_text())
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.json",
        *(file["name"] for file in card["files"].values()),
    }


@pytest.mark.parametrize("name", ["state", "kept", "checkpoint.json"])
def test_a_full_disk_is_one_clear_error_and_the_checkpoint_before_is_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train(None, PHASE)
    with pytest.raises(Killed):
        train(tmp_path, PHASE, kill=(2, 1))
    real = atomic.os.fsync

    def full(handle: int) -> None:
        if name in Path(f"/proc/self/fd/{handle}").readlink().name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(ResourceError, match="No space left") as caught:
            train(tmp_path, PHASE)
    assert "--resume" in caught.value.fix
    assert str(tmp_path) in caught.value.what
    assert not [path for path in tmp_path.iterdir() if ".tmp" in path.name]
    resumed, kept = train(tmp_path, PHASE)
    assert same(snapshot(resumed.module), snapshot(whole.module))
    assert [record["epoch"] for record in kept.history] == list(range(1, EPOCHS + 1))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(tmp_path, PHASE)
    state = next(tmp_path.glob("state-*"))
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(RunError, match=r"state-\d+\.safetensors is not what was saved"):
        Checkpoints(tmp_path)
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        Checkpoints(tmp_path)


def test_a_loss_that_is_no_number_ends_training_with_a_remedy(tmp_path: Path) -> None:
    task = make_task()
    wild = PHASE.model_copy(update={"optimizer": "sgd", "lr": 1e30, "clip_norm": None, "schedule": "constant"})
    with pytest.raises(RecipeError, match="loss became") as caught:
        list(fit_epochs(task, wild, number=2, stop=STOP))
    assert "lr" in caught.value.fix
