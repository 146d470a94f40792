"""A plan says what trains; what is frozen does not move by a bit."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from topwork.errors import RecipeError
from topwork.models.backbone import Backbone, create_backbone
from topwork.models.classifier import Classifier
from topwork.models.freeze import FreezePlan, apply_freeze, plan_freeze, set_training_mode
from topwork.models.head import build_head
from topwork.models.layers import Layer, list_layers
from topwork.models.weights import state_digest
from topwork.recipe import HeadChoice

FAMILIES = ("test_efficientnet", "mobilenetv4_conv_small_035", "test_resnet", "test_convnext", "test_vit", "test_nfnet")


def tiny(name: str = "test_efficientnet") -> Backbone:
    return create_backbone(name, weights="none", image_size=64)


LAYERS = list_layers(tiny())  # stem, blocks.0..blocks.4, conv_head


def optimise(backbone: Backbone, plan: FreezePlan, *, steps: int = 2) -> None:
    classifier = Classifier(backbone, build_head(HeadChoice(), width=backbone.width, classes=3))
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 0])
    # weight decay would move a frozen tensor whose gradient is zero rather than missing
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        set_training_mode(plan, backbone)
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def frozen_state(backbone: Backbone, plan: FreezePlan) -> dict[str, torch.Tensor]:
    moving = {f"network.{name}" for name in plan.moving}
    return {
        name: tensor.clone()
        for name, tensor in backbone.state_dict().items()
        if name not in plan.parameters and name.rpartition(".")[0] not in moving
    }


@pytest.mark.parametrize("batchnorm", ["frozen", "update"])
@pytest.mark.parametrize("train", ["head", "none", "top-1 blocks", "top-12 layers", "all"])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_frozen_keeps_its_digest_and_what_trains_moves(
    name: str, train: str, batchnorm: Literal["frozen", "update"]
) -> None:
    backbone = tiny(name)
    plan = plan_freeze(train, list_layers(backbone), batchnorm=batchnorm)
    apply_freeze(plan, backbone)
    frozen, everything = frozen_state(backbone, plan), {k: v.clone() for k, v in backbone.state_dict().items()}
    optimise(backbone, plan)
    assert state_digest(frozen) == state_digest({key: backbone.state_dict()[key] for key in frozen})
    moved = {key for key, value in backbone.state_dict().items() if not torch.equal(value, everything[key])}
    with_gradient = {key for key, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert with_gradient == set(plan.parameters)
    assert moved & with_gradient or plan.head_only
    statistics = {key for key in moved if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert {key.rpartition(".")[0] for key in statistics} == {f"network.{name}" for name in plan.moving}


@pytest.mark.parametrize("name", FAMILIES)
def test_statistics_move_only_above_the_cut(name: str) -> None:
    backbone = tiny(name)
    plan = plan_freeze("top-9 layers", list_layers(backbone), batchnorm="update")
    apply_freeze(plan, backbone)
    below = backbone.trunk(plan.cut)
    before = state_digest(below.state_dict())
    optimise(backbone, plan)
    assert state_digest(below.state_dict()) == before
    assert not any(parameter.requires_grad for parameter in below.parameters())
    assert not any(module.training for module in below.modules() if isinstance(module, nn.BatchNorm2d))


def test_plans_print_what_they_do() -> None:
    text = {train: str(plan_freeze(train, LAYERS)) for train in ("head", "top-2 blocks", "top-10 layers", "all")}
    assert text["head"] == "freeze all 7 blocks (stem..conv_head), train the head"
    assert text["top-2 blocks"] == "freeze 5 of 7 blocks (stem..blocks.3), train 2 (blocks.4, conv_head)"
    assert (
        text["top-10 layers"] == "freeze 34 of 44 layers, train 10 (from blocks.4.0.se.conv_reduce; cut above blocks.3)"
    )
    assert str(plan_freeze("top-1 block", LAYERS)) == str(plan_freeze("top-1 blocks", LAYERS))
    assert str(plan_freeze("top-3 layer", LAYERS)) == str(plan_freeze("top-3 layers", LAYERS))
    assert text["all"] == "train all 7 blocks (stem..conv_head)"
    apart = plan_freeze(["blocks.1", "conv_head"], LAYERS, batchnorm="update")
    assert str(apart).startswith(
        "freeze 5 of 7 blocks (stem, blocks.0, blocks.2, blocks.3, blocks.4), train 2 (blocks.1"
    )
    assert str(apart).endswith("3 BatchNorm statistics update")
    assert (apart.cut, apart.trainable_blocks) == (2, ("blocks.1", "conv_head"))


def test_nothing_trains_above_the_last_cut() -> None:
    for train in ("head", "none", "top-1 layers"):  # the last layer is the pooling, which owns nothing
        plan = plan_freeze(train, LAYERS)
        assert plan.head_only
        assert (plan.cut, plan.parameters, plan.size) == (7, (), 0)


def test_the_pooling_stages_convolution_counts_with_the_last_block() -> None:
    plan = plan_freeze("top-1 blocks", list_layers(tiny("mobilenetv4_conv_small_035")))
    assert {"network.conv_head.weight", "network.blocks.4.0.conv.weight"} <= set(plan.parameters)
    assert plan.trainable_blocks == ("blocks.4",)


@given(count=st.integers(1, len(LAYERS)))
def test_more_layers_train_more_and_the_cut_only_sinks(count: int) -> None:
    plan = plan_freeze(f"top-{count} layers", LAYERS)
    assert len(plan.trainable) == count
    assert plan.trainable == LAYERS[-count:]
    owners = [plan.blocks.index(layer.block) for layer in plan.trainable if layer.parameters]
    assert plan.cut == min(owners, default=len(plan.blocks))
    if count > 1:
        fewer = plan_freeze(f"top-{count - 1} layers", LAYERS)
        assert set(fewer.parameters) <= set(plan.parameters)
        assert fewer.cut >= plan.cut


@given(count=st.integers(1, 7))
def test_top_n_blocks_is_the_last_n_named(count: int) -> None:
    by_count = plan_freeze(f"top-{count} blocks", LAYERS)
    by_name = plan_freeze(by_count.blocks[-count:], LAYERS)
    assert by_count.parameters == by_name.parameters
    assert by_count.cut == by_name.cut == 7 - count


@pytest.mark.parametrize(
    ("train", "what", "fix"),
    [
        (
            "top-9 blocks",
            "train='top-9 blocks' asks for 9 blocks; this backbone has 7: stem..conv_head.",
            "top-1 to top-7",
        ),
        ("top-0 blocks", "asks for 0 blocks", "top-1 to top-7, or a block name"),
        ("top-99 layers", "asks for 99 layers; this backbone has 44", "top-1 to top-44"),
        ("layer9", "train='layer9' names no block of this backbone; it has stem..conv_head", "top-N blocks"),
        (("conv_head", "typo"), "names no block", "block names"),
        ((), "names no block", "block names"),
    ],
)
def test_a_plan_that_does_not_fit_says_so(train: str | tuple[str, ...], what: str, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        plan_freeze(train, LAYERS)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_planning_changes_nothing() -> None:
    backbone = tiny()
    layers: tuple[Layer, ...] = list_layers(backbone)
    plan_freeze("top-1 blocks", layers)
    assert all(parameter.requires_grad for parameter in backbone.parameters())


@given(epochs=st.integers(1, 30), every=st.integers(1, 5))
def test_gradual_opens_a_block_every_so_many_epochs_from_the_top(epochs: int, every: int) -> None:
    plan = plan_freeze("gradual", LAYERS, epochs=epochs, every=every)
    depth = 0
    for epoch in range(1, epochs + 1):
        open_now = plan.at(epoch)
        depth = min(7, 1 + (epoch - 1) // every)
        assert open_now.parameters == plan_freeze(f"top-{depth} blocks", LAYERS).parameters
        assert open_now.cut == 7 - depth
    assert plan.parameters == plan.at(epochs).parameters  # the last epoch has everything that ever trains
    assert (plan.cut, plan.every) == (7 - depth, every)


def test_a_gradual_plan_names_the_epoch_of_each_block() -> None:
    plan = plan_freeze("gradual", LAYERS, epochs=5, every=2, batchnorm="update")
    assert str(plan).startswith(
        "freeze 4 of 7 blocks, train conv_head from epoch 1, blocks.4 from epoch 3, blocks.3 from epoch 5; "
    )
    assert set(plan.at(1).moving) < set(plan.at(3).moving) < set(plan.moving)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_a_block_keeps_its_digest_until_it_opens(name: str) -> None:
    backbone = tiny(name)
    plan = plan_freeze("gradual", list_layers(backbone), epochs=3, batchnorm="update")
    apply_freeze(plan, backbone)
    classifier = Classifier(backbone, build_head(HeadChoice(), width=backbone.width, classes=3))
    optimizer = torch.optim.AdamW([p for p in classifier.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        rows = backbone.trunk(plan.cut)(classifier.normalise(images)).permute(0, 2, 3, 1)
    for epoch in (1, 2, 3):
        now = plan.at(epoch)
        before = [state_digest(block.state_dict()) for block in backbone.blocks]
        set_training_mode(now, backbone)
        optimizer.zero_grad()
        logits = classifier.from_rows(rows, plan.cut, opened=now.cut)
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        after = [state_digest(block.state_dict()) for block in backbone.blocks]
        moved = [name for name, old, new in zip(backbone.block_names, before, after, strict=True) if old != new]
        assert tuple(moved) == now.trainable_blocks
        assert len(moved) == epoch
