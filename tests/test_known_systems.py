"""The shipped recipes of known systems: what their table says, a plan that fits the network, and an honest header."""

from __future__ import annotations

import pytest

from topwork.errors import WeightsError
from topwork.models.weights import find_weights
from topwork.recipe import load_recipe, packaged_recipes
from topwork.workflow.prepare import network_for

# recipe: network, split, part of the plan of its last phase (None: not below the head)
SYSTEMS = {
    "flowers-resnet50-layers": ("resnet50", "75/10/15", "freeze 137 of 157 layers, train 20"),
    "flowers-resnet50-blocks": ("resnet50", "75/10/15", "train 2 (layer3, layer4)"),
    "flowers-mobilenetv2-layers": ("mobilenetv2_100", "75/10/15", "layers, train "),
    "flowers-mobilenetv2-blocks": ("mobilenetv2_100", "75/10/15", "train 3 (blocks.5, blocks.6, conv_head)"),
    "flowers-mobilenetv2-160": ("mobilenetv2_100", "80/20/0", "layers, train 30"),
    "flowers-resnet50-256": ("resnet50", "80/10/10", "freeze 107 of 157 layers, train 50"),
    "baseline-cnn": ("baseline_cnn", "80/10/10", "train all 3 blocks"),
    "flowers-resnet34-onecycle": ("resnet34", "90/10/0", "train all 5 blocks"),
    "resnet9-scratch": ("resnet9", "80/10/10", "train all 6 blocks"),
    "own-photos-mobilenet": ("mobilenetv1_100", "80/10/10", "train "),
}


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_known_system_is_what_its_table_says(name: str) -> None:
    network, split, plan = SYSTEMS[name]
    recipe = load_recipe(name, ["backbone.weights=none", "data.image_size=64"])
    assert (recipe.backbone.name, recipe.data.split) == (network, split)
    made = network_for(recipe)
    assert plan in str(made.plan)
    assert made.features == (recipe.phase1.train == "head")


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_its_header_is_a_lab_notebook(name: str) -> None:
    header = packaged_recipes()[name].read_text(encoding="utf-8").split("[data]")[0]
    header = " ".join(line.removeprefix("#").strip() for line in header.splitlines())
    assert "topwork fit " in header
    assert f"--recipe {name}" in header
    assert "Reported: " in header
    assert "Expected: " in header
    recipe = load_recipe(name)
    if recipe.backbone.weights == "none":
        assert "from random weights" in header
    else:
        assert f"{recipe.backbone.name}.safetensors" in header
        assert "https://huggingface.co/timm/" in header
        assert "`--set backbone.weights=none`" in header


def test_statistics_of_networks_from_scratch_move() -> None:
    for name in ("baseline-cnn", "resnet9-scratch", "flowers-resnet34-onecycle"):
        recipe = load_recipe(name)
        phases = [phase for phase in (recipe.phase1, recipe.phase2) if phase.epochs and phase.train == "all"]
        assert phases
        assert {phase.batchnorm for phase in phases} == {"update"}


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv2_100"])
@pytest.mark.slow
def test_the_recipes_find_a_folder_of_weights(name: str, weights_dir: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_WEIGHTS", str(weights_dir))
    source = find_weights(name, "hub")
    assert (source.kind, source.metadata.padding, source.metadata.mean) == ("file", "same", (0.5, 0.5, 0.5))


def test_missing_weights_say_what_to_download_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPWORK_WEIGHTS", raising=False)
    with pytest.raises(WeightsError) as caught:
        network_for(load_recipe("flowers-resnet50-256"))
    for words in ("timm/resnet50.a1_in1k/resolve/main/model.safetensors", "TOPWORK_WEIGHTS", "backbone.weights=none"):
        assert words in caught.value.fix
