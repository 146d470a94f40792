"""`Measured`: what the log of one run says; and the rows of the table made of them. Knows logs only, runs nothing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from topwork.measures.compare import mcnemar
from topwork.measures.intervals import wilson

__all__ = ["COLUMNS", "PHASES", "Measured", "chosen_variant", "row_of", "summary"]

COLUMNS = (
    "peer",
    "folds",
    "s to validation ≥ T",
    "s in all",
    "test accuracy",
    "paired with topwork",
    "peak memory",
    "images/s frozen",
    "images/s fine-tuning",
)

PHASES = ("frozen", "fine-tuning")


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One finished run of one peer on one fold.

    Args:
        events: of its log, from `start` to `end`.
        truth: path -> label of the fold's test photos.
    """

    events: Sequence[Mapping[str, Any]]
    truth: Mapping[str, str]

    def seconds_to(self, threshold: float) -> float | None:
        """From process start to the first validation accuracy that is high enough; None if none ever was."""
        reached = [event["at"] for event in self._epochs if event["val_accuracy"] >= threshold]
        return min(reached) - self._only("start")["at"] if reached else None

    @property
    def seconds(self) -> float:
        """From process start to its end."""
        return float(self._only("end")["at"] - self._only("start")["at"])

    @property
    def best_validation(self) -> float:
        """Highest validation accuracy of any epoch."""
        return max((float(event["val_accuracy"]) for event in self._epochs), default=0.0)

    @property
    def right(self) -> dict[str, bool]:
        """Path -> whether the prediction is right; a photo without prediction is wrong."""
        predicted = self._only("test")["predicted"]
        return {path: predicted.get(path) == label for path, label in self.truth.items()}

    @property
    def peak_bytes(self) -> int:
        """Of the process and its children, without pages of mapped files."""
        return int(self._only("end")["memory"]["anonymous"])

    def rate(self, phase: str) -> float | None:
        """Images a second in a phase; None where it has none."""
        timed = [event for event in self.events if event.get("phase") == phase and event.get("seconds")]
        return sum(event["images"] for event in timed) / sum(event["seconds"] for event in timed) if timed else None

    @property
    def _epochs(self) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["event"] == "epoch"]

    def _only(self, name: str) -> Mapping[str, Any]:
        return next(event for event in self.events if event["event"] == name)


def chosen_variant(runs: Sequence[Measured]) -> int:
    """Position of the run with the best validation accuracy; the first one of equals."""
    scores = [run.best_validation for run in runs]
    return scores.index(max(scores))


def row_of(name: str, facts: Mapping[str, Any]) -> list[str]:
    """The cells of `COLUMNS` out of a `summary`."""
    accuracy, pair, rates = facts["accuracy"], facts["paired"], facts["images_per_second"]
    return [
        name,
        str(facts["folds"]),
        _reached(facts),
        _with_ratio(facts["seconds"], facts["seconds_ratio"]),
        f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] n={accuracy['n']}",
        "" if pair is None else f"{pair['only_this']} : {pair['only_topwork']} photos, p = {pair['p']:.2g}",
        f"{facts['peak_bytes'] / 1e9:.2f} GB",
        *("none" if rates[phase] is None else f"{rates[phase]:.3g}" for phase in PHASES),
    ]


def summary(runs: Sequence[Measured], *, topwork: Sequence[Measured], threshold: float) -> dict[str, Any]:
    """The figures of one peer over its folds: medians of times and rates, pooled test photos."""
    right = {path: good for run in runs for path, good in run.right.items()}
    reference = {path: good for run in topwork for path, good in run.right.items()}
    reached = [seconds for run in runs if (seconds := run.seconds_to(threshold)) is not None]
    itself = list(runs) == list(topwork)
    only_this = sum(good and not reference[path] for path, good in right.items() if path in reference)
    only_topwork = sum(reference[path] and not good for path, good in right.items() if path in reference)
    return {
        "folds": len(runs),
        "reached": len(reached),
        "seconds_to_threshold": [run.seconds_to(threshold) for run in runs],
        "threshold_ratio": None if itself else _ratio(runs, topwork, lambda run: run.seconds_to(threshold)),
        "seconds": [run.seconds for run in runs],
        "seconds_ratio": None if itself else _ratio(runs, topwork, lambda run: run.seconds),
        "best_validation": [run.best_validation for run in runs],
        "accuracy": wilson(sum(right.values()), len(right)).to_json(),
        "paired": None
        if itself
        else {
            "only_this": only_this,
            "only_topwork": only_topwork,
            "p": mcnemar(only_this, only_topwork),
        },
        "peak_bytes": max(run.peak_bytes for run in runs),
        "images_per_second": {
            phase: statistics.median(rates) if (rates := [r for run in runs if (r := run.rate(phase))]) else None
            for phase in PHASES
        },
        "versions": next((event["versions"] for event in runs[0].events if event["event"] == "versions"), {}),
    }


def _ratio(runs: Sequence[Measured], topwork: Sequence[Measured], seconds: Any) -> float | None:
    """Median over folds of this peer's time over topwork's; None where either has none in some fold."""
    pairs = [(seconds(run), seconds(base)) for run, base in zip(runs, topwork, strict=False)]
    if not pairs or any(mine is None or base is None for mine, base in pairs):
        return None
    return statistics.median(mine / base for mine, base in pairs)


def _reached(facts: Mapping[str, Any]) -> str:
    if not facts["reached"]:
        return "not reached"
    times = [seconds for seconds in facts["seconds_to_threshold"] if seconds is not None]
    text = _with_ratio(times, facts["threshold_ratio"])
    return text if len(times) == facts["folds"] else f"{text}, in {len(times)} of {facts['folds']} folds"


def _with_ratio(seconds: Sequence[float], ratio: float | None) -> str:
    spread = f" ({min(seconds):.0f} to {max(seconds):.0f})" if len(seconds) > 1 else ""
    return f"{statistics.median(seconds):.0f}{spread}" + ("" if ratio is None else f", {ratio:.1f} times topwork's")
