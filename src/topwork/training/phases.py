"""What the phases train: a head on cached features, the top from cached activations or pictures. Knows no files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from topwork.errors import RecipeError
from topwork.measures.calibration import nll_terms
from topwork.measures.predictions import Predictions
from topwork.models.head import build_head
from topwork.recipe import Recipe
from topwork.training.checkpoints import Checkpoints
from topwork.training.course import Saved
from topwork.training.feeds import CachedFeed, Feed, Order, read_rows
from topwork.training.heap import heap_kept
from topwork.training.history import EpochRecord, score
from topwork.training.loop import Pace, fit_epochs
from topwork.training.loss import FOCUS, class_weights, logit_shift, make_loss, sampling_weights
from topwork.training.parts import Labelled, Parts, Views
from topwork.training.solver import L2_PATH, LinearHead, Rows, feature_scale, solve_head
from topwork.training.task import Task, snapshot

if TYPE_CHECKING:
    from topwork.models.classifier import Classifier
    from topwork.models.freeze import FreezePlan

__all__ = [
    "check_solver",
    "head_task",
    "new_head",
    "predict_rows",
    "seconds_of_a_pass",
    "solve_path",
    "top_task",
    "train_head",
]

_BATCH = 64  # rows of one forward pass without gradients: the top makes many times its input of them


def predict_rows(
    forward: Callable[[torch.Tensor], torch.Tensor], views: Views, *, part: Labelled, classes: tuple[str, ...]
) -> Predictions:
    """Predictions on the clean views of a part, their logits averaged; a bounded number of rows at a time."""
    mapped, logits = views.clean.mapped(), np.zeros((len(part), len(classes)))
    with torch.inference_mode(), heap_kept():
        for view in views.judged:
            rows = part.rows(views.clean, view)
            for start in range(0, len(rows), _BATCH):
                chunk = slice(start, start + _BATCH)
                logits[chunk] += forward(read_rows(mapped, rows[chunk])).double().numpy() / len(views.judged)
    return Predictions(logits=logits, labels=part.labels, paths=part.paths, classes=classes)


def new_head(recipe: Recipe, *, width: int, classes: int) -> torch.nn.Sequential:
    """The head as it is before training, a linear one even where a kernel follows: the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.data.seed)
        linear = recipe.head.model_copy(update={"kind": "linear"})
        head = build_head(linear, width=width, classes=classes)
    assert isinstance(head, torch.nn.Sequential), "linear heads are sequences of layers"
    return head


def train_head(
    recipe: Recipe,
    pooled: Views,
    *,
    parts: Parts,
    on_epoch: Callable[[EpochRecord], None],
    checkpoints: Checkpoints | None = None,
    pace: Pace | None = None,
) -> torch.nn.Sequential:
    """Phase 1: pooled features (N,D) -> a trained head.

    Where the checkpoints are of phase 2, the head is the one that phase 1 ended with.

    Raises:
        RecipeError: if the phase's choices do not fit each other.
    """
    head = _fresh_head(recipe, pooled, classes=len(parts.classes))
    checkpoints = checkpoints or Checkpoints()
    if checkpoints.earlier is not None:
        head.load_state_dict(checkpoints.earlier)
        return head
    if recipe.phase1.optimizer == "lbfgs":
        _solve(recipe, pooled, parts=parts, head=head, on_epoch=on_epoch, checkpoints=checkpoints)
        return head
    task = head_task(recipe, pooled, parts=parts, head=head)
    for record in fit_epochs(task, recipe.phase1, number=1, stop=recipe.stop, pace=pace, checkpoints=checkpoints):
        on_epoch(record)
    return head


def check_solver(recipe: Recipe) -> None:
    """Refuse what 'lbfgs' cannot do, before any work.

    Args:
        recipe: whose phase 1 trains a linear head.

    Raises:
        RecipeError: if it solves a head that has hidden layers or dropout.
    """
    if recipe.phase1.optimizer == "lbfgs" and (recipe.head.hidden or recipe.head.dropout):
        raise RecipeError(
            "The optimizer 'lbfgs' solves a linear head; this recipe's head has hidden layers or dropout.",
            fix="add --set phase1.optimizer=adamw, or leave head.hidden and head.dropout out.",
        )


def _solve(
    recipe: Recipe,
    pooled: Views,
    *,
    parts: Parts,
    head: torch.nn.Sequential,
    on_epoch: Callable[[EpochRecord], None],
    checkpoints: Checkpoints,
) -> None:
    if (saved := checkpoints.of(1)) is not None:
        head.load_state_dict(saved.kept)
        return
    records = []
    for record in solve_path(recipe, pooled, parts=parts, head=head):
        records.append(record)
        on_epoch(record)
    solved = Saved(phase=1, facts={}, state={}, kept=snapshot(head), kept_epoch=len(records))
    checkpoints.save(solved, *records)


def _fresh_head(recipe: Recipe, pooled: Views, *, classes: int) -> torch.nn.Sequential:
    shape = pooled.clean.shape
    assert shape is not None, "features are extracted before the head is trained"
    return new_head(recipe, width=shape[0], classes=classes)


def head_task(recipe: Recipe, pooled: Views, *, parts: Parts, head: torch.nn.Sequential | None = None) -> Task:
    """Phase 1 in epochs: pooled features -> the head; a new one where none is given.

    Raises:
        RecipeError: if the recipe solves the head instead.
    """
    if recipe.phase1.optimizer == "lbfgs":
        raise RecipeError(
            "Phase 1 of this recipe is solved by 'lbfgs', which has no learning rate.",
            fix="add --set phase1.optimizer=adamw, or look at phase 2.",
        )
    head = _fresh_head(recipe, pooled, classes=len(parts.classes)) if head is None else head
    train, judged, classes = parts.train, parts.judged, parts.classes
    store, rows = pooled.training(train)
    draw = sampling_weights(recipe.loss, train.labels)
    order = Order(photos=len(train), batch=recipe.phase1.batch_size, seed=recipe.data.seed, draw=draw)

    def train_mode() -> None:
        head.train()

    return Task(
        forward=head,
        module=head,
        train_mode=train_mode,
        depths=[list(head.parameters())],
        feed=CachedFeed(store, rows, labels=train.labels, order=order),
        loss=make_loss(recipe.loss, parts.counts),
        validate=lambda: predict_rows(head, pooled, part=judged, classes=classes),
        classes=classes,
        seed=recipe.data.seed,
    )


def solve_path(
    recipe: Recipe,
    pooled: Views,
    *,
    parts: Parts,
    head: torch.nn.Sequential,
) -> Iterator[EpochRecord]:
    """Solve for each L2 strength, strongest first, and leave the one with the lowest validation NLL in the head."""
    train, judged, classes = parts.train, parts.judged, parts.classes
    data = _rows_of(pooled, parts, recipe=recipe)
    scale = feature_scale(data)
    strengths = L2_PATH if recipe.phase1.weight_decay is None else (recipe.phase1.weight_decay,)
    solution: LinearHead | None = None
    lowest = np.inf
    for number, l2 in enumerate(strengths, start=1):
        started = time.perf_counter()
        solution = solve_head(
            data, scale, classes=len(classes), l2=l2, smoothing=recipe.loss.label_smoothing, start=solution
        )
        forward = _linear(solution)
        val = predict_rows(forward, pooled, part=judged, classes=classes)
        seen = predict_rows(forward, pooled, part=train, classes=classes)
        loss = float(nll_terms(val).mean())
        best = loss < lowest
        if best:
            lowest = loss
            _load(head, solution)
        yield EpochRecord(
            phase=1,
            epoch=number,
            lr=0.0,
            seconds=time.perf_counter() - started,
            train=score(seen, float(nll_terms(seen).mean())),
            val=score(val, loss),
            kept=best,
            note=f"L-BFGS to convergence, L2 {l2:g}",
        )
        if not best and number > 2:
            return  # weaker strengths overfit more


def _rows_of(pooled: Views, parts: Parts, *, recipe: Recipe) -> Rows:
    train, imbalance = parts.train, recipe.loss.imbalance
    store, views = pooled.training(train)
    weights = np.ones(len(train))
    if imbalance in ("weights", "sampler"):  # drawing classes equally is weighting them, in expectation
        weights = class_weights(parts.counts)[train.labels]
    return Rows(
        features=store.mapped(),
        rows=np.concatenate(views),
        labels=np.tile(train.labels, len(views)),
        weights=np.tile(weights, len(views)),
        shift=logit_shift(parts.counts) if imbalance == "logit-adjust" else None,
        focus=FOCUS if imbalance == "focal" else 0.0,
    )


def _linear(solution: LinearHead) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda features: torch.from_numpy(solution.logits(features.numpy()))


@torch.no_grad()
def _load(head: torch.nn.Sequential, solution: LinearHead) -> None:
    last = head[-1]
    assert isinstance(last, torch.nn.Linear), "a head ends in a linear layer"
    last.weight.copy_(torch.from_numpy(solution.weight))
    last.bias.copy_(torch.from_numpy(solution.bias))


def top_task(
    recipe: Recipe,
    classifier: Classifier,
    *,
    plan: FreezePlan,
    feed: Feed,
    views: Views,
    parts: Parts,
) -> Task:
    """Activations at the cut, or pictures -> the top and the head learn together.

    The rows may be of an earlier cut than the plan's: the frozen blocks between them then run without gradient.
    """
    from topwork.models.freeze import set_training_mode

    judged, classes = parts.judged, parts.classes
    cut, now = views.cut, plan
    assert cut is not None, "a plan has a cut, and rows are extracted at it"

    def begin(epoch: int) -> None:
        nonlocal now
        now = plan.at(epoch)

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return classifier.from_rows(rows, cut, opened=now.cut)

    def train_mode() -> None:
        set_training_mode(now, classifier.backbone)
        classifier.head.train()

    depths = [[p for p in stage if p.requires_grad] for stage in classifier.parameters_by_depth()]
    return Task(
        forward=forward,
        module=classifier,
        begin=begin,
        train_mode=train_mode,
        depths=depths,
        feed=feed,
        loss=make_loss(recipe.loss, parts.counts),
        validate=lambda: predict_rows(forward, views, part=judged, classes=classes),
        classes=classes,
        seed=recipe.data.seed,
    )


def seconds_of_a_pass(task: Task, inputs: torch.Tensor, *, bf16: bool) -> float:
    """Seconds of a forward and backward pass over inputs (B,...), in one of the two precisions.

    The fastest of several: what else the machine does can only add to it.
    """
    task.module.eval()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = task.forward(inputs).float().logsumexp(dim=1).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        task.module.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])  # the first pass allocates
