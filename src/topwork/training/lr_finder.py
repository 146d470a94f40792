"""The learning-rate range test: a short training at rising rates, and what it says. Leaves everything as it was.

Source: L. N. Smith (2017), Cyclical learning rates for training neural networks, arXiv:1506.01186. The names of the
suggestions are fastai's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topwork.digest import seed_from
from topwork.errors import RecipeError
from topwork.progress import Progress, silent
from topwork.recipe import Phase
from topwork.training.loop import gradient_step
from topwork.training.optimizer import make_optimizer, parameter_groups
from topwork.training.task import Task

__all__ = ["LrCurve", "RangeTest", "range_test", "steepest", "valley"]

_MEMORY = 0.9  # of the running mean of the loss
_WORSE = 4.0  # the test ends where the smoothed loss exceeds so many times its lowest value
_FEWEST = 10  # points that a suggestion needs
_TAIL = 5  # points of an explosion that are left out


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """Which rates are tried.

    Args:
        low, high: first and last rate, 0 < low < high; the steps between are equal factors.
        steps: batches that are trained on, >= 20; epochs are begun again as needed.

    Raises:
        RecipeError: if they are not as stated.
    """

    low: float = 1e-6
    high: float = 10.0
    steps: int = 100

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high < math.inf):
            raise RecipeError(
                f"The rates of a range test must rise from above 0. Got {self.low:g} to {self.high:g}.",
                fix="give e.g. --low 1e-6 --high 10.",
            )
        if self.steps < 2 * _FEWEST:
            raise RecipeError(
                f"A range test must have at least {2 * _FEWEST} steps. Got {self.steps}.", fix="give --steps 100."
            )

    def rate(self, step: int) -> float:
        """Of a step, counted from 0: low * (high / low) ** (step / (steps - 1))."""
        return float(self.low * (self.high / self.low) ** (step / (self.steps - 1)))


@dataclass(frozen=True, kw_only=True)
class LrCurve:
    """What a range test saw.

    Args:
        phase: 1 or 2.
        rates: learning rate of each step, rising.
        losses: training loss of each step's batch, before the step.
        smoothed: running mean of the losses, with the bias of the first steps taken out.
        steepest: where the smoothed loss falls fastest against the logarithm of the rate.
        valley: the middle of the longest fall of the smoothed loss.
        diverged: whether the test ended early because the loss exploded.
    """

    phase: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    valley: float
    diverged: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values: `lr_finder.json`."""
        kept = asdict(self)
        suggestions = {name: kept.pop(name) for name in ("steepest", "valley")}
        return {**kept, "suggestions": suggestions}


def range_test(
    task: Task, phase: Phase, *, number: int, test: RangeTest | None = None, progress: Progress = silent
) -> LrCurve:
    """Train through rising rates and suggest one.

    Weights, running statistics, gradients, training modes and the random states of torch, NumPy and Python are the
    same afterwards, to the bit. The optimizer of the test is its own.

    Args:
        task: what is trained.
        phase: gives optimizer, decay, clipping, mixing; blocks below the head learn at their `layer_decay` of the rate.
        number: 1 or 2, for the record.
        test: which rates.
        progress: told how far it is.

    Raises:
        RecipeError: if the loss explodes before there is anything to see.
    """
    test = test or RangeTest()
    with _untouched(task):
        rates, losses = _run(task, phase, test=test, progress=progress)
    smoothed = _smoothed(losses)
    if len(rates) < _FEWEST:
        raise RecipeError(
            f"The loss explodes within {len(rates)} steps, at rate {rates[-1]:.2g}; there is no curve to read.",
            fix=f"begin lower, e.g. --low {test.low / 1000:.1g}.",
        )
    diverged = len(rates) < test.steps
    # As in fastai: the first tenth has hardly a mean yet, and the last points of an explosion say nothing.
    useful = slice(len(rates) // 10, len(rates) - (_TAIL if diverged else 0))
    return LrCurve(
        phase=number,
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        steepest=steepest(rates[useful], smoothed[useful]),
        valley=valley(rates[useful], smoothed[useful]),
        diverged=diverged,
    )


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate, in the units of `rates`, at which d loss / d log(rate) is lowest on the way to the lowest loss.

    What falls again behind the lowest point is an explosion that swings.

    Args:
        rates: rising, > 0.
        losses: as many, finite.

    Example:
        >>> steepest([0.01, 0.1, 1.0, 10.0], [3.0, 2.9, 1.0, 0.9])
        0.1
    """
    end = max(2, int(np.argmin(losses)) + 1)
    slopes = np.diff(np.asarray(losses[:end])) / np.diff(np.log(rates[:end]))
    return float(rates[int(np.argmin(slopes))])


def valley(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate in the middle of the longest falling subsequence of the losses.

    Of subsequences of equal length the one that ends first counts.

    Args:
        rates: rising, > 0.
        losses: as many, finite.

    Example:
        >>> valley([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [5.0, 4.0, 3.0, 9.0, 9.5])
        0.001
    """
    values = np.asarray(losses)
    lengths = np.ones(len(values), dtype=np.int64)  # of the longest fall that ends here
    starts = np.arange(len(values))
    for end in range(1, len(values)):
        above = np.flatnonzero(values[:end] > values[end])
        if len(above):
            before = above[int(np.argmax(lengths[above]))]
            lengths[end], starts[end] = lengths[before] + 1, starts[before]
    end = int(np.argmax(lengths))
    return float(rates[(int(starts[end]) + end) // 2])


def _run(task: Task, phase: Phase, *, test: RangeTest, progress: Progress) -> tuple[list[float], list[float]]:
    optimizer = make_optimizer(phase, parameter_groups(phase, task.depths))
    chance = np.random.default_rng(seed_from("lr finder", task.seed))
    torch.manual_seed(seed_from("lr finder", task.seed))
    if task.begin is not None:
        task.begin(1)  # a gradual plan opens no more than the top block then
    task.train_mode()
    progress.step("learning rates", 0, test.steps)
    rates: list[float] = []
    losses: list[float] = []
    with closing(_endless(task)) as batches:
        for step, (inputs, labels) in zip(range(test.steps), batches, strict=False):
            rate = test.rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["peak"] / phase.lr
            _, loss = gradient_step(task, phase, inputs=inputs, labels=labels, optimizer=optimizer, random=chance)
            if not math.isfinite(loss):
                break
            rates.append(rate)
            losses.append(loss)
            progress.step("learning rates", step + 1, test.steps)
            smoothed = _smoothed(losses)
            if smoothed[-1] > _WORSE * min(smoothed):
                break
    return rates, losses


def _endless(task: Task) -> Generator[tuple[torch.Tensor, npt.NDArray[np.int64]], None, None]:
    epoch = 0
    while True:
        epoch += 1
        yield from task.feed.epoch(epoch)


def _smoothed(losses: Sequence[float]) -> list[float]:
    """m_t = b m_(t-1) + (1 - b) loss_t, divided by 1 - b ** t."""
    mean, found = 0.0, []
    for count, loss in enumerate(losses, start=1):
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        found.append(mean / (1 - _MEMORY**count))
    return found


@contextmanager
def _untouched(task: Task) -> Iterator[None]:
    """Whatever happens inside, the module and all sources of chance are as before."""
    module = task.module
    tensors = {name: value.detach().clone() for name, value in module.state_dict(keep_vars=True).items()}
    gradients = {name: p.grad for name, p in module.named_parameters()}
    learning = {name: p.requires_grad for name, p in module.named_parameters()}
    modes = {name: part.training for name, part in module.named_modules()}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for p in module.parameters():
        p.grad = None  # what is there is put aside, not added to
    try:
        yield
    finally:
        module.load_state_dict(tensors)
        for name, p in module.named_parameters():
            p.requires_grad_(learning[name])
            p.grad = gradients[name]
        for name, part in module.named_modules():
            part.training = modes[name]
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
