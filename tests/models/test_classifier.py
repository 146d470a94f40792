"""Whole or from a cached activation, eager or exported: the same logits."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from topwork.models.backbone import create_backbone
from topwork.models.classifier import Classifier, Normalise, normalised_trunk
from topwork.models.head import build_head
from topwork.recipe import HeadChoice
from topwork.spec import InputSpec

NAMES = (
    "test_efficientnet",
    "mobilenetv2_035",
    "tf_mobilenetv3_small_minimal_100",
    "mobilenetv4_conv_small_035",
    "test_resnet",
    "test_convnext",
    "test_vit",
    "test_nfnet",
)


def tiny(name: str) -> Classifier:
    backbone = create_backbone(name, weights="none", image_size=64)
    return Classifier(backbone, build_head(HeadChoice(hidden=(8,)), width=backbone.width, classes=3)).eval()


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8)


def test_normalisation_is_the_input_specs_formula() -> None:
    spec = InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = pictures()
    expected = (images.double() / 255 - torch.tensor(spec.mean).double()) / torch.tensor(spec.std).double()
    torch.testing.assert_close(Normalise(spec)(images).double(), expected.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_logits_from_every_cut_are_the_networks(name: str) -> None:
    classifier, images = tiny(name), pictures()
    backbone = classifier.backbone
    normalised = classifier.normalise(images)
    expected = classifier.head(backbone.network(normalised))  # timm's own forward, without its classifier
    torch.testing.assert_close(classifier(images), expected)
    torch.testing.assert_close(classifier.from_activation(backbone(normalised), None), expected)
    for cut in range(len(backbone.block_names) + 1):
        activation, pooled = normalised_trunk(backbone, cut)(images)
        torch.testing.assert_close(classifier.from_activation(activation, cut), expected)
        torch.testing.assert_close(classifier.pooled(activation, cut), pooled)


@torch.no_grad()
def test_a_picture_and_its_mirror_image_are_judged_alike() -> None:
    plain, images = tiny("test_efficientnet"), pictures()
    mirrored = Classifier(plain.backbone, plain.head, mirror=True).eval()
    torch.testing.assert_close(mirrored(images), (plain(images) + plain(images.flip(2))) / 2)
    torch.testing.assert_close(mirrored(images), mirrored(images.flip(2)))
    assert not torch.allclose(plain(images), plain(images.flip(2)))


@torch.no_grad()
def test_activations_are_channels_last_and_tokens_stay() -> None:
    resnet, vit = tiny("test_resnet").backbone, tiny("test_vit").backbone
    assert normalised_trunk(resnet, 5)(pictures())[0].shape == (3, 2, 2, resnet.width)
    assert normalised_trunk(vit, 1)(pictures())[0].shape == (3, 17, 64)


@torch.no_grad()
def test_half_precision_activations_are_taken() -> None:
    classifier, images = tiny("test_resnet"), pictures()
    activation, _ = normalised_trunk(classifier.backbone, 3)(images)
    expected = classifier(images)
    for dtype in (torch.float16, torch.bfloat16):
        torch.testing.assert_close(classifier.from_activation(activation.to(dtype), 3), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_trunk_exports_with_a_batch_of_any_size(name: str) -> None:
    backbone = tiny(name).backbone
    cut = len(backbone.block_names) - 1
    trunk = normalised_trunk(backbone, cut)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own internals
        program = torch.export.export(trunk, (pictures(2),), dynamic_shapes={"images": {0: batch}})
    assert "upsample" not in str(program.graph)  # the position embedding is not resized at run time
    exported = program.module()
    for count in (1, 5):
        images = pictures(count)
        for found, expected in zip(exported(images), trunk(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_depths_hold_every_parameter_once_head_first(name: str) -> None:
    classifier = tiny(name)
    depths = classifier.parameters_by_depth()
    assert len(depths) == 1 + len(classifier.backbone.block_names)
    assert {id(parameter) for parameter in depths[0]} == {id(parameter) for parameter in classifier.head.parameters()}
    owned = [id(parameter) for depth in depths for parameter in depth]
    assert sorted(owned) == sorted(id(parameter) for parameter in classifier.parameters())


def test_the_state_keeps_timms_names_and_no_copies() -> None:
    classifier = tiny("test_efficientnet")
    names = list(classifier.state_dict())
    assert "backbone.network.conv_stem.weight" in names
    assert {name.split(".")[0] for name in names} == {"backbone", "head"}
    tensors = [tensor for tensor in classifier.state_dict().values() if tensor.numel() > 1]
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


def test_gradients_through_a_cached_activation_stop_at_the_cut() -> None:
    classifier = tiny("test_resnet")
    activation, _ = normalised_trunk(classifier.backbone, 4)(pictures())
    nn.functional.cross_entropy(classifier.from_activation(activation.detach(), 4), torch.tensor([0, 1, 2])).backward()  # type: ignore[no-untyped-call]
    reached = {name.split(".")[1] for name, p in classifier.backbone.named_parameters() if p.grad is not None}
    assert reached == {"layer4"}
