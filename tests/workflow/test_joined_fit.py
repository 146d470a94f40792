"""A fit with two networks side by side: trained, packed, used and explained as one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import topwork
from topwork.recipe import load_recipe, packaged_recipes
from topwork.workflow.prepare import network_for

BOTH = "mobilenetv2_035+mobilenetv2_050"


@pytest.fixture(scope="module")
def joined_run(drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory, tiny: tuple[str, ...]) -> topwork.Run:
    settings = [*tiny, f"backbone.name={BOTH}", "phase2.train=top-2 blocks", "head.kind=kernel"]
    return topwork.fit(drawn_photos, to=tmp_path_factory.mktemp("runs") / "joined", settings=settings)


def test_the_bundle_says_what_the_run_said(joined_run: topwork.Run, drawn_photos: Path) -> None:
    card = json.loads((joined_run.path / "model" / "model.json").read_text(encoding="utf-8"))
    assert card["backbone"]["name"] == BOTH
    with (joined_run.path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    answers = topwork.predict(joined_run.path, [drawn_photos / row["path"] for row in rows])
    assert [answer.predicted for answer in answers] == [row["predicted"] for row in rows]


def test_both_networks_are_trained(joined_run: topwork.Run) -> None:
    from topwork.exports.bundle import read_bundle
    from topwork.models.backbone import create_backbone

    trained = read_bundle(joined_run.path / "model").classifier.backbone.state_dict()
    start = create_backbone(BOTH, weights="none", image_size=64).state_dict()
    moved = {name.split(".")[2] for name, tensor in start.items() if not tensor.equal(trained[name])}
    assert moved == {"0", "1"}


def test_a_heatmap_covers_both(joined_run: topwork.Run, drawn_photos: Path) -> None:
    photos = sorted(drawn_photos.rglob("*.jpg"))[:2]
    found = topwork.explain(joined_run.path, photos)
    assert [photo.heatmap.shape for photo in found.photos] == [(64, 64)] * 2


def test_the_recipe_for_accuracy_trains_three_networks_under_one_head() -> None:
    recipe = load_recipe("best", ["backbone.weights=none", "data.image_size=64"])
    network = network_for(recipe)
    assert recipe.head.kind == "kernel"
    assert recipe.data.mirror
    assert len(recipe.backbone.name.split("+")) == 3
    assert network.build().width == 3 * 1280
    assert "(blocks.5, blocks.6, conv_head)" in str(network.plan)
    header = packaged_recipes()["best"].read_text(encoding="utf-8").split("[backbone]")[0]
    assert "pip install 'topwork[best]'" in header
