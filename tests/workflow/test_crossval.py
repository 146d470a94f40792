"""A split without a test part gets its headline from models that never saw the photo they judge."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import topwork
from topwork.data.manifest import Manifest
from topwork.data.scan import scan
from topwork.data.split import folds
from topwork.errors import RecipeError
from topwork.measures.predictions import read_predictions_csv
from topwork.recipe import Recipe, load_recipe
from topwork.workflow.fit_manifest import fit_manifest
from topwork.workflow.outcome import Outcome
from topwork.workflow.rundir import RunDir

TWO_WAY = ("data.split=80/20/0", "data.folds=2", "phase2.epochs=3", "data.views=fixed:1")


@pytest.fixture(scope="module")
def run(drawn_photos: Path, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> topwork.Run:
    return topwork.fit(drawn_photos, to=tmp_path_factory.mktemp("cv") / "run", settings=[*tiny, *TWO_WAY])


def test_every_photo_is_judged_once_by_a_model_that_did_not_see_it(
    run: topwork.Run, drawn_photos: Path, tiny: tuple[str, ...]
) -> None:
    found = scan(drawn_photos)
    judged = read_predictions_csv(RunDir(run.path).predictions_file.read_text(encoding="utf-8"))["cv"]
    assert sorted(judged.paths) == sorted(record.path for record in found.records)
    recipe = load_recipe("default", [*tiny, *TWO_WAY])
    first = folds(found, k=2, seed=0, val_share=0.2)[0]  # the recipe's 80 to 20
    held_out = [row.path for row in first.part("test")]
    again = fit_manifest(recipe, first).predictions["test"]
    place = {path: row for row, path in enumerate(judged.paths)}
    ours = judged.predicted[[place[path] for path in again.paths]]
    assert sorted(again.paths) == sorted(held_out)
    assert ours.tolist() == again.predicted.tolist()


def test_folds_that_are_done_survive_a_kill(
    run: topwork.Run,
    drawn_photos: Path,
    tiny: tuple[str, ...],
    tmp_path: Path,
    lines: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, trained = [*tiny, *TWO_WAY], []

    def watched(recipe: Recipe, manifest: Manifest, **given: Any) -> Outcome:
        if manifest.part("test"):
            trained.append(manifest)
            if len(trained) == 2:
                raise KeyboardInterrupt
        return fit_manifest(recipe, manifest, **given)

    monkeypatch.setattr("topwork.workflow.fit.fit_manifest", watched)
    with pytest.raises(KeyboardInterrupt):
        topwork.fit(drawn_photos, to=tmp_path / "run", settings=settings)
    again = topwork.fit(drawn_photos, to=tmp_path / "run", settings=settings, resume=True, progress=lines)
    assert [[row.path for row in manifest.part("test")] for manifest in trained[1:]] == [
        [row.path for row in trained[1].part("test")]
    ] * 2  # the second fold, killed and done; never the first again
    texts = [RunDir(path).predictions_file.read_text(encoding="utf-8") for path in (run.path, again.path)]
    assert texts[0] == texts[1]
    assert not any("more minutes" in line for line in lines.said)


def test_the_headline_is_cross_validated_and_validation_is_labelled(run: topwork.Run) -> None:
    assert run.evaluation.headline_split == "cv"
    numbers = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    assert {name: part["seen_by_choices"] for name, part in numbers["splits"].items()} == {
        "train": False,
        "val": True,
        "cv": False,
    }
    assert numbers["seconds"]["cross-validation"] > 0
    text = (run.path / "classification_report.txt").read_text(encoding="utf-8")
    assert "In cross-validation, accuracy is" in text
    assert "val (10 photos; seen by choices)" in text
    page = run.report.read_text(encoding="utf-8")
    assert "<dt>Accuracy</dt>" in page
    assert "In cross-validation, where a model judges only photos that it has not seen" in page
    assert topwork.evaluate(run.path).splits["cv"].accuracy.value == run.evaluation.splits["cv"].accuracy.value


def test_random_weights_are_named_wherever_a_number_is(run: topwork.Run) -> None:
    text = (run.path / "classification_report.txt").read_text(encoding="utf-8")
    assert text.startswith("Random weights: ")
    assert ">random weights<" in run.report.read_text(encoding="utf-8")
    assert json.loads((run.model / "model.json").read_text(encoding="utf-8"))["backbone"]["kind"] == "none"
    assert RunDir(run.path).provenance()["backbone"]["source"] == "random weights"


def test_steadiness_and_gap_are_numbers_and_words(run: topwork.Run) -> None:
    numbers = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    losses = [line["val"]["loss"] for line in RunDir(run.path).history() if line["phase"] == 2]
    assert numbers["stability"]["phase 2"]["spread"]["n"] == len(losses) - 1
    rises = sum(later > earlier for earlier, later in pairwise(losses))
    assert numbers["stability"]["phase 2"]["rises"] == rises
    assert set(numbers["gap"]) == {"train_minus_val"}
    page = run.report.read_text(encoding="utf-8")
    assert "from epoch to epoch the validation loss changed" in page
    assert "Accuracy on training photos minus that on the validation part, which was seen by choices" in page


def test_without_folds_the_headline_is_seen_by_choices(
    drawn_photos: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    settings = [*tiny, *TWO_WAY, "data.folds=0", "phase2.epochs=0"]
    plain = topwork.fit(drawn_photos, to=tmp_path / "run", settings=settings)
    assert plain.evaluation.headline_split == "val"
    assert "seen by choices" in plain.evaluation.headline()
    with pytest.raises(RecipeError, match="0 or at least 2"):
        load_recipe("default", ["data.folds=1"])
