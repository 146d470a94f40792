"""Networks from scratch are backbones like any other, and the phases may train them from the pictures up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import topwork
from topwork.errors import RecipeError, WeightsError
from topwork.exports.bundle import read_bundle
from topwork.models.backbone import create_backbone
from topwork.models.catalogue import list_backbones
from topwork.models.layers import list_layers
from topwork.models.zoo import ZOO, zoo_network
from topwork.recipe import load_recipe
from topwork.training.activations import ActivationCache
from topwork.workflow.prepare import network_for
from topwork.workflow.rundir import RunDir

SCRATCH = (
    "backbone.name=resnet9",
    "backbone.weights=none",
    "data.image_size=32",
    "data.split=60/20/20",
    *(f"phase{number}.{choice}" for number in (1, 2) for choice in ("train=all", "epochs=1", "batchnorm=update")),
    "phase1.optimizer=adam",
    "head.kind=linear",
    "data.mirror=false",
)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_cut_gives_the_same_features(name: str) -> None:
    backbone = create_backbone(name, weights="none", image_size=32)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = backbone.forward_features(x)
        for cut in range(len(backbone.blocks) + 1):
            torch.testing.assert_close(backbone.top(cut)(backbone.trunk(cut)(x)), features)
        assert backbone.pool(features).shape == (2, backbone.width)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_layers_hold_every_parameter_once(name: str) -> None:
    backbone = create_backbone(name, weights="none")
    layers = list_layers(backbone)
    assert sum(layer.size for layer in layers) == sum(p.numel() for p in backbone.parameters())
    assert [layer.block for layer in layers] == sorted(
        (layer.block for layer in layers), key=backbone.block_names.index
    )
    assert not any("Dropout" in layer.kind or layer.kind == "Identity" for layer in layers)


@pytest.mark.parametrize("block", ["baseline_cnn.conv2", "resnet9.conv2"])
def test_pooling_before_the_relu_gives_the_same_bits_and_gradients(block: str) -> None:
    name, part = block.split(".")
    stage = getattr(zoo_network(name, 32), part)
    usual = [module for kind, module in stage.named_children() if kind != "pool"] + [stage.pool]
    width = next(stage.parameters()).shape[1]
    found = []
    for layers in (list(stage), usual):
        x = torch.randn(2, width, 12, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
        out = torch.nn.Sequential(*layers)(x)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        found.append((out, x.grad))
    assert (found[0][0] == 0).any()  # the ReLU has something to do
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_the_baseline_has_eleven_million_parameters_at_its_size() -> None:
    size = sum(p.numel() for p in create_backbone("baseline_cnn", weights="none").parameters())
    assert size == pytest.approx(11.2e6, rel=0.01)


def test_random_weights_are_the_same_every_time_and_leave_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    first, second = (create_backbone("resnet9", weights="none").provenance.digest for _ in range(2))
    assert first == second
    assert torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_says_what_to_do() -> None:
    with pytest.raises(WeightsError) as caught:
        create_backbone("resnet9", weights="packaged")
    assert "backbone.weights=none" in caught.value.fix
    with pytest.raises(RecipeError, match="16 pixels"):
        create_backbone("baseline_cnn", weights="none", image_size=16)
    with pytest.raises(RecipeError, match="trains nothing"):
        network_for(load_recipe("probe", ["phase1.epochs=0"]))
    assert {row.name: row.offline for row in list_backbones("cnn")}["baseline_cnn"] == "from scratch"


def test_from_scratch_no_trunk_is_made_or_run(
    drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "topwork.training.extraction.open_trunk", lambda *_, **__: pytest.fail("a random trunk was prepared")
    )
    run = topwork.fit(drawn_photos, settings=SCRATCH, to=tmp_path / "run")
    (store,) = ActivationCache().summaries()
    assert (store.what, store.rows) == ("pictures", 50)
    assert store.bytes < 50 * (32 * 32 * 3 + 200)  # a byte a value
    written = RunDir(run.path)
    assert [(line["phase"], line["epoch"]) for line in written.history()] == [(1, 1), (2, 1)]
    assert "train all 6 blocks" in written.provenance()["plan"]
    assert written.provenance()["engine"]["name"] == "torch"
    bundle = read_bundle(run.path)
    assert bundle.from_scratch
    start = create_backbone("resnet9", weights="none", image_size=32).state_dict()
    moved = [
        key for key, value in bundle.classifier.backbone.state_dict().items() if not torch.equal(value, start[key])
    ]
    assert sorted(moved) == sorted(start)  # weights and running statistics alike


def test_the_bundle_answers_as_the_run_did(drawn_photos: Path, tmp_path: Path) -> None:
    run = topwork.fit(drawn_photos, settings=[*SCRATCH, "backbone.name=baseline_cnn"], to=tmp_path / "run")
    again = topwork.evaluate(run.path, data=drawn_photos)
    assert again.splits["test"].accuracy.n == 50
    rows = RunDir(run.path).predictions_file.read_text(encoding="utf-8").splitlines()[1:]
    right = sum(line.split(",")[2] == line.split(",")[3] for line in rows)
    assert again.splits["test"].accuracy.value * 50 == pytest.approx(right, abs=1)  # the engine may round otherwise
