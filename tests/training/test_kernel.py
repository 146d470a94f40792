"""The kernel head against scikit-learn's kernel ridge, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from topwork.errors import RecipeError
from topwork.models.kernel_head import KernelHead
from topwork.recipe import HeadChoice, LossChoice, Recipe
from topwork.training.history import EpochRecord
from topwork.training.kernel import KERNEL_PATH, check_kernel, pose_kernel, train_kernel
from topwork.training.parts import Labelled, Parts, Views
from topwork.training.phases import predict_rows
from topwork.training.store import Store, StoreKey


def rows(count: int, *, seed: int, classes: int = 3, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Features that no line divides: a class is the number of the shell around the middle direction."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    around = random.normal(size=(count, width - 1))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    angle = 0.15 + 0.35 * labels + random.normal(0, 0.03, count)
    unit = np.column_stack([np.cos(angle), np.sin(angle)[:, None] * around])
    return (np.sign(unit) * unit**2).astype(np.float32), labels.astype(np.int64)


def parts_and_views(folder: Path, *, mirrored: bool = False, train: int = 150) -> tuple[Parts, Views]:
    features, labels = rows(train + 80, seed=1)
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(labels))]
    store = Store(folder / "store", StoreKey(what="pooled", parts={}))
    with store.writing():
        store.append([(name, 0) for name in names], features)
        if mirrored:
            store.append([(name, 1) for name in names], features * 1.02 + 0.001)

    def part(where: slice) -> Labelled:
        return Labelled(names=tuple(names[where]), labels=labels[where], paths=tuple(names[where]))

    sides = {
        "train": part(slice(0, train)),
        "val": part(slice(train, train + 40)),
        "test": part(slice(train + 40, None)),
    }
    return Parts(**sides, classes=("a", "b", "c")), Views(clean=store, mirrored=mirrored)


def solved(parts: Parts, views: Views, recipe: Recipe) -> tuple[KernelHead, list[EpochRecord]]:
    records: list[EpochRecord] = []
    return train_kernel(recipe, views, parts=parts, phase=1, on_epoch=records.append), records


def test_the_solution_is_scikit_learns_kernel_ridge() -> None:
    features, labels = rows(60, seed=0)
    x = torch.from_numpy(features)
    problem = pose_kernel(x, [(x, labels, np.ones(60))], classes=3)
    weight = problem.solve(0.2).numpy()
    z = problem.head.embedded(x).numpy().astype(np.float64)
    targets = np.eye(3)[labels] - 1 / 3
    oracle = KernelRidge(alpha=0.2, kernel="rbf", gamma=1.0).fit(z, targets)
    likeness = problem.head.likeness(problem.head.embedded(x)).numpy()
    np.testing.assert_allclose(likeness @ weight.T, oracle.predict(z), atol=2e-3)


def test_a_weight_of_two_is_a_row_twice() -> None:
    features, labels = rows(40, seed=2)
    x = torch.from_numpy(features)
    weights = np.ones(40)
    weights[3] = 2.0
    once = pose_kernel(x, [(x, labels, weights)], classes=3).solve(0.1)
    twice = pose_kernel(x, [(x, labels, np.ones(40)), (x[3:4], labels[3:4], np.ones(1))], classes=3).solve(0.1)
    torch.testing.assert_close(once, twice, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_no_line_divides_is_learnt(tmp_path: Path, mirrored: bool) -> None:
    parts, views = parts_and_views(tmp_path, mirrored=mirrored)
    head, records = solved(parts, views, Recipe())
    assert predict_rows(head, views, part=parts.test, classes=parts.classes).correct.mean() > 0.9
    assert [record.note for record in records] == [f"kernel ridge, strength {value:g}" for value in KERNEL_PATH]
    kept = [record for record in records if record.kept][-1]
    assert kept.val.loss == min(record.val.loss for record in records)


def test_the_kept_strength_is_the_one_in_the_head(tmp_path: Path) -> None:
    parts, views = parts_and_views(tmp_path)
    head, records = solved(parts, views, Recipe())
    best = [record for record in records if record.kept][-1].note.split()[-1]
    alone, _ = solved(parts, views, Recipe().replace({"phase1.weight_decay": float(best)}))
    torch.testing.assert_close(head.logits.weight, alone.logits.weight)


def test_landmarks_are_bounded_and_chosen_alike(tmp_path: Path) -> None:
    parts, views = parts_and_views(tmp_path)
    recipe = Recipe(head=HeadChoice(kind="kernel", landmarks=40))
    first, second = solved(parts, views, recipe)[0], solved(parts, views, recipe)[0]
    assert first.landmarks.shape == (40, 4)
    assert torch.equal(first.landmarks, second.landmarks)
    assert predict_rows(first, views, part=parts.test, classes=parts.classes).correct.mean() > 0.8


def test_a_photo_twice_does_no_harm(tmp_path: Path) -> None:
    parts, views = parts_and_views(tmp_path)
    train = parts.train
    doubled = Labelled(names=train.names * 2, labels=np.tile(train.labels, 2), paths=train.paths * 2)
    again = Parts(train=doubled, val=parts.val, test=parts.test, classes=parts.classes)
    head, _ = solved(again, views, Recipe())
    assert head.logits.weight.isfinite().all()
    assert predict_rows(head, views, part=parts.test, classes=parts.classes).correct.mean() > 0.9


def test_rare_classes_get_back_what_rarity_took(tmp_path: Path) -> None:
    parts, views = parts_and_views(tmp_path)
    head, _ = solved(parts, views, Recipe(loss=LossChoice(imbalance="logit-adjust")))
    rarest = int(parts.counts.argmin())
    assert int(head.logits.bias.argmax()) == rarest


@pytest.mark.parametrize("imbalance", ["weights", "logit-adjust"])
def test_a_class_without_training_photos_is_not_the_answer_to_everything(tmp_path: Path, imbalance: str) -> None:
    parts, views = parts_and_views(tmp_path)
    more = dataclasses.replace(parts, classes=("a", "b", "c", "d"))
    head, _ = solved(more, views, Recipe(loss=LossChoice(imbalance=imbalance)))
    found = predict_rows(head, views, part=more.test, classes=more.classes)
    assert np.isfinite(found.logits).all()
    assert found.correct.mean() > 0.8


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(head=HeadChoice(kind="kernel", hidden=(8,))),
        Recipe(head=HeadChoice(kind="kernel", dropout=0.1)),
        Recipe(loss=LossChoice(imbalance="focal")),
    ],
)
def test_what_a_kernel_cannot_do_is_refused(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="kernel head") as raised:
        check_kernel(recipe, alone=True)
    assert "head.kind=linear" in raised.value.fix


def test_dropout_may_act_on_the_linear_head_that_leads_to_a_kernel() -> None:
    check_kernel(Recipe(head=HeadChoice(kind="kernel", dropout=0.1)), alone=False)
