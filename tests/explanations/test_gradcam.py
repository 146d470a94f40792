"""Heatmaps against captum (here), against the `grad-cam` package (golden values), and against their own algebra."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from topwork.errors import RecipeError
from topwork.explanations import gradcam
from topwork.explanations.gradcam import METHODS, contrast_maps, enlarged, heatmaps, heatmaps_and_contrasts
from topwork.models.backbone import create_backbone
from topwork.models.classifier import Classifier

GOLDEN = Path(__file__).parents[1] / "golden" / "gradcam_maps.npz"
SUBJECTS = ("test_efficientnet", "test_resnet", "test_convnext", "test_vit")


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,h,w) twice -> (N,) Pearson; 1 where both are empty, 0 where one is."""
    return np.array([_correlation(a.ravel(), b.ravel()) for a, b in zip(one, other, strict=True)])


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if not (one.any() and other.any()):  # a class without any evidence
        return float(one.any() == other.any())
    return float(np.corrcoef(one, other)[0, 1])


@pytest.fixture(scope="module")
def classifiers(subjects: ModuleType) -> dict[str, Classifier]:
    return {name: subjects.subject(name) for name in SUBJECTS}


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_gradcam_is_captums(name: str, subjects: ModuleType, classifiers: dict[str, Classifier]) -> None:
    captum = pytest.importorskip("captum.attr")
    classifier, layer = classifiers[name], subjects.SUBJECTS[name]
    images = subjects.pictures(classifier.backbone.spec.size)

    class Whole(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            for block in classifier.backbone.blocks:
                x = block(x)
            return classifier.head(classifier.backbone.pool(x))

    block = classifier.backbone.blocks[classifier.backbone.block_names.index(layer)]
    inputs = classifier.normalise(torch.from_numpy(images)).requires_grad_()
    targets = np.arange(len(images)) % subjects.CLASSES
    oracle = captum.LayerGradCam(Whole(), block).attribute(
        inputs, target=torch.from_numpy(targets), relu_attributions=True
    )
    mine = heatmaps(classifier, images, target=targets, layer=layer, batch=4)
    assert mine.raw.any(axis=(1, 2)).mean() >= 0.8
    assert _correlations(mine.raw, oracle[:, 0].detach().numpy()).min() >= 0.999
    np.testing.assert_allclose(mine.raw, oracle[:, 0].detach().numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_grad_cam(
    name: str, method: str, subjects: ModuleType, classifiers: dict[str, Classifier]
) -> None:
    classifier = classifiers[name]
    images = subjects.pictures(classifier.backbone.spec.size)
    targets = np.arange(len(images)) % subjects.CLASSES
    mine = heatmaps(classifier, images, target=targets, method=method, layer=subjects.SUBJECTS[name])  # type: ignore[arg-type]
    with np.load(GOLDEN, allow_pickle=False) as golden:
        theirs = golden[f"{name}/{method}"]
    assert mine.raw.shape == theirs.shape
    if method == "eigencam":  # a component has no sign of its own: of two, mine must be the positive part of one
        both = np.stack([_correlations(mine.raw, np.maximum(sign * theirs, 0)) for sign in (1, -1)])
        assert both.max(axis=0).min() >= 0.999
    else:
        assert _correlations(mine.raw, theirs).min() >= 0.999


def test_the_golden_file_is_small_and_says_something() -> None:
    assert GOLDEN.stat().st_size < 1_000_000
    with np.load(GOLDEN, allow_pickle=False) as golden:
        assert set(golden) == {f"{name}/{method}" for name in SUBJECTS for method in METHODS}
        assert np.mean([golden[key].any(axis=(1, 2)).mean() for key in golden]) >= 0.7


@pytest.mark.parametrize("name", SUBJECTS)
def test_logits_are_the_classifiers_and_the_default_target_is_the_predicted_class(
    name: str, subjects: ModuleType, classifiers: dict[str, Classifier]
) -> None:
    classifier = classifiers[name]
    images = subjects.pictures(classifier.backbone.spec.size)
    mine = heatmaps(classifier, images, batch=3)
    with torch.no_grad():
        logits = classifier(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(mine.logits, logits, rtol=1e-4, atol=1e-4)
    assert mine.targets.tolist() == logits.argmax(1).tolist()
    assert mine.maps.shape == images.shape[:3]
    assert mine.maps.min() >= 0
    assert mine.maps.max() <= 1


def test_batches_do_not_matter_and_modes_come_back(subjects: ModuleType, classifiers: dict[str, Classifier]) -> None:
    classifier = classifiers["test_efficientnet"]
    images = subjects.pictures(classifier.backbone.spec.size)
    classifier.head.train()
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    one, all_ = heatmaps(classifier, images, batch=1), heatmaps(classifier, images, batch=64)
    np.testing.assert_allclose(one.raw, all_.raw, rtol=1e-3, atol=1e-5)
    assert classifier.head.training
    assert not classifier.backbone.training
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    classifier.head.eval()


@pytest.mark.parametrize("method", METHODS)
def test_both_maps_of_one_pass_are_those_of_two(
    subjects: ModuleType, classifiers: dict[str, Classifier], method: Any
) -> None:
    classifier = classifiers["test_efficientnet"]
    images = subjects.pictures(classifier.backbone.spec.size)
    one, two = heatmaps_and_contrasts(classifier, images, target=1, method=method, batch=3)
    assert one.method == method
    assert two.against is not None
    for mine, alone in (
        (one, heatmaps(classifier, images, target=1, method=method)),
        (two, contrast_maps(classifier, images)),
    ):
        np.testing.assert_allclose(mine.raw, alone.raw, rtol=1e-4, atol=1e-6)
        assert mine.targets.tolist() == alone.targets.tolist()
        assert mine.layer == alone.layer


def test_a_contrast_adds_up_to_the_difference_of_the_logits(
    subjects: ModuleType, classifiers: dict[str, Classifier]
) -> None:
    """Mean pooling and a linear head: every place's share of "why this and not that" is exact."""
    classifier = classifiers["test_efficientnet"]
    images = subjects.pictures(classifier.backbone.spec.size)
    found = contrast_maps(classifier, images)
    assert found.against is not None
    rows = np.arange(len(images))
    gap = found.logits[rows, found.targets] - found.logits[rows, found.against]
    assert gap.min() >= 0  # the most likely class comes first
    np.testing.assert_allclose(found.raw.sum(axis=(1, 2)), gap, rtol=1e-3, atol=1e-4)
    turned = contrast_maps(classifier, images, pairs=np.stack([found.against, found.targets], axis=1))
    np.testing.assert_allclose(turned.maps, -found.maps, atol=1e-4)
    assert found.maps.min() < 0 < found.maps.max()


def test_a_hand_made_map() -> None:
    """A 1 x 1 convolution that copies red, and a head that reads it: the map is the red channel itself."""
    backbone = create_backbone("test_efficientnet", weights="none")
    classifier = Classifier(backbone, nn.Linear(backbone.width, 2)).eval()
    with torch.no_grad():
        classifier.head.weight.zero_()  # type: ignore[union-attr]
        classifier.head.weight[1, 3] = 1.0  # type: ignore[index, union-attr]
    images = np.random.default_rng(0).integers(0, 255, (2, 160, 160, 3), dtype=np.uint8)
    with torch.no_grad():
        channel = backbone.forward_features(classifier.normalise(torch.from_numpy(images)))[:, 3].numpy()
    found = heatmaps(classifier, images, target=1)
    np.testing.assert_allclose(found.raw, np.maximum(channel / channel[0].size, 0), rtol=1e-4, atol=1e-9)
    assert not heatmaps(classifier, images, target=0).maps.any()  # no evidence is 0 everywhere, and not NaN


def test_a_vits_default_leaves_the_patches_a_say(subjects: ModuleType, classifiers: dict[str, Classifier]) -> None:
    """Above the last attention only the class token is read, so a map from there would be empty."""
    classifier = classifiers["test_vit"]
    images = subjects.pictures(classifier.backbone.spec.size)
    assert heatmaps(classifier, images).maps.any(axis=(1, 2)).all()
    assert not heatmaps(classifier, images, layer=classifier.backbone.block_names[-1]).maps.any()


@pytest.mark.parametrize("channels", [5, 40])
def test_eigencam_is_the_first_component_whichever_matrix_is_smaller(channels: int) -> None:
    """3 x 4 places, so that 5 channels take one way and 40 the other; the oracle decomposes by singular values."""
    activation = torch.from_numpy(np.random.default_rng(channels).random((2, channels, 3, 4)).astype(np.float32))
    found = gradcam._eigencam(activation, activation)
    for mine, each in zip(found.numpy(), activation.numpy(), strict=True):
        places = each.reshape(channels, 12).T.astype(np.float64)
        centred = places - places.mean(axis=0)
        first = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
        strength = np.linalg.norm(places, axis=1)
        first *= np.sign(first @ (strength - strength.mean()))
        np.testing.assert_allclose(mine.ravel(), np.maximum(first, 0), atol=1e-5)


def test_eigencam_of_an_early_layer_makes_no_matrix_of_all_its_places(
    subjects: ModuleType, classifiers: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = []
    real = torch.linalg.eigh

    def noted(matrix: torch.Tensor) -> Any:
        sides.append(matrix.shape[-1])
        return real(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", noted)
    classifier = classifiers["test_efficientnet"]
    images = subjects.pictures(classifier.backbone.spec.size)[:2]
    found = heatmaps(classifier, images, method="eigencam", layer="stem")
    assert found.raw[0].size > 1000
    assert max(sides) < 100
    assert found.maps.any(axis=(1, 2)).all()


def test_the_mirror_image_has_a_say_and_no_gradient(subjects: ModuleType, classifiers: dict[str, Classifier]) -> None:
    plain = classifiers["test_efficientnet"]
    both = Classifier(plain.backbone, plain.head, mirror=True).eval()
    images = subjects.pictures(plain.backbone.spec.size)[:2]
    recorded = []
    hook = plain.head.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    found = heatmaps(both, images, target=0)
    hook.remove()
    assert recorded == [True, False]
    np.testing.assert_allclose(found.raw, heatmaps(plain, images, target=0).raw, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        np.testing.assert_allclose(found.logits, both(torch.from_numpy(images)).numpy(), rtol=1e-4, atol=1e-4)


def test_enlarging_keeps_places() -> None:
    raw = np.zeros((1, 4, 4), np.float32)
    raw[0, 1, 2] = -3.0
    large = enlarged(raw, (64, 64))[0]
    row, column = np.unravel_index(int(np.abs(large).argmax()), large.shape)
    assert (row // 16, column // 16) == (1, 2)
    assert large.min() == -1.0


def test_a_peak_between_two_cells_is_found_between_them() -> None:
    raw = np.zeros((1, 7, 7), np.float32)
    raw[0, 3, 2:4] = 1.0
    raw[0, 3, 1] = raw[0, 3, 4] = 0.5
    large = enlarged(raw, (224, 224))[0]
    row, column = np.unravel_index(large.argmax(), large.shape)
    assert abs(column + 0.5 - 3 * 32) < 8  # their border; a bilinear map is flat from 80 to 112
    assert abs(row + 0.5 - 3.5 * 32) < 1
    assert large.min() == 0.0
    assert (enlarged(-raw, (224, 224)) <= 0.2).all()  # a contrast may swing a little past zero


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "smoothgrad"}, "smoothgrad"),
        ({"layer": "blocks.99"}, "blocks.99"),
        ({"target": 5}, "5"),
        ({"target": -1}, "-1"),
        ({"target": [0, 1]}, "2"),
    ],
)
def test_what_does_not_exist_is_named(
    options: dict[str, Any], named: str, subjects: ModuleType, classifiers: dict[str, Classifier]
) -> None:
    images = subjects.pictures(160)
    with pytest.raises(RecipeError, match=named):
        heatmaps(classifiers["test_efficientnet"], images, **options)
