"""A comparison of tiny networks on drawn photos, end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork.cli.app import run as command
from topwork.errors import RecipeError, TopworkError, WeightsError
from topwork.measures.predictions import read_predictions_csv
from topwork.models.backbone import Backbone
from topwork.recipe import load_recipe
from topwork.workflow.compare import Comparison
from topwork.workflow.ladder import ladder_entries
from topwork.workflow.rounds import Entry, RoundPlan

TINY = """
[data]
image_size = 64
split = "80/20/0"
[head]
kind = "linear"
[backbone]
name = "test_efficientnet"
weights = "none"
[engine]
precision = "f32"
[phase2]
train = "top-1 blocks"
epochs = {epochs}
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recipes")
    for name, epochs in (("frozen", 0), ("tuned", 2)):
        (folder / f"{name}.toml").write_text(TINY.format(epochs=epochs), encoding="utf-8")
    return [folder / "frozen.toml", folder / "tuned.toml"]


@pytest.fixture(scope="module")
def compared(drawn_photos: Path, recipes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    to = tmp_path_factory.mktemp("compare") / "drawn"
    with pytest.MonkeyPatch.context() as patch:  # without a test part `fit` would; folds are cross-validation enough
        patch.setattr("topwork.workflow.fit.cross_validated", lambda *_, **__: pytest.fail("folds inside folds"))
        return topwork.compare(drawn_photos, recipes, to=to, folds=2, seeds=2)


def test_the_ladder_is_always_there_and_every_photo_is_judged_once(compared: Comparison) -> None:
    assert list(compared.ranking.scores) == [
        "frozen",
        "tuned",
        "majority class",
        "colour histogram",
        "nearest neighbours",
    ]
    for scores in compared.ranking.scores.values():
        assert scores.accuracy.n == 50
        assert np.sum(scores.confusion_matrix) == pytest.approx(50)


def test_the_probe_joins_where_no_recipe_is_one(drawn_photos: Path, recipes: list[Path], tmp_path: Path) -> None:
    found = topwork.compare(drawn_photos, recipes[1:], to=tmp_path / "c", folds=2, seeds=1)
    assert list(found.ranking.scores)[-1] == "probe"
    assert found.facts["probe"].frozen
    assert any("one seed" in sentence for sentence in found.verdict)


def test_only_what_chance_decides_is_repeated(compared: Comparison) -> None:
    assert {name: scores.seeds for name, scores in compared.ranking.scores.items()} == {
        "frozen": 2,  # its random trunk is drawn anew
        "tuned": 2,
        "majority class": 1,
        "colour histogram": 1,
        "nearest neighbours": 1,
    }


@pytest.mark.parametrize(
    ("recipe", "settings", "joins"),
    [
        ("probe", [], False),
        ("probe", ["loss.label_smoothing=0.0", "phase2.lr=0.1", "data.seed=3"], False),
        ("probe", ["data.mirror=true"], True),
        ("probe", ["phase1.weight_decay=1.0"], True),
        ("probe", ["phase1.views=augmented"], True),
        ("kernel", [], True),
        ("kernel", ["data.mirror=false", "phase1.optimizer=lbfgs"], True),
        ("default", [], True),
    ],
)
def test_the_probe_joins_whatever_is_no_linear_head_on_clean_features(
    recipe: str, settings: list[str], joins: bool
) -> None:
    rungs = ladder_entries([Entry(name="given", recipe=load_recipe(recipe, settings))])
    assert ("probe" in [entry.name for entry in rungs]) == joins


@pytest.mark.parametrize(
    ("recipe", "settings", "frozen", "seedless"),
    [
        ("default", [], False, False),
        ("default", ["phase2.train=none"], True, True),
        ("probe", [], True, True),
        ("probe", ["phase1.optimizer=adamw"], True, False),
        ("probe", ["data.views=fixed:2"], True, False),
        ("probe", ["data.views=fixed:2", "phase1.views=clean"], True, True),
        ("probe", ["phase1.views=augmented"], True, False),
        ("probe", ["backbone.weights=none"], True, False),
        ("kernel", [], True, True),
        ("kernel", ["data.views=fixed:2"], True, True),  # it learns from clean views only
        ("kernel", ["head.landmarks=100"], True, True),
        ("kernel", ["head.landmarks=99"], True, False),  # of more photos some are drawn
        ("kernel", ["backbone.weights=none"], True, False),
    ],
)
def test_what_chance_can_touch(recipe: str, settings: list[str], frozen: bool, seedless: bool) -> None:
    entry = Entry(name="x", recipe=load_recipe(recipe, settings))
    assert (entry.frozen, entry.seedless(100)) == (frozen, seedless)


def test_random_weights_follow_the_seed_and_so_does_their_name() -> None:
    import torch

    from topwork.models.backbone import create_backbone
    from topwork.models.probe import backbone_identity

    def made(seed: int) -> Backbone:
        return create_backbone("test_efficientnet", weights="none", image_size=64, seed=seed)

    first, again, other = made(0), made(0), made(1)
    x = torch.ones(1, 3, 64, 64)
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))
    assert first.identity == again.identity != other.identity
    assert other.identity == backbone_identity("test_efficientnet", "none", image_size=64, seed=1)


def test_seeds_train_anew_on_the_same_folds(compared: Comparison) -> None:
    said = []
    for seed in (0, 1):
        folder = compared.path / "results" / "tuned" / f"fold-1-seed-{seed}"
        said.append(read_predictions_csv((folder / "predictions.csv").read_text(encoding="utf-8"))["test"])
        assert f"seed = {seed}" in (folder / "recipe.toml").read_text(encoding="utf-8")
    assert said[0].paths == said[1].paths
    assert not np.array_equal(said[0].logits, said[1].logits)


def test_what_is_done_is_not_done_again(
    compared: Comparison, drawn_photos: Path, recipes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a round was run again")

    monkeypatch.setattr("topwork.workflow.compare.run_round", refuse)
    monkeypatch.setattr("topwork.workflow.ladder.Ladder.run_round", refuse)
    again = topwork.compare(drawn_photos, recipes, to=compared.path, folds=2, seeds=2)
    assert again.ranking == compared.ranking


def test_a_lost_or_foreign_round_is_run_again_and_says_the_same(
    compared: Comparison, drawn_photos: Path, recipes: list[Path], lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = compared.path / "results" / "tuned" / "fold-2-seed-1"
    (lost / "predictions.csv").write_text("damaged", encoding="utf-8")
    foreign = compared.path / "results" / "frozen" / "fold-1-seed-0" / "provenance.json"
    facts = json.loads(foreign.read_text(encoding="utf-8"))
    facts["round"]["key"] = "of other photos"
    foreign.write_text(json.dumps(facts), encoding="utf-8")
    ran = []
    from topwork.workflow import compare as module

    run_round = module.run_round
    monkeypatch.setattr(module, "run_round", lambda plan, *a, **k: (ran.append(plan.path), run_round(plan, *a, **k)))
    again = topwork.compare(drawn_photos, recipes, to=compared.path, folds=2, seeds=2, progress=lines)
    assert sorted(ran) == sorted([lost, foreign.parent])
    assert again.ranking == compared.ranking
    assert "12 of 14 rounds are there already." in lines.said
    assert any(said.startswith("2 stored rounds cannot be used") and "--to" in said for said in lines.said)


def test_whoever_stops_is_told_what_is_kept(
    drawn_photos: Path, recipes: list[Path], tmp_path: Path, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topwork.workflow import compare as module

    run_round = module.run_round

    def stopped(plan: RoundPlan, *given: Any, **named: Any) -> None:
        if plan.fold:
            raise KeyboardInterrupt
        run_round(plan, *given, **named)

    monkeypatch.setattr(module, "run_round", stopped)
    with pytest.raises(KeyboardInterrupt):
        topwork.compare(drawn_photos, recipes[:1], to=tmp_path / "c", folds=2, seeds=1, progress=lines)
    assert lines.said[-1] == f"1 of 8 rounds are kept in {tmp_path / 'c'}; the same command goes on from them."


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        (["phase2.train=top-99 blocks"], RecipeError, "Recipe broken: .*99 blocks"),
        (["head.hidden=[8]"], RecipeError, "Recipe broken: .*lbfgs"),
        (["head.kind=kernel", "loss.imbalance=focal"], RecipeError, "Recipe broken: A kernel head"),
        (["head.kind=kernel", "head.dropout=0.5", "phase2.epochs=0"], RecipeError, "Recipe broken: A kernel head"),
        (["head.kind=kernel", "head.dropout=0.5"], RecipeError, "Recipe broken: .*lbfgs"),
        (["phase1.epochs=0", "phase2.epochs=0"], RecipeError, "Recipe broken: .*trains nothing"),
        (["phase2.epochs=0", "backbone.weights=nowhere.safetensors"], WeightsError, "Recipe broken: .*nowhere"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_any_work(
    recipes: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    error: type[TopworkError],
    says: str,
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(load_recipe(recipes[1], settings).to_toml(), encoding="utf-8")
    monkeypatch.setattr("topwork.workflow.compare.scan", lambda *_, **__: pytest.fail("photos were read"))
    with pytest.raises(error, match=says):
        topwork.compare(tmp_path, [recipes[0], broken], to=tmp_path / "c", folds=2, seeds=1)


def test_a_kernel_head_alone_needs_no_solver(recipes: list[Path]) -> None:
    settings = ["head.kind=kernel", "phase2.epochs=0", "phase1.optimizer=lbfgs"]
    Entry(name="kernel", recipe=load_recipe(recipes[1], settings)).check()


def test_the_first_model_of_each_recipe_can_be_used(compared: Comparison, drawn_photos: Path) -> None:
    photo = next(drawn_photos.glob("*/*.*"))
    for name in ("frozen", "tuned"):
        answer = next(iter(topwork.predict(compared.path / "results" / name / "fold-1-seed-0", [photo])))
        assert answer.predicted in compared.summary["data"]["classes"]
        assert compared.facts[name].model_mb
        assert compared.facts[name].ms_a_photo


def test_the_summary_is_on_disk_and_on_stdout(
    compared: Comparison, drawn_photos: Path, recipes: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads((compared.path / "comparison.json").read_text(encoding="utf-8"))
    assert stored["models"].keys() == compared.ranking.scores.keys()
    words = [
        "compare",
        str(drawn_photos),
        *map(str, recipes),
        "--folds",
        "2",
        "--seeds",
        "2",
        "--to",
        str(compared.path),
    ]
    assert command([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["models"] == stored["models"]
    assert command(words) == 0
    text = capsys.readouterr().out
    assert "verdict" in text
    assert "majority class" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": 0}, "at least 1"),
        ({"folds": 1}, "must be 2 to"),
        ({"recipes": []}, "at least one recipe"),
        ({"recipes": ["defualt"]}, "no recipe"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    drawn_photos: Path, recipes: list[Path], tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    given = {"recipes": recipes, "folds": 2, "seeds": 1} | changes
    with pytest.raises(TopworkError, match=says):
        topwork.compare(drawn_photos, to=tmp_path / "c", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


def test_recipes_of_one_name_are_told_apart(recipes: list[Path]) -> None:
    from topwork.workflow.compare import _entries

    assert [entry.name for entry in _entries([recipes[0], recipes[0], recipes[1]])] == ["frozen", "frozen-2", "tuned"]


def test_the_page_shows_photos_from_elsewhere(
    compared: Comparison, drawn_photos: Path, recipes: list[Path], tmp_path: Path
) -> None:
    from topwork.data.drawn import write_drawn_flowers

    write_drawn_flowers(tmp_path / "away", n_per_class=2, size=96, seed=7, masks=False)
    (tmp_path / "away" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    assert "Photos from elsewhere" not in compared.page.read_text(encoding="utf-8")
    again = topwork.compare(drawn_photos, recipes, to=compared.path, photos=tmp_path / "away", folds=2, seeds=2)
    text = again.page.read_text(encoding="utf-8")
    assert "10 photos in <bdi>away</bdi>; 1 more cannot be read" in text


def test_missing_photos_are_told_before_any_work(drawn_photos: Path, recipes: list[Path], tmp_path: Path) -> None:
    with pytest.raises(TopworkError, match="no photo"):
        topwork.compare(drawn_photos, recipes, to=tmp_path / "c", photos=tmp_path / "nowhere", folds=2, seeds=1)
    assert not (tmp_path / "c").exists()
