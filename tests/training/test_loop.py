"""The loop on a linear task of six numbers: what is kept, when it ends, and that a seed says it all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from topwork.measures.predictions import Predictions
from topwork.recipe import LossChoice, Phase, StopChoice
from topwork.training.course import Better, Course
from topwork.training.history import EpochRecord
from topwork.training.loop import fit_epochs
from topwork.training.loss import make_loss
from topwork.training.task import Task

CLASSES = ("a", "b", "c")
PHASE = Phase(epochs=4, batch_size=8, lr=0.05, schedule="constant", weight_decay=0.0)
PATIENT = StopChoice(patience=1000)


class Blobs:
    """A feed of three blobs of points, the same batches for the same epoch."""

    steps = 6

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.labels = random.integers(3, size=48)
        self.points = (random.normal(size=(3, 2))[self.labels] * 2 + random.normal(size=(48, 2))).astype(np.float32)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        order = np.random.default_rng(number).permutation(48)
        for first in range(8 * start, 48, 8):
            chosen = order[first : first + 8]
            yield torch.from_numpy(self.points[chosen]), self.labels[chosen]


def make_task(
    *, dropout: float = 0.0, seed: int = 0, validate: Callable[[nn.Module], Predictions] | None = None
) -> Task:
    torch.manual_seed(1)
    feed, module = Blobs(), nn.Sequential(nn.Dropout(dropout), nn.Linear(2, 3))

    def honest(module: nn.Module) -> Predictions:
        assert not module.training
        with torch.no_grad():
            logits = module(torch.from_numpy(feed.points)).numpy()
        return Predictions(logits=logits, labels=feed.labels, paths=("",) * 48, classes=CLASSES)

    judge = validate or honest
    return Task(
        forward=module,
        module=module,
        train_mode=module.train,
        depths=[list(module.parameters())],
        feed=feed,
        loss=make_loss(LossChoice(), np.array([1, 1, 1])),
        validate=lambda: judge(module),
        classes=CLASSES,
        seed=seed,
    )


def scripted(hits: list[int]) -> tuple[Callable[[nn.Module], Predictions], list[dict[str, torch.Tensor]]]:
    """A judge that gives so many hits of 9 in each epoch, and the weights it saw."""
    seen: list[dict[str, torch.Tensor]] = []

    def judge(module: nn.Module) -> Predictions:
        labels = np.arange(9) % 3
        said = np.where(np.arange(9) < hits[len(seen)], labels, (labels + 1) % 3)
        seen.append({name: value.clone() for name, value in module.state_dict().items()})
        return Predictions(logits=4.0 * np.eye(3)[said], labels=labels, paths=("",) * 9, classes=CLASSES)

    return judge, seen


def run(task: Task, phase: Phase = PHASE, stop: StopChoice = PATIENT) -> list[EpochRecord]:
    return list(fit_epochs(task, phase, number=1, stop=stop))


def same(module: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def test_training_learns_and_the_records_say_so() -> None:
    records = run(make_task(), PHASE.model_copy(update={"epochs": 20}))
    assert [record.epoch for record in records] == list(range(1, 21))
    assert records[-1].val.loss < 0.7 * records[0].val.loss
    assert records[-1].train.loss < records[0].train.loss
    assert records[-1].val.accuracy > 0.7


def test_the_best_epoch_is_restored() -> None:
    judge, seen = scripted([3, 7, 5, 6])
    task = make_task(validate=judge)
    records = run(task)
    assert [record.kept for record in records] == [True, True, False, False]
    assert same(task.module, seen[1])
    assert not same(task.module, seen[3])
    assert not task.module.training


def test_the_last_epoch_is_kept_where_the_recipe_says_so() -> None:
    judge, seen = scripted([3, 7, 5, 6])
    task = make_task(validate=judge)
    run(task, stop=StopChoice(patience=1000, keep="last"))
    assert same(task.module, seen[3])


def test_training_stops_when_patience_is_at_its_end() -> None:
    judge, seen = scripted([3, 5, 4, 5, 9, 9])  # an equal result is no improvement
    task = make_task(validate=judge)
    records = run(task, PHASE.model_copy(update={"epochs": 6}), StopChoice(patience=2))
    assert len(records) == len(seen) == 4
    assert same(task.module, seen[1])


def test_an_improvement_renews_patience_and_ties_go_to_the_lower_loss() -> None:
    better = Better(StopChoice(patience=2))
    told = [better.improved(metric, loss) for metric, loss in [(0.5, 1.0), (0.5, 1.0), (0.5, 0.9), (0.4, 0.1)]]
    assert told == [True, False, True, False]
    assert not better.exhausted
    assert not better.improved(0.5, 0.95)
    assert better.exhausted


def test_the_metric_is_the_recipes() -> None:
    """Accuracy falls from the first epoch to the second while macro-F1 rises."""

    def judge_for(stop: StopChoice) -> list[bool]:
        labels = np.array([0] * 8 + [1, 2])
        said = iter([np.zeros(10, int), np.array([0] * 5 + [1, 1, 2, 1, 2])])

        def judge(module: nn.Module) -> Predictions:
            return Predictions(logits=np.eye(3)[next(said)], labels=labels, paths=("",) * 10, classes=CLASSES)

        records = run(make_task(validate=judge), PHASE.model_copy(update={"epochs": 2}), stop)
        return [record.kept for record in records]

    assert judge_for(StopChoice(metric="accuracy")) == [True, False]
    assert judge_for(StopChoice(metric="macro_f1")) == [True, True]


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4}, {"optimizer": "sgd"}, {"ema": 0.9, "clip_norm": 1.0}])
def test_a_seed_gives_the_same_weights_and_records(changes: dict[str, Any]) -> None:
    phase = PHASE.model_copy(update=changes)
    first, second = make_task(dropout=0.3), make_task(dropout=0.3)
    records = []
    for task, noise in ((first, 5), (second, 6)):
        torch.manual_seed(noise)  # what ran before must not matter
        records.append([(record.train, record.val, record.lr, record.kept) for record in run(task, phase)])
    assert records[0] == records[1]
    assert same(first.module, dict(second.module.state_dict()))
    other = make_task(dropout=0.3, seed=1)
    run(other, phase)
    assert not same(other.module, dict(first.module.state_dict()))


def test_what_is_judged_and_kept_is_the_moving_average() -> None:
    """The recursion written out: a_t = k a + (1 - k) w with k = min(decay, (1 + t) / (10 + t))."""
    decay, trail = 0.5, []
    task = make_task()
    weights = [p.detach().clone() for p in task.module.parameters()]
    average = [w.double() for w in weights]

    def follow(loss_of: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            trail.append([p.detach().clone().double() for p in task.module.parameters()])  # before this step
            return loss_of(logits, targets)

        return loss

    object.__setattr__(task, "loss", follow(task.loss))
    generator = fit_epochs(task, PHASE.model_copy(update={"epochs": 2, "ema": decay}), number=1, stop=PATIENT)
    next(generator)
    live = [p.detach().clone().double() for p in task.module.parameters()]
    generator.close()
    for step, now in enumerate([*trail[1:], live], start=1):
        keep = min(decay, (1 + step) / (10 + step))
        average = [keep * a + (1 - keep) * w for a, w in zip(average, now, strict=True)]
    for found, expected, raw in zip(task.module.parameters(), average, live, strict=True):
        torch.testing.assert_close(found.detach().double(), expected, rtol=1e-5, atol=1e-6)
        assert float((found.detach() - raw).abs().max()) > 1e-3


def test_running_statistics_are_averaged_with_the_weights_they_belong_to() -> None:
    norm = nn.BatchNorm1d(2)
    module = nn.Sequential(norm, nn.Linear(2, 3))
    depths = [list(module[1].parameters()), list(norm.parameters())]
    task = replace(make_task(), forward=module, module=module, train_mode=module.train, depths=depths)
    course = Course(task, PHASE.model_copy(update={"ema": 0.99}), number=1, stop=PATIENT)
    assert norm.running_mean is not None
    norm.running_mean.fill_(1.0)
    course.end_step()
    with course.averaged():
        # from 0, of which the first step keeps (1 + 1) / (10 + 1)
        torch.testing.assert_close(norm.running_mean, torch.full((2,), 1 - 2 / 11))
    assert norm.running_mean.tolist() == [1.0, 1.0]


def test_the_first_epoch_is_kept_even_where_it_is_worse_than_the_start() -> None:
    judge, seen = scripted([0, 0])
    task = make_task(validate=judge)
    run(task, PHASE.model_copy(update={"epochs": 2}))
    assert same(task.module, seen[0])


@pytest.mark.parametrize("where", ["feed", "validation"])
def test_an_interrupt_leaves_the_best_weights_so_far(where: str) -> None:
    judge, seen = scripted([7, 5, 6])

    def validate(module: nn.Module) -> Predictions:
        if where == "validation" and len(seen) == 2:
            raise KeyboardInterrupt
        return judge(module)

    task = make_task(validate=validate)
    epoch = task.feed.epoch

    def interrupted(number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        for step, batch in enumerate(epoch(number, start)):
            if where == "feed" and (number, step) == (3, 2):
                raise KeyboardInterrupt
            yield batch

    task.feed.epoch = interrupted
    records = []
    with pytest.raises(KeyboardInterrupt):
        records.extend(fit_epochs(task, PHASE.model_copy(update={"ema": 0.9}), number=1, stop=PATIENT))
    assert len(seen) == 2
    assert same(task.module, seen[0])
    assert not task.module.training


def test_closing_early_keeps_the_best_so_far() -> None:
    judge, seen = scripted([7, 5, 6])
    task = make_task(validate=judge)
    generator = fit_epochs(task, PHASE, number=1, stop=PATIENT)
    next(generator)
    next(generator)
    generator.close()
    assert same(task.module, seen[0])


def test_frozen_weights_do_not_move_and_clipping_bounds_a_step() -> None:
    task = make_task()
    linear = task.module[1]
    linear.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    phase = PHASE.model_copy(update={"optimizer": "sgd", "momentum": 0.0, "clip_norm": 1e-3, "lr": 1.0, "epochs": 1})
    run(task, phase, StopChoice(keep="last"))
    assert torch.equal(linear.bias, before["1.bias"])
    moved = float((linear.weight.detach() - before["1.weight"]).norm())
    assert 0 < moved <= 6 * 1e-3 * 1.001  # six steps, each at most the clipped norm


def test_the_rate_follows_the_schedule() -> None:
    records = run(make_task(), PHASE.model_copy(update={"schedule": "step", "epochs": 3}))
    assert [record.lr for record in records] == pytest.approx([0.05, 0.005, 0.0005])


def test_bfloat16_passes_train_float32_weights() -> None:
    task = make_task()
    object.__setattr__(task, "bf16", True)
    records = run(task, PHASE.model_copy(update={"epochs": 10}))
    assert records[-1].val.loss < records[0].val.loss
    assert all(p.dtype == torch.float32 for p in task.module.parameters())


def test_a_pace_takes_epochs_away_and_the_last_one_still_anneals() -> None:
    phase = PHASE.model_copy(update={"epochs": 8, "schedule": "cosine", "warmup": 0.0})
    asked: list[tuple[int, int]] = []

    def pace(done: int, planned: int) -> int:
        asked.append((done, planned))
        return 4 if done >= 2 else planned

    hurried = list(fit_epochs(make_task(), phase, number=1, stop=PATIENT, pace=pace))
    assert asked == [(1, 8), (2, 8), (3, 4), (4, 4)]
    assert hurried[-1].lr == pytest.approx(run(make_task(), phase)[-1].lr)
    recorded = phase.model_copy(update={"replanned": ((2, 4),)})
    assert [(r.lr, r.val) for r in run(make_task(), recorded)] == [(r.lr, r.val) for r in hurried]
