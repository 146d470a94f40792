"""The kernel head is the formula in its docstring, and may be differentiated."""

from __future__ import annotations

import numpy as np
import torch

from topwork.models.head import build_head, choice_of
from topwork.models.kernel_head import KernelHead
from topwork.recipe import HeadChoice


def filled(width: int = 6, landmarks: int = 5, classes: int = 3) -> KernelHead:
    head = KernelHead(width, landmarks=landmarks, classes=classes).eval()
    head.mean.copy_(torch.randn(width) / 10)
    head.scale.fill_(0.8)
    head.landmarks.copy_(torch.randn(landmarks, width))
    return head


def test_logits_are_the_formula() -> None:
    head, x = filled(), torch.randn(4, 6)
    with torch.no_grad():
        found = head(x).numpy()
    rows = np.sign(x.numpy()) * np.sqrt(np.abs(x.numpy()))
    z = (rows / np.linalg.norm(rows, axis=1, keepdims=True) - head.mean.numpy()) / 0.8
    k = np.exp(-(((z[:, None] - head.landmarks.numpy()[None]) ** 2).sum(2)))
    expected = k @ head.logits.weight.detach().numpy().T + head.logits.bias.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_length_of_a_row_says_nothing() -> None:
    head, x = filled(), torch.rand(4, 6) + 0.1
    torch.testing.assert_close(head(x), head(9 * x), rtol=1e-4, atol=1e-5)


def test_features_of_zero_have_finite_gradients() -> None:
    head, x = filled(), torch.zeros(2, 6, requires_grad=True)
    head(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_landmark_is_like_itself() -> None:
    head = filled()
    torch.testing.assert_close(head.likeness(head.landmarks).diagonal(), torch.ones(5))


def test_the_choice_of_a_head_builds_its_shapes_again() -> None:
    choice = HeadChoice(kind="kernel", landmarks=50)
    assert choice_of(filled(landmarks=5), choice).landmarks == 5
    again = build_head(choice_of(filled(landmarks=5), choice), width=6, classes=3)
    again.load_state_dict(filled(landmarks=5).state_dict())
    linear = build_head(HeadChoice(hidden=(4,)), width=6, classes=3)
    assert choice_of(linear, HeadChoice(hidden=(4,))) == HeadChoice(hidden=(4,))
