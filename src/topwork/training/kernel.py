"""The kernel head, solved in closed form from cached rows. Knows no files and nothing about what made the rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import cho_factor, cho_solve

from topwork.digest import seed_from
from topwork.errors import RecipeError
from topwork.measures.calibration import fit_temperature, nll_terms
from topwork.models.kernel_head import KernelHead
from topwork.recipe import Recipe
from topwork.training.feeds import read_rows
from topwork.training.heap import heap_kept
from topwork.training.history import EpochRecord, Score, score
from topwork.training.loss import class_weights, logit_shift
from topwork.training.parts import Labelled, Parts, Views
from topwork.training.phases import predict_rows
from topwork.training.store import StoreKey, passing_store

if TYPE_CHECKING:
    from topwork.models.classifier import Classifier

__all__ = ["KERNEL_PATH", "KernelProblem", "check_kernel", "pooled_views", "pose_kernel", "train_kernel"]

KERNEL_PATH = (0.5, 0.15, 0.05)
"""Ridge strengths tried where the recipe leaves `phase1.weight_decay` out, strongest first."""

_BATCH = 1024  # rows whose likenesses are in memory at once
_TOP_BATCH = 64  # rows of one pass through the top
_JITTER = 1e-6  # of the mean diagonal: copies of one photo among the landmarks must not make the system singular
_GAIN = 5.0  # least squares answers lie in about [0, 1]; five times that is nearer to logits, temperature does the rest

_Rows = Iterable[tuple[torch.Tensor, npt.NDArray[np.int64], npt.NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelProblem:
    """What every ridge strength shares.

    Args:
        head: with mean, scale and landmarks set.
        gram: (M,M) weighted sum over rows of k k^T.
        cross: (M,K) weighted sum over rows of k times the centred target.
        between: (M,M) likenesses of the landmarks, float32; the others are float64.
    """

    head: KernelHead
    gram: torch.Tensor
    cross: torch.Tensor
    between: torch.Tensor

    @torch.no_grad()
    def solve(self, strength: float) -> torch.Tensor:
        """argmin over W (K,M) of sum |W k - target|^2 + strength * |f|^2, f's norm being the kernel's own.

        Source: C. Saunders et al. (1998), ICML, "Ridge regression learning algorithm in dual variables".
        """
        system = torch.add(self.gram, self.between, alpha=strength)
        system.diagonal().add_(_JITTER * float(system.diagonal().mean()))
        # The transpose of a symmetric matrix is what LAPACK can factor in its place: the matrix may be 134 MB.
        factor = cho_factor(system.numpy().T, lower=True, overwrite_a=True, check_finite=False)
        return torch.from_numpy(cho_solve(factor, self.cross.numpy(), check_finite=False).T.copy())


@torch.no_grad()
def pose_kernel(landmarks: torch.Tensor, rows: _Rows, *, classes: int) -> KernelProblem:
    """Sum up what the ridge systems need; only the landmarks and one batch are in memory.

    Args:
        landmarks: pooled features (M,D) of the photos that the head stores; they also give mean and scale.
        rows: batches of pooled features (n,D), labels (n,) in [0, K), and weights (n,) >= 0.
        classes: K >= 2.
    """
    head = KernelHead(landmarks.shape[1], landmarks=len(landmarks), classes=classes).eval()
    z = head.directions(landmarks)
    head.mean.copy_(z.mean(0))
    head.scale.copy_(((z - head.mean) ** 2).sum(1).mean().sqrt().clamp_min(1e-6))
    head.landmarks.copy_((z - head.mean) / head.scale)
    head.logits.bias.zero_()
    gram = torch.zeros(len(z), len(z), dtype=torch.float64)
    cross = torch.zeros(len(z), classes, dtype=torch.float64)
    for features, labels, weights in rows:
        targets = torch.nn.functional.one_hot(torch.from_numpy(labels), classes).double() - 1 / classes
        likeness = head.likeness(head.embedded(features)).double()
        weighted = likeness * torch.from_numpy(weights)[:, None]
        gram += weighted.T @ likeness
        cross += weighted.T @ targets
    return KernelProblem(head=head, gram=gram, cross=cross, between=head.likeness(head.landmarks))


def check_kernel(recipe: Recipe, *, alone: bool) -> None:
    """Refuse what a kernel head cannot do, before any work.

    Args:
        recipe: with a kernel head.
        alone: nothing below the head is trained, so that no linear head leads the way to the kernel.

    Raises:
        RecipeError: if the head has hidden layers, or dropout with no linear head to act on, or the loss is the focal
            one.
    """
    if alone and recipe.head.dropout:
        raise RecipeError(
            "A kernel head has no use for dropout unless layers below it are trained, led by a linear head.",
            fix="leave head.dropout out, or add --set head.kind=linear --set phase1.optimizer=adamw.",
        )
    if recipe.head.hidden:
        raise RecipeError(
            "A kernel head must have no hidden layers. This recipe gives it some.",
            fix="add --set head.kind=linear --set phase1.optimizer=adamw, or leave head.hidden out.",
        )
    if recipe.loss.imbalance == "focal":
        raise RecipeError(
            "A kernel head is solved by least squares and cannot follow the loss 'focal'.",
            fix="add --set head.kind=linear, or use imbalance 'weights'.",
        )


def train_kernel(
    recipe: Recipe,
    views: Views,
    *,
    parts: Parts,
    phase: int,
    on_epoch: Callable[[EpochRecord], None],
) -> KernelHead:
    """Solve for each ridge strength and keep the one with the lowest validation NLL at its best temperature.

    Args:
        recipe: its head, its loss and `phase1.weight_decay`.
        views: pooled features; the clean ones, and their mirror images if there are any, are learnt from.
        parts: the split.
        phase: for the records.
        on_epoch: gets a record a strength.
    """
    problem = _posed(recipe, views, parts=parts)
    head = problem.head
    if recipe.loss.imbalance == "logit-adjust":  # rare classes get what their rarity took: Menon et al. (2021)
        head.logits.bias.data.copy_(-torch.from_numpy(logit_shift(parts.counts)) - math.log(len(parts.classes)))
    strengths = KERNEL_PATH if recipe.phase1.weight_decay is None else (recipe.phase1.weight_decay,)
    lowest, best = np.inf, head.logits.weight.detach().clone()
    for number, strength in enumerate(strengths, start=1):
        started = time.perf_counter()
        with torch.no_grad():
            head.logits.weight.copy_(_GAIN * problem.solve(strength))
        val = _score(head, views, part=parts.judged, classes=parts.classes)
        kept = val.loss < lowest
        if kept:
            lowest, best = val.loss, head.logits.weight.detach().clone()
        train = _score(head, views, part=parts.train, classes=parts.classes)
        on_epoch(
            EpochRecord(
                phase=phase,
                epoch=number,
                lr=0.0,
                seconds=time.perf_counter() - started,
                train=train,
                val=val,
                kept=kept,
                note=f"kernel ridge, strength {strength:g}",
            )
        )
    with torch.no_grad():
        head.logits.weight.copy_(best)
    return head


def _posed(recipe: Recipe, views: Views, *, parts: Parts) -> KernelProblem:
    train, mapped = parts.train, views.clean.mapped()
    weights = np.ones(len(train))
    if recipe.loss.imbalance in ("weights", "sampler"):
        weights = class_weights(parts.counts)[train.labels]
    photos = np.arange(len(train))
    if len(train) > recipe.head.landmarks:
        random = np.random.default_rng(seed_from("landmarks", recipe.data.seed))
        photos = np.sort(random.choice(photos, recipe.head.landmarks, replace=False))

    def rows() -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        for view in views.judged:
            places = train.rows(views.clean, view)
            for start in range(0, len(places), _BATCH):
                part = slice(start, start + _BATCH)
                yield read_rows(mapped, places[part]), train.labels[part], weights[part]

    stored = read_rows(mapped, train.rows(views.clean)[photos])
    return pose_kernel(stored, rows(), classes=len(parts.classes))


def _score(head: KernelHead, views: Views, *, part: Labelled, classes: tuple[str, ...]) -> Score:
    """Scores of a part; the loss is the NLL at the temperature that suits this part best."""
    found = predict_rows(head, views, part=part, classes=classes)
    return score(found, float(nll_terms(found.at_temperature(fit_temperature(found))).mean()))


@contextmanager
def pooled_views(classifier: Classifier, views: Views, *, parts: Parts) -> Iterator[Views]:
    """Pooled features behind a trained top, of the clean views of all parts, on disk for as long as they are needed.

    Args:
        classifier: in evaluation mode.
        views: rows at a cut.
        parts: the split.
    """
    assert views.cut is not None, "pooled features have no top above them"
    names = [(name, view) for part in parts.filled().values() for view in views.judged for name in part.names]
    names = list(dict.fromkeys(names))  # copies of one photo share a row
    source = views.clean.mapped()
    with passing_store(StoreKey(what="pooled", parts={})) as store:
        with store.writing(), torch.inference_mode(), heap_kept():
            for start in range(0, len(names), _TOP_BATCH):
                chunk = names[start : start + _TOP_BATCH]
                rows = read_rows(source, views.clean.rows(chunk))
                pooled = classifier.pooled(rows, views.cut) if views.cut else classifier.features(rows)
                store.append(chunk, pooled.numpy())
        yield Views(clean=store, mirrored=views.mirrored)
