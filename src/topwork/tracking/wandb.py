"""Weights & Biases: a run in whatever mode the user has set (online, offline, disabled). The only door to `wandb`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from topwork.tracking.tracker import End, Opened, Start

__all__ = ["WandbTracker"]


class WandbTracker:
    """Account, mode and folder are the user's own: `wandb login`, `WANDB_MODE`, `WANDB_DIR`."""

    def begin(self, start: Start) -> Opened:
        """A new run, or the known one; offline, W&B cannot look at earlier rows and begins new files."""
        import wandb

        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "topwork",
            name=start.name,
            id=start.known or None,
            resume="allow",
            config=dict(start.parameters),
        )
        where = str(self._run.url or self._run.dir)  # offline there is no page yet
        return Opened(identity=str(self._run.id), continued=bool(self._run.resumed), where=where)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One row; W&B leaves out a row that a continued run has already."""
        self._run.log(dict(numbers), step=step)

    def finish(self, end: End) -> None:
        """Numbers and the model's path as summary, figures as pictures."""
        self._run.log({f"figures/{figure.stem}": self._wandb.Image(str(figure)) for figure in end.figures})
        self._run.summary.update({**end.numbers, "model": str(end.model)})
        self._run.finish(exit_code=0)

    def stop(self) -> None:
        """The run stays, marked as failed."""
        self._run.finish(exit_code=1)
