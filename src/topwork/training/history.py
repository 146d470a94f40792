"""`EpochRecord`: what one epoch did, as one line of `history.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from topwork.measures.metrics import ClassCounts
from topwork.measures.predictions import Predictions

__all__ = ["KERNEL_PHASE", "EpochRecord", "Score", "epoch_losses", "score"]

KERNEL_PHASE = 3
"""Number of the records of a kernel head that is solved on what phase 2 left."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Mean loss in nats, accuracy, and macro averages of precision, recall and F1, each in [0, 1]."""

    loss: float
    accuracy: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch, or one step of a solver's path.

    Args:
        phase: 1 or 2, or `KERNEL_PHASE`.
        epoch: from 1.
        lr: learning rate at the epoch's last step; 0 for a solver.
        seconds: wall time.
        train: on the views that were trained on, while the weights moved; its loss is the training loss.
        val: on the clean view after the epoch; its loss is the NLL.
        kept: whether this is the best epoch of its phase so far, also where the recipe keeps the last one.
        note: what is special about it, may be empty.
    """

    phase: int
    epoch: int
    lr: float
    seconds: float
    train: Score
    val: Score
    kept: bool
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, one line of `history.jsonl`."""
        return asdict(self)


def score(predictions: Predictions, loss: float) -> Score:
    """The scores of predictions beside a loss that was computed elsewhere."""
    counted = ClassCounts.of(predictions.labels, predictions.predicted, classes=len(predictions.classes))
    return Score(
        loss=loss,
        accuracy=float(predictions.correct.mean()),
        precision=float(counted.macro_precision),
        recall=float(counted.macro_recall),
        f1=float(counted.macro_f1),
    )


def epoch_losses(history: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Lines of `history.jsonl` -> phase, e.g. `phase 2` -> validation loss of each epoch, not of a solver's steps."""
    losses: dict[str, list[float]] = {}
    for line in history:
        if not line.get("note"):
            losses.setdefault(f"phase {line['phase']}", []).append(float(line["val"]["loss"]))
    return losses
