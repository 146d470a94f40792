"""Losses against scikit-learn, torch and their papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from topwork.recipe import LossChoice
from topwork.training.loss import make_loss, sampling_weights

COUNTS = np.array([60, 30, 10])


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, 3, (40,))
    return 3 * torch.randn(40, 3), labels, F.one_hot(labels, 3).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_plain_loss_is_cross_entropy(smoothing: float) -> None:
    logits, labels, targets = batch()
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    for imbalance in ("none", "sampler"):
        choice = LossChoice(imbalance=imbalance, label_smoothing=smoothing)
        torch.testing.assert_close(make_loss(choice, COUNTS)(logits, targets), expected)


def test_class_weights_are_scikit_learns_balanced_ones() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    logits, labels, targets = batch()
    weights = compute_class_weight("balanced", classes=np.arange(3), y=np.repeat(np.arange(3), COUNTS))
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = (each * torch.tensor(weights, dtype=torch.float32)[labels]).mean()
    torch.testing.assert_close(make_loss(LossChoice(imbalance="weights"), COUNTS)(logits, targets), expected)


def test_focal_loss_is_its_papers_formula() -> None:
    logits, labels, targets = batch()
    p = logits.double().softmax(1)[torch.arange(40), labels]
    expected = (-((1 - p) ** 2) * p.log()).mean().float()
    torch.testing.assert_close(make_loss(LossChoice(imbalance="focal"), COUNTS)(logits, targets), expected)


def test_adjusted_logits_make_the_prior_the_best_constant_answer() -> None:
    """With class shares as targets, plain cross-entropy wants log shares; the adjusted one wants equal logits."""
    shares = torch.tensor(COUNTS / COUNTS.sum(), dtype=torch.float32)
    logits = torch.zeros(1, 3, requires_grad=True)
    make_loss(LossChoice(imbalance="logit-adjust"), COUNTS)(logits, shares[None]).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 3))
    logits.grad = None
    make_loss(LossChoice(), COUNTS)(logits, shares[None]).backward()
    assert float(logits.grad.abs().max()) > 0.1


@pytest.mark.parametrize("imbalance", ["none", "weights", "focal", "logit-adjust"])
def test_equal_classes_need_no_correction_and_extreme_logits_stay_finite(imbalance: str) -> None:
    logits, _, targets = batch()
    loss = make_loss(LossChoice(imbalance=imbalance), np.array([5, 5, 5]))
    if imbalance != "focal":
        torch.testing.assert_close(loss(logits, targets), make_loss(LossChoice(), COUNTS)(logits, targets))
    extreme = (logits * 1000).requires_grad_()
    value = loss(extreme, targets)
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(extreme.grad).all())


@pytest.mark.parametrize("imbalance", ["none", "weights", "focal", "logit-adjust"])
def test_a_class_without_photos_does_no_harm(imbalance: str) -> None:
    """A split that came with the data, or a fold, may leave a class without a training photo."""
    logits = torch.zeros(4, 3, requires_grad=True)
    value = make_loss(LossChoice(imbalance=imbalance), np.array([5, 5, 0]))(logits, torch.eye(3)[[0, 1, 0, 1]])
    value.backward()
    assert bool(torch.isfinite(value))
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("imbalance", ["none", "weights", "logit-adjust"])
def test_the_loss_is_linear_in_its_targets(imbalance: str) -> None:
    """What mixing relies on: rows of one class mixed with rows of one other class."""
    logits = torch.randn(8, 3)
    loss = make_loss(LossChoice(imbalance=imbalance), COUNTS if imbalance != "weights" else np.array([5, 5, 5]))
    a, b = (F.one_hot(torch.full((8,), label), 3).float() for label in (0, 2))
    torch.testing.assert_close(loss(logits, 0.3 * a + 0.7 * b), 0.3 * loss(logits, a) + 0.7 * loss(logits, b))


def test_bfloat16_logits_are_judged_in_float32() -> None:
    logits, _, targets = batch()
    loss = make_loss(LossChoice(), COUNTS)
    narrow = logits.bfloat16()
    assert loss(narrow, targets).dtype == torch.float32
    torch.testing.assert_close(loss(narrow, targets), loss(narrow.float(), targets))


def test_the_sampler_draws_classes_equally() -> None:
    labels = np.repeat(np.arange(3), COUNTS)
    weights = sampling_weights(LossChoice(imbalance="sampler"), labels)
    assert weights is not None
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(labels, weights=weights), [1 / 3] * 3)
    assert sampling_weights(LossChoice(), labels) is None
    gap = sampling_weights(LossChoice(imbalance="sampler"), np.array([0, 0, 2]))  # class 1 has no photo
    np.testing.assert_allclose(gap, [0.25, 0.25, 0.5])
