"""A Keras model gives the probabilities of the bundle that it was made of, also where topwork is not."""

from __future__ import annotations

import importlib.abc
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from topwork.data.decode import decode
from topwork.data.drawn import SPECIES, draw_flower
from topwork.data.view import evaluation_view
from topwork.errors import ExportError
from topwork.exports.bundle import Bundle, BundleFacts, read_bundle, write_bundle
from topwork.exports.predictor import Predictor
from topwork.exports.steps import trace_steps
from topwork.exports.to_keras import keras_model, keras_probabilities, save_keras
from topwork.models.backbone import create_backbone
from topwork.models.classifier import Classifier
from topwork.models.head import build_head
from topwork.models.kernel_head import KernelHead
from topwork.recipe import HeadChoice
from topwork.spec import InputSpec

Views = npt.NDArray[np.uint8]
LINEAR = HeadChoice()
DEEP = HeadChoice(hidden=(9, 7), batchnorm=True, dropout=0.3)
KERNEL = HeadChoice(kind="kernel", landmarks=12)
# Opens the file with Keras alone and prints how far it is from the probabilities beside it.
ELSEWHERE = """
import sys
sys.modules["topwork"] = None
import keras, numpy as np
views, own = np.load(sys.argv[2]), np.load(sys.argv[3])
model = keras.saving.load_model(sys.argv[1])
print(abs(model.predict(views, verbose=0) - own).max())
"""


def drawn_views(spec: InputSpec, count: int = 6) -> Views:
    pictures = [draw_flower(SPECIES[n % len(SPECIES)], seed=n, size=96).pixels for n in range(count)]
    return np.stack([evaluation_view(pixels, spec) for pixels in pictures])


def photo_views(folder: Path, spec: InputSpec) -> Views:
    photos = sorted(folder.rglob("*.jpg"))[::120]
    return np.stack([evaluation_view(decode(photo, target=spec.resize).pixels, spec) for photo in photos])


def bundle_of(
    name: str, folder: Path, *, head: HeadChoice, size: int | None, weights: str = "none", mirror: bool = False
) -> Bundle:
    """A model whose numbers are nobody's defaults, and whose answers differ much from picture to picture."""
    torch.manual_seed(5)
    backbone = create_backbone(name, weights=weights, image_size=size)
    classifier = Classifier(backbone, build_head(head, width=backbone.width, classes=3), mirror=mirror)
    views = torch.from_numpy(drawn_views(backbone.spec, 12))
    norms = [module for module in classifier.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.mul_(1 + 0.1 * torch.rand_like(norm.weight))
            norm.bias.add_(0.1 * torch.rand_like(norm.bias))
            norm.momentum = 1.0
        if weights == "none":  # else random layers, one upon the other, forget what picture they began with
            classifier.train()(views)
        classifier.eval()
        if isinstance(classifier.head, KernelHead):
            _store(classifier.head, classifier.features(views))
        logits = classifier(views)
        classifier.head.get_submodule("logits").get_parameter("bias").sub_(logits.mean(0))  # no class is always ahead
        spread = logits.std(0).max()
    facts = BundleFacts(
        classes=("a", "b", "c"),
        head=head,
        temperature=float(spread.clamp(1e-4, 900)),
        precision="f32",
        plan="",
        recipe={},
        provenance={},
    )
    write_bundle(folder, classifier, facts=facts)
    return read_bundle(folder)


def _store(head: KernelHead, features: torch.Tensor) -> None:
    """The training photos of a kernel head, some of whose features are negative."""
    directions = head.directions(features - features.mean())
    head.mean.copy_(directions.mean(0))
    head.scale.copy_((directions - head.mean).norm(dim=1).mean())
    head.landmarks.copy_(head.embedded(features - features.mean()))
    head.logits.weight.normal_()


def own_and_keras(bundle: Bundle, path: Path, views: Views) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    save_keras(keras_model(bundle), path)
    return Predictor.load(bundle, engine="torch").probabilities(views), keras_probabilities(path, views)


@pytest.mark.parametrize(
    ("name", "size", "head", "mirror"),
    [
        ("test_efficientnet", 65, LINEAR, True),  # squeeze-and-excitation, SiLU
        ("test_resnet", 72, DEEP, False),  # a deep stem, a padded max-pooling, average poolings before shortcuts
        ("mobilenetv2_035", 65, KERNEL, True),  # PyTorch's padding at an odd side
        ("tf_mobilenetv3_small_minimal_100", 65, LINEAR, False),  # TensorFlow's padding at an odd side
        ("baseline_cnn", 36, LINEAR, False),  # a picture that becomes a row
        ("resnet9", 32, KERNEL, False),
    ],
)
def test_probabilities_are_the_bundles(name: str, size: int, head: HeadChoice, mirror: bool, tmp_path: Path) -> None:
    bundle = bundle_of(name, tmp_path / "model", head=head, size=size, mirror=mirror)
    own, found = own_and_keras(bundle, tmp_path / "m.keras", drawn_views(bundle.spec))
    assert own.std(axis=0).max() > 0.02  # a constant answer would be easy to repeat
    np.testing.assert_allclose(found, own, atol=1e-5)


@pytest.mark.parametrize("head", [DEEP, KERNEL], ids=["deep", "kernel"])
def test_the_older_format_holds_the_same_model(head: HeadChoice, tmp_path: Path) -> None:
    bundle = bundle_of("test_efficientnet", tmp_path / "model", head=head, size=64, mirror=True)
    own, found = own_and_keras(bundle, tmp_path / "m.h5", drawn_views(bundle.spec))
    np.testing.assert_allclose(found, own, atol=1e-5)


def test_files_hold_nothing_that_runs_code_of_ours(tmp_path: Path) -> None:
    bundle = bundle_of("test_efficientnet", tmp_path / "model", head=KERNEL, size=64, mirror=True)
    save_keras(keras_model(bundle), tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        config = json.loads(archive.read("config.json"))
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]

    def modules(part: Any) -> set[str]:
        if isinstance(part, list):
            return set().union(*map(modules, part))
        if not isinstance(part, dict):
            return set()
        own = {f"{part['module']}.{part['class_name']}"} if part.get("module") else set()
        return own.union(*map(modules, part.values()))

    found = modules(config)
    assert all(each.startswith("keras.") for each in found)
    assert not [each for each in found if "Lambda" in each]


@pytest.mark.parametrize(
    ("name", "about"), [("test_vit", "getattr"), ("test_convnext", "permute"), ("test_nfnet", "ScaledStdConv2d")]
)
def test_what_cannot_be_rebuilt_is_refused_in_a_sentence(name: str, about: str, tmp_path: Path) -> None:
    size = {"test_vit": 160}.get(name, 64)
    bundle = bundle_of(name, tmp_path / "model", head=LINEAR, size=size)
    with pytest.raises(ExportError, match=about) as caught:
        keras_model(bundle)
    assert name in caught.value.what
    assert caught.value.fix
    assert "\n" not in caught.value.what


def test_a_border_of_zeros_is_refused_where_it_would_win(tmp_path: Path) -> None:
    bundle = bundle_of("test_resnet", tmp_path / "model", head=LINEAR, size=64)
    bundle.classifier.backbone.network.act1 = torch.nn.SiLU()  # negative values, which zeros would beat
    with pytest.raises(ExportError, match="MaxPool2d"):
        keras_model(bundle)


def test_a_network_that_looks_at_the_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of("resnet9", tmp_path / "model", head=LINEAR, size=32)
    features = bundle.classifier.backbone.network.forward_features

    def undecided(x: torch.Tensor) -> torch.Tensor:
        return features(x) if x.mean() > 0 else features(-x)

    monkeypatch.setattr(bundle.classifier.backbone.network, "forward_features", undecided)
    with pytest.raises(ExportError, match="resnet9 is no plain list of layers"):
        keras_model(bundle)


def test_steps_are_the_layers_in_order_and_own_all_weights(tmp_path: Path) -> None:
    bundle = bundle_of("test_resnet", tmp_path / "model", head=DEEP, size=64)
    steps = trace_steps(bundle.classifier)
    assert len({step.name for step in steps}) == len(steps)
    assert steps[-1].name == "head_logits"
    seen = {"pixels"}
    for step in steps:
        assert set(step.inputs) <= seen
        seen.add(step.name)
    owned = {id(p) for step in steps if step.module is not None for p in step.module.parameters()}
    assert owned == {id(p) for p in bundle.classifier.parameters()}


def test_the_users_keras_settings_do_not_matter(tmp_path: Path) -> None:
    import keras

    bundle = bundle_of("test_efficientnet", tmp_path / "model", head=LINEAR, size=64)
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        own, found = own_and_keras(bundle, tmp_path / "m.keras", drawn_views(bundle.spec))
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(found, own, atol=1e-5)


def test_without_keras_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of("resnet9", tmp_path / "model", head=LINEAR, size=32)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ExportError) as caught:
        keras_model(bundle)
    assert caught.value.fix == "pip install 'topwork[keras]'"


def test_a_backend_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoTensorFlow(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *rest: Any) -> None:
            if name == "keras":
                raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    bundle = bundle_of("resnet9", tmp_path / "model", head=LINEAR, size=32)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoTensorFlow(), *sys.meta_path])
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        keras_model(bundle)


@pytest.mark.slow
def test_pytorch_runs_keras_where_nobody_chose() -> None:
    program = (
        "import os, topwork.exports.to_keras as door; door.keras_version(); import keras\n"
        "assert keras.config.backend() == 'torch' and 'KERAS_BACKEND' not in os.environ"
    )
    settings = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_process_without_topwork_gives_the_same(ending: str, tmp_path: Path) -> None:
    bundle = bundle_of("test_efficientnet", tmp_path / "model", head=KERNEL, size=64, mirror=True)
    views = drawn_views(bundle.spec)
    own, _ = own_and_keras(bundle, tmp_path / f"m{ending}", views)
    np.save(tmp_path / "views.npy", views)
    np.save(tmp_path / "own.npy", own)
    files = [str(tmp_path / name) for name in (f"m{ending}", "views.npy", "own.npy")]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "head"),
    [
        ("efficientnet_lite0", "packaged", KERNEL),
        ("efficientnet_lite0+efficientnet_lite1", "packaged", KERNEL),
        ("mobilenetv1_100", "mobilenetv1_100.safetensors", DEEP),
        ("mobilenetv2_100", "mobilenetv2_100.safetensors", KERNEL),
        ("mobilenetv2_100", "none", LINEAR),
        ("resnet34", "none", LINEAR),
        ("resnet50", "none", DEEP),
    ],
)
def test_real_networks_agree_on_real_photos(
    name: str, weights: str, head: HeadChoice, tmp_path: Path, flowers: Path, weights_dir: Path
) -> None:
    source = str(weights_dir / weights) if "." in weights else weights
    bundle = bundle_of(name, tmp_path / "model", head=head, size=None, weights=source, mirror=head is KERNEL)
    own, found = own_and_keras(bundle, tmp_path / "m.keras", photo_views(flowers, bundle.spec))
    assert len(own) >= 24
    assert own.std(axis=0).max() > 0.02
    np.testing.assert_allclose(found, own, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv3_small_100",
        "mobilenetv4_conv_small",
        "efficientnet_b0",
        "efficientnet_lite1",
        "mobilenetv2_035+mobilenetv2_050",
        "resnet50d",
        "seresnet50",
        "resnext50_32x4d",
        "wide_resnet50_2",
    ],
)
def test_their_relatives_agree_too(name: str, tmp_path: Path) -> None:
    bundle = bundle_of(name, tmp_path / "model", head=LINEAR, size=65)
    own, found = own_and_keras(bundle, tmp_path / "m.keras", drawn_views(bundle.spec))
    assert own.std(axis=0).max() > 0.02
    np.testing.assert_allclose(found, own, atol=1e-4)
