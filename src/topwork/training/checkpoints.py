"""`Checkpoints`: where training stands, on disk, replaced whole or not at all.

    checkpoint.json                what counts: names the tensor files with their digests, holds plain state and history
    state-NUMBER.safetensors       weights, optimizer, moving average, random states, what the running epoch saw
    kept-PHASE-EPOCH.safetensors   the weights that the recipe keeps so far; those of the phase before stay

Tensor files are written under new names first; the JSON is replaced after them, in one step. A process that is killed
at any moment leaves the earlier checkpoint or the new one. Knows nothing of run folders.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from topwork.atomic import atomic_path, write_json
from topwork.digest import file_sha256
from topwork.errors import ResourceError, RunError
from topwork.training.course import Saved
from topwork.training.history import EpochRecord
from topwork.training.task import Weights

__all__ = ["SECONDS", "Checkpoints"]

SECONDS = 30.0
"""A long epoch is saved on the way, at the first step that ends so many seconds after the last checkpoint."""

_CARD = "checkpoint.json"
_FORMAT = 2


class Checkpoints:
    """The place that training is saved in and goes on from.

    Args:
        folder: made on the first save; None keeps nothing on disk.

    Attributes:
        history: records of all epochs so far as plain values, those of an earlier process included.
        last: weights of a phase's last epoch once `fit_epochs` has ended; None before.
        earlier: the weights that phase 1 ended with, where an earlier process saved phase 2; else None.

    Raises:
        RunError: if the folder holds a checkpoint that is damaged.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.history: list[dict[str, Any]] = []
        self.last: Weights | None = None
        self.earlier: Weights | None = None
        self._saved: Saved | None = None
        self._files: dict[str, dict[str, str]] = {}
        self._files_phase = 0
        self._number = 0
        self._time = time.monotonic()
        if folder is not None and (folder / _CARD).exists():
            self._read(folder)

    @property
    def phase(self) -> int:
        """The phase that training stands in; 0 before anything was saved."""
        return self._saved.phase if self._saved else 0

    def of(self, phase: int) -> Saved | None:
        """What an earlier process saved of a phase."""
        return self._saved if self.phase == phase else None

    def due(self) -> bool:
        """Whether the last save was long ago."""
        return self._folder is not None and time.monotonic() - self._time >= SECONDS

    def save(self, saved: Saved, *records: EpochRecord) -> None:
        """Replace the checkpoint.

        Args:
            saved: where training stands.
            records: epochs that ended since the last save.

        Raises:
            ResourceError: if the disk is full or refuses; the checkpoint before is whole.
        """
        self.history += [record.to_json() for record in records]
        if self._folder is None:
            return
        try:
            self._write(self._folder, saved)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ResourceError(
                f"The checkpoint in {self._folder} cannot be written: {reason}.",
                fix="free some space on that disk; then the same command with --resume goes on from the one before.",
            ) from None
        self._time = time.monotonic()

    def _write(self, folder: Path, saved: Saved) -> None:
        self._number += 1
        kept, earlier = f"kept-{saved.phase}-{saved.kept_epoch}.safetensors", self._files.get("kept")
        files = {
            "state": _written(folder / f"state-{self._number}.safetensors", saved.state),
            "kept": earlier if earlier and earlier["name"] == kept else _written(folder / kept, saved.kept),
        }
        if before := self._files.get("kept" if 0 < self._files_phase < saved.phase else "earlier"):
            files["earlier"] = before
        card = {
            "format": _FORMAT,
            "number": self._number,
            "phase": saved.phase,
            "kept_epoch": saved.kept_epoch,
            "facts": dict(saved.facts),
            "files": files,
            "history": self.history,
        }
        write_json(folder / _CARD, card)
        self._files, self._files_phase = files, saved.phase
        counting = {_CARD, *(file["name"] for file in files.values())}
        for path in folder.iterdir():  # also what a killed process left half written
            if path.name not in counting:
                path.unlink(missing_ok=True)

    def _read(self, folder: Path) -> None:
        try:
            card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            if card["format"] != _FORMAT:
                raise ValueError(f"its format is {card['format']}, not {_FORMAT}")
            state, kept = (_loaded(folder, card["files"][name]) for name in ("state", "kept"))
            self._saved = Saved(
                phase=card["phase"], facts=card["facts"], state=state, kept=kept, kept_epoch=card["kept_epoch"]
            )
            self.earlier = _loaded(folder, card["files"]["earlier"]) if "earlier" in card["files"] else None
            self._number, self._files, self.history = card["number"], card["files"], list(card["history"])
            self._files_phase = card["phase"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RunError(
                f"The checkpoint in {folder} cannot be read: {error}.", fix="start again without --resume."
            ) from None


def _written(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Name and digest of a new file with these tensors."""
    with atomic_path(path) as draft:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, draft)
    return {"name": path.name, "sha256": file_sha256(path)}


def _loaded(folder: Path, file: Mapping[str, str]) -> Weights:
    path = folder / Path(file["name"]).name
    if file_sha256(path) != file["sha256"]:
        raise ValueError(f"{path.name} is not what was saved")
    return dict(load_file(path))
