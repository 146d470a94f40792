"""Weights come from where they should, fit exactly, or the error says what to do."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from topwork.errors import WeightsError
from topwork.models import weights as weights_module
from topwork.models.backbone import create_backbone
from topwork.models.metadata import parse_metadata
from topwork.models.probe import backbone_identity, probe_spec
from topwork.models.weights import find_weights, packaged_names, read_tensors, state_digest
from topwork.models.wheels import WHEELS


def hub_names(name: str) -> dict[str, torch.Tensor]:
    """A full state with the hub's key names, classifier included, and numbers of its own."""
    backbone = create_backbone(name, weights="none")
    torch.manual_seed(1)
    state = {
        key: tensor if key.endswith("num_batches_tracked") else torch.rand_like(tensor)
        for key, tensor in backbone.network.state_dict().items()
    }
    prefix = {"test_convnext": "head.fc", "test_vit": "head"}.get(name, "classifier" if "efficient" in name else "fc")
    return state | {f"{prefix}.weight": torch.rand(1000, backbone.width), f"{prefix}.bias": torch.rand(1000)}


def without_head(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    kept = create_backbone(name, weights="none").network.state_dict()
    return {key: state[key] for key in kept}


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "test_efficientnet", "test_convnext", "test_vit"])
def test_a_local_file_with_the_hubs_names_loads_and_its_classifier_is_ignored(name: str, tmp_path: Path) -> None:
    state = hub_names(name)
    path = tmp_path / "file.safetensors"
    save_file(state, path)
    backbone = create_backbone(name, weights=str(path))
    assert backbone.provenance.digest == state_digest(without_head(state, name))
    assert (backbone.provenance.kind, backbone.provenance.path) == ("file", str(path))
    assert backbone.spec == probe_spec(name, str(path)) == probe_spec(name, "none")
    assert backbone.identity == backbone_identity(name, str(path)) != backbone_identity(name, "none")


@pytest.mark.parametrize("choice", ["packaged", "hub"])
def test_the_weights_folder_is_searched_first(choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = hub_names("efficientnet_lite0")
    save_file(state, tmp_path / "efficientnet_lite0.safetensors")
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    provenance = create_backbone("efficientnet_lite0", weights=choice).provenance
    assert provenance.path == str(tmp_path / "efficientnet_lite0.safetensors")
    assert provenance.digest == state_digest(without_head(state, "efficientnet_lite0"))


def test_a_weights_folder_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_WEIGHTS", "/nowhere")
    with pytest.raises(WeightsError, match=r"TOPWORK_WEIGHTS must name a folder\. Got '/nowhere'"):
        find_weights("efficientnet_lite0", "packaged")


@pytest.mark.parametrize("choice", ["packaged", "hub"])
def test_the_hubs_cache_is_used_without_the_network(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    state = hub_names("test_resnet")
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    backbone = create_backbone("test_resnet", weights=choice)
    assert backbone.provenance.source == "Hugging Face hub timm/test_resnet.r160_in1k"
    assert backbone.provenance.licence == "apache-2.0"
    assert backbone.provenance.digest == state_digest(without_head(state, "test_resnet"))
    assert backbone.identity == backbone_identity("test_resnet", choice)


@pytest.mark.parametrize(("choice", "reason"), [("packaged", "never downloads"), ("hub", "the download failed")])
def test_missing_hub_weights_say_where_they_were_sought_and_how_to_get_them(
    choice: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        create_backbone("resnet34", weights=choice)
    for words in (str(tmp_path / "resnet34.safetensors"), str(tmp_path / "hub"), reason):
        assert words in caught.value.what
    for words in (
        "https://huggingface.co/timm/resnet34.a1_in1k/resolve/main/model.safetensors",
        "save it as resnet34.safetensors",
        "TOPWORK_WEIGHTS",
        "backbone.weights=none",
    ):
        assert words in caught.value.fix


def test_a_network_without_published_weights() -> None:
    with pytest.raises(WeightsError, match=r"no pretrained weights of mobilenetv4_conv_small_035"):
        create_backbone("mobilenetv4_conv_small_035", weights="hub")


def test_a_wheel_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    for name, package in packaged_names().items():
        with pytest.raises(WeightsError, match=f"pip install {package}"):
            find_weights(name, "packaged")


def test_a_wheel_with_other_bytes_is_refused_before_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_weights("efficientnet_lite0", "packaged")
    assert source.path is not None
    other = tmp_path / "other.pth"
    data = bytearray(source.path.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(WeightsError, match=r"is damaged: its SHA-256 starts with"):
        read_tensors(weights_module.WeightsSource(name=source.name, kind="packaged", label="", path=other))


@pytest.mark.parametrize("name", WHEELS)
def test_every_name_in_a_wheel_has_one_place_in_the_network(name: str) -> None:
    backbone = create_backbone(name, weights="none")
    wheel = WHEELS[name]
    ours = {key.rpartition(".")[0] for key in backbone.network.state_dict()}
    kinds = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    theirs = [f"_blocks.{number}.{kind}" for number in range(sum(wheel.depths)) for kind in kinds]
    theirs = [key for key in theirs if not key.startswith(("_blocks.0._expand", "_blocks.0._bn0"))]
    theirs += ["_conv_stem", "_bn0", "_conv_head", "_bn1"]
    mapped = [wheel.timm_key(f"{key}.weight").rpartition(".")[0] for key in theirs]
    assert sorted(mapped) == sorted(ours)


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        ("missing.safetensors", "this file does not exist"),
        ("model.pth", "pickles are never read"),
        ("cut.safetensors", "is damaged"),
        ("text.safetensors", "is damaged"),
        ("nan.safetensors", "conv1.0.weight holds values that are not finite"),
        ("other.safetensors", "do not belong to test_resnet: "),
        ("fewer.safetensors", "1 tensors are missing (first: layer4.0.conv1.weight)"),
        ("more.safetensors", "1 tensors are left over (first: surprise)"),
        ("shape.safetensors", "1 tensors have another shape (first: layer4.0.conv1.weight)"),
        ("named.safetensors", "is for resnet50, not for test_resnet"),
    ],
)
def test_files_that_cannot_be_used(weights: str, what: str, tmp_path: Path) -> None:
    state = hub_names("test_resnet")
    key = "layer4.0.conv1.weight"
    save_file(hub_names("test_efficientnet"), tmp_path / "other.safetensors")
    save_file({k: v for k, v in state.items() if k != key}, tmp_path / "fewer.safetensors")
    save_file(state | {"surprise": torch.zeros(1)}, tmp_path / "more.safetensors")
    save_file(state | {key: torch.zeros(2)}, tmp_path / "shape.safetensors")
    save_file(state | {"conv1.0.weight": state["conv1.0.weight"] * torch.nan}, tmp_path / "nan.safetensors")
    save_file(state, tmp_path / "named.safetensors", metadata={"architecture": "timm resnet50"})
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "more.safetensors").read_bytes()[:-100])
    (tmp_path / "text.safetensors").write_text("no tensors at all")
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        create_backbone("test_resnet", weights=str(tmp_path / weights))
    assert what in caught.value.what
    assert caught.value.fix


def test_metadata_reaches_the_network(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    texts = {"padding": "same", "bn_eps": "2e-3", "mean": "0.1, 0.2, 0.3", "std": "0.4", "input_size": "96"}
    save_file(hub_names("test_efficientnet"), path, metadata=texts | {"crop": "1.0", "licence": "MIT", "source": "me"})
    backbone = create_backbone("test_efficientnet", weights=str(path))
    provenance, spec = backbone.provenance, backbone.spec
    assert (provenance.padding, provenance.bn_eps, provenance.licence) == ("same", 2e-3, "MIT")
    assert provenance.source == "file own.safetensors (me)"
    assert (spec.mean, spec.std, spec.size, spec.crop) == ((0.1, 0.2, 0.3), (0.4,) * 3, 96, 1.0)
    plain = tmp_path / "plain.safetensors"
    save_file(hub_names("test_efficientnet"), plain)
    x = torch.rand(1, 3, 96, 96)
    assert not torch.allclose(backbone(x), create_backbone("test_efficientnet", weights=str(plain))(x))


def test_the_sentence_about_scaling_is_understood() -> None:
    found = parse_metadata({"input_scaling": "RGB, x/127.5-1 (mean 0.5, std 0.5), 224x224"}, file="a")
    assert (found.mean, found.std, found.size) == ((0.5,) * 3, (0.5,) * 3, 224)
    assert found.knows_input
    found = parse_metadata({"input_scaling": "mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225"}, file="a")
    assert (found.mean, found.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("padding", "diagonal"),
        ("bn_eps", "small"),
        ("bn_eps", "-1"),
        ("mean", "0.5, 0.5"),
        ("std", "0"),
        ("input_size", "224x160"),
        ("input_scaling", "as usual"),
        ("interpolation", "area"),
        ("crop", "1.5"),
    ],
)
def test_metadata_that_cannot_be_understood_is_never_guessed(key: str, text: str) -> None:
    with pytest.raises(WeightsError, match=f"The metadata key '{key}' of a must be"):
        parse_metadata({key: text}, file="a")


@given(st.dictionaries(st.sampled_from(["mean", "std", "input_size", "input_scaling", "crop", "bn_eps"]), st.text()))
def test_any_metadata_is_read_or_refused(texts: dict[str, str]) -> None:
    try:
        parse_metadata(texts, file="a")
    except WeightsError:
        return  # the only refusal there is


def test_a_digest_of_tensors_sees_names_types_shapes_and_bytes_but_no_order() -> None:
    a, b = torch.arange(4.0), torch.zeros(2, 2, dtype=torch.bfloat16)
    expected = state_digest({"a": a, "b": b})
    assert state_digest({"b": b.clone(), "a": a.clone()}) == expected
    for other in (
        {"a": a, "c": b},
        {"a": a + 1, "b": b},
        {"a": a.reshape(2, 2), "b": b},
        {"a": a, "b": b.to(torch.float16)},
        {"a": a},
    ):
        assert state_digest(other) != expected
    assert state_digest({"scalar": torch.tensor(3)}) != state_digest({"scalar": torch.tensor(4)})
