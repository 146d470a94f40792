"""The head's shape follows the recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from topwork.models.head import build_head
from topwork.recipe import HeadChoice


def test_a_plain_head_is_one_linear_layer() -> None:
    head = build_head(HeadChoice(), width=7, classes=3)
    assert [name for name, _ in head.named_children()] == ["dropout", "logits"]
    x = torch.randn(4, 7)
    linear = head.get_submodule("logits")
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(head.eval()(x), x @ linear.weight.T + linear.bias)


def test_hidden_layers_batchnorm_and_dropout() -> None:
    head = build_head(HeadChoice(hidden=(16, 8), dropout=0.5, batchnorm=True), width=7, classes=3)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2 + [nn.Dropout, nn.Linear]
    assert [type(layer) for layer in head] == kinds
    assert [tuple(layer.weight.shape) for layer in head if isinstance(layer, nn.Linear)] == [(16, 7), (8, 16), (3, 8)]
    assert head(torch.randn(5, 7)).shape == (5, 3)


def test_the_same_random_state_gives_the_same_head() -> None:
    heads = []
    for _ in range(2):
        torch.manual_seed(3)
        heads.append(build_head(HeadChoice(hidden=(4,)), width=5, classes=2).state_dict())
    assert all(torch.equal(heads[0][key], heads[1][key]) for key in heads[0])


@pytest.mark.parametrize(("width", "classes"), [(0, 3), (4, 1)])
def test_a_head_needs_features_and_two_classes(width: int, classes: int) -> None:
    with pytest.raises(ValueError, match="must have"):
        build_head(HeadChoice(), width=width, classes=classes)
