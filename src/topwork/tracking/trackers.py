"""`Trackers`: those that a fit tells. One that fails is left out with one warning; the fit never stops for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from topwork.errors import RecipeError
from topwork.progress import Progress, silent
from topwork.tracking.tracker import End, Opened, Start, Tracker

__all__ = ["Trackers", "epoch_numbers", "final_numbers"]

# Name, which is also the module's -> its class here, and what to install.
_KINDS = {
    "tensorboard": ("TensorBoardTracker", "tensorboard"),
    "mlflow": ("MlflowTracker", "mlflow-skinny"),
    "wandb": ("WandbTracker", "wandb"),
}
_SCORES = {"loss": "loss", "accuracy": "accuracy", "precision": "macro_precision", "recall": "macro_recall"}
_SCORES |= {"f1": "macro_f1"}


def epoch_numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """A line of `history.jsonl` -> curves' names and values.

    Example:
        >>> epoch_numbers({"phase": 2, "epoch": 1, "lr": 0.1, "seconds": 3.0, "train": {"f1": 0.5}, "val": {}})
        {'lr': 0.1, 'progress/phase': 2.0, 'progress/epoch': 1.0, 'progress/seconds': 3.0, 'train/macro_f1': 0.5}
    """
    found = {"lr": float(line["lr"])}
    found |= {f"progress/{name}": float(line[name]) for name in ("phase", "epoch", "seconds")}
    for part in ("train", "val"):
        found |= {f"{part}/{_SCORES[name]}": float(value) for name, value in line[part].items()}
    return found


def final_numbers(part: str, scores: Mapping[str, Any]) -> dict[str, float]:
    """A part of `evaluation.json` -> every measure with its bounds, and how many photos they rest on.

    Example:
        >>> final_numbers("test", {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 60}, "per_class": {}})
        {'test/accuracy': 0.9, 'test/accuracy_low': 0.8, 'test/accuracy_high': 0.95, 'test/photos': 60.0}
    """
    found: dict[str, float] = {}
    for name, interval in scores.items():
        if isinstance(interval, Mapping) and interval.keys() == {"value", "low", "high", "n"}:
            # One level of slashes: MLflow's file store makes a folder of each.
            bounds = {"": "value", "_low": "low", "_high": "high"}
            found |= {f"{part}/{name}{end}": float(interval[key]) for end, key in bounds.items()}
    return found | {f"{part}/photos": float(scores["accuracy"]["n"])}


class Trackers:
    """Those that are still being told.

    Args:
        trackers: by name.
        progress: told of one that fails.

    As a context it tells those that were not finished that the run was broken off.
    """

    def __init__(self, trackers: Mapping[str, Tracker] | None = None, *, progress: Progress = silent) -> None:
        self._waiting = dict(trackers or {})
        self._live: dict[str, Tracker] = {}
        self._progress = progress
        self._step = 0

    @classmethod
    def named(cls, names: Sequence[str] = (), *, progress: Progress = silent) -> Trackers:
        """The trackers that were asked for, and TensorBoard where it is installed. Loads none of them.

        Raises:
            RecipeError: if there is none of that name, or it is not installed.
        """
        for name in names:
            if name not in _KINDS:
                raise RecipeError(f"There is no tracker {name!r}.", fix=f"use one of {', '.join(_KINDS)}.")
            if not _is_installed(name):
                package = _KINDS[name][1]
                raise RecipeError(f"The tracker {name} is not installed.", fix=f"pip install {package}")
        wanted = [name for name in _KINDS if name in names or (name == "tensorboard" and _is_installed(name))]
        return cls({name: _made(name) for name in wanted}, progress=progress)

    def begin(self, start: Start, *, known: Mapping[str, str], history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Open a run in each.

        Args:
            start: the same for all, but for what is known.
            known: name -> identity, from an earlier process of the same run.
            history: lines that are there already; told to those that do not have them.

        Returns:
            Name -> identity; also of those that are not told this time.
        """
        identities = dict(known)
        for name in list(self._waiting):
            tracker = self._waiting.pop(name)
            mine = replace(start, known=known.get(name, ""))
            opened = self._try(name, partial(tracker.begin, mine))
            if opened is not None:
                self._live[name] = tracker
                identities[name] = opened.identity
                if opened.where:
                    self._progress.say(f"{name} follows this run: {opened.where}.")
                if not opened.continued:
                    self._tell(name, history, after=0)
        self._step = len(history)
        return identities

    def epoch(self, line: Mapping[str, Any]) -> None:
        """One more line of the history."""
        for name in list(self._live):
            self._tell(name, [line], after=self._step)
        self._step += 1

    def finish(self, end: End) -> None:
        """The run is complete."""
        for name, tracker in list(self._live.items()):
            self._try(name, partial(tracker.finish, end))
        self._live.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in list(self._live.items()):
            self._try(name, tracker.stop)
        self._live.clear()

    def _tell(self, name: str, lines: Sequence[Mapping[str, Any]], *, after: int) -> None:
        for step, line in enumerate(lines, start=after + 1):
            if name in self._live:
                self._try(name, partial(self._live[name].log, step, epoch_numbers(line)))

    def _try(self, name: str, call: Callable[[], Opened | None]) -> Opened | None:
        try:
            return call()
        except Exception as error:  # other people's code, disks and servers: whatever it is, training is worth more
            self._live.pop(name, None)
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            self._progress.say(
                f"Warning: {name} no longer follows this run ({type(error).__name__}: {reason}). The fit goes on."
            )
            return None


def _is_installed(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.origin is not None  # a folder `wandb`, which W&B makes, has no origin


def _made(name: str) -> Tracker:
    tracker: Tracker = getattr(import_module(f"topwork.tracking.{name}"), _KINDS[name][0])()
    return tracker
