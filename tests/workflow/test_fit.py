"""`fit` end to end with a tiny network: all files are there and say the same."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork.data.manifest import Manifest
from topwork.recipe import load_recipe
from topwork.workflow.rundir import RunDir

_FILES = {
    *("recipe.toml", "manifest.csv", "findings.json", "history.jsonl", "predictions.csv", "evaluation.json"),
    *("provenance.json", "classification_report.txt", "report.html", "model/model.safetensors", "model/model.json"),
    *("model-last/model.safetensors", "model-last/model.json", "checkpoints/checkpoint.json"),
    *("model/README.md", "figures/gradcam_example.png", "figures/gradcam_grid.png"),
    *(
        f"figures/{name}.{kind}"
        for name in ("training_curves", "confusion_matrix", "reliability", "per_class")
        for kind in ("svg", "png")
    ),
}


def _rows(run: topwork.Run) -> list[dict[str, str]]:
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _evaluation(run: topwork.Run) -> dict[str, Any]:
    return dict(json.loads((run.path / "evaluation.json").read_text()))


def _probabilities(row: dict[str, str]) -> dict[str, float]:
    return {key[2:]: float(value) for key, value in row.items() if key.startswith("p_")}


def test_a_run_has_all_its_files_and_nothing_beside_it(tiny_run: topwork.Run) -> None:
    found = {p.relative_to(tiny_run.path).as_posix() for p in tiny_run.path.rglob("*") if p.is_file()}
    assert found >= _FILES
    assert all((tiny_run.path / name).stat().st_size for name in _FILES)
    assert [path.name for path in tiny_run.path.parent.iterdir()] == [tiny_run.path.name]
    assert tiny_run.report.is_file()
    assert (tiny_run.model / "model.json").is_file()


def test_the_recorded_recipe_is_the_one_that_ran(tiny_run: topwork.Run, tiny: tuple[str, ...]) -> None:
    assert RunDir.open(tiny_run.path).recipe() == load_recipe("default", tiny)


def test_provenance_names_what_made_the_run(tiny_run: topwork.Run) -> None:
    facts = RunDir.open(tiny_run.path).provenance()
    assert facts["versions"]["topwork"] == topwork.__version__
    assert {"torch", "timm", "python"} <= set(facts["versions"])
    assert facts["command"] == ""  # no command line made it
    assert facts["seeds"] == {"data": 0}
    assert facts["data"]["photos"] == 50
    assert facts["started"] <= facts["finished"]
    assert facts["backbone"]["name"] == "test_efficientnet"


def test_history_has_both_phases_and_all_scores(tiny_run: topwork.Run) -> None:
    history = RunDir.open(tiny_run.path).history()
    assert [line["epoch"] for line in history if line["phase"] == 2] == [1, 2]
    assert any(line["phase"] == 1 for line in history)
    for line in history:
        assert set(line) >= {"phase", "epoch", "lr", "seconds", "train", "val", "kept"}
        for part in ("train", "val"):
            assert set(line[part]) >= {"loss", "accuracy", "precision", "recall", "f1"}
            assert all(0 <= line[part][name] <= 1 for name in ("accuracy", "precision", "recall", "f1"))


def test_every_photo_is_in_one_part_and_predicted_once(tiny_run: topwork.Run, drawn_photos: Path) -> None:
    manifest = Manifest.read_csv(tiny_run.path / "manifest.csv", root=drawn_photos)
    there = sorted(path.relative_to(drawn_photos).as_posix() for path in drawn_photos.rglob("*.jpg"))
    assert sorted(row.path for row in manifest.rows) == there
    assert [len(manifest.part(part)) for part in ("train", "val", "test")] == [30, 10, 10]
    assert {(row["path"], row["split"], row["label"]) for row in _rows(tiny_run)} == {
        (row.path, row.split, row.label) for row in manifest.rows
    }
    assert len(_rows(tiny_run)) == len(there)


def test_predictions_csv_agrees_with_the_evaluation(tiny_run: topwork.Run) -> None:
    evaluation, rows = _evaluation(tiny_run), _rows(tiny_run)
    classes = evaluation["classes"]
    for name, part in evaluation["splits"].items():
        mine = [row for row in rows if row["split"] == name]
        assert part["accuracy"]["n"] == len(mine)
        assert part["accuracy"]["value"] == pytest.approx(np.mean([row["label"] == row["predicted"] for row in mine]))
        matrix = np.zeros((len(classes), len(classes)), int)
        for row in mine:
            p = _probabilities(row)
            assert sum(p.values()) == pytest.approx(1)
            assert max(p, key=lambda label: p[label]) == row["predicted"]
            matrix[classes.index(row["label"]), classes.index(row["predicted"])] += 1
        assert matrix.tolist() == part["confusion_matrix"]
        nll = -np.mean([np.log(_probabilities(row)[row["label"]]) for row in mine])
        assert part["nll"]["value"] == pytest.approx(nll, abs=1e-5)
    assert tiny_run.evaluation.to_json()["splits"] == evaluation["splits"]


def test_times_of_the_stages_sum_to_no_more_than_the_total(tiny_run: topwork.Run) -> None:
    seconds = _evaluation(tiny_run)["seconds"]
    assert {"scan", "trunk", "phase 1", "phase 2", "evaluate", "report"} <= set(seconds)
    assert sum(seconds.values()) - seconds["total"] <= seconds["total"] + 0.05


def test_the_models_page_is_about_this_model(tiny_run: topwork.Run) -> None:
    from huggingface_hub import ModelCard

    page = ModelCard.load(tiny_run.model / "README.md")
    accuracy = _evaluation(tiny_run)["splits"]["test"]["accuracy"]
    (found,) = [each for each in page.data.eval_results if each.metric_type == "accuracy"]
    assert found.metric_value == pytest.approx(accuracy["value"], abs=1e-6)
    assert found.metric_args == {key: accuracy[key] for key in ("low", "high", "n")}
    digests = json.loads((tiny_run.model / "model.json").read_text())["weights"]["sha256"]
    assert digests in page.text
    assert "read this as a baseline" not in page.text  # the words for who trains are not for who uses it
    assert "baseline, not a model to rely on" in page.text  # it began with random weights


def test_the_bundle_says_what_predictions_csv_says(tiny_run: topwork.Run, drawn_photos: Path) -> None:
    rows = _rows(tiny_run)[::3]
    answers = list(topwork.predict(tiny_run.path, [drawn_photos / row["path"] for row in rows]))
    again = list(topwork.predict(tiny_run.model, [drawn_photos / row["path"] for row in rows]))
    assert [answer.probabilities for answer in answers] == [answer.probabilities for answer in again]
    for row, answer in zip(rows, answers, strict=True):
        assert answer.probabilities == pytest.approx(_probabilities(row), abs=5e-3)


def test_a_second_run_does_no_trunk_work_and_gives_the_same_numbers(
    tiny_run: topwork.Run, drawn_photos: Path, tmp_path: Path, tiny: tuple[str, ...], lines: Any
) -> None:
    import torch

    torch.manual_seed(1234)  # whatever the caller drew before must not matter
    again = topwork.fit(drawn_photos, to=tmp_path / "again", settings=tiny, progress=lines)
    assert any("0 views computed" in line and "no trunk work" in line for line in lines.said)
    assert RunDir.open(again.path).provenance()["cache"]["computed"] == 0
    for first, second in zip(_rows(tiny_run), _rows(again), strict=True):
        assert {**first, "predicted": second["predicted"]}.keys() == second.keys()
        assert (first["path"], first["split"]) == (second["path"], second["split"])
        assert _probabilities(second) == pytest.approx(_probabilities(first), abs=5e-4)
    one, two = _evaluation(tiny_run)["splits"], _evaluation(again)["splits"]
    for part in one:
        for name, interval in one[part].items():
            if isinstance(interval, dict) and "value" in interval:
                assert two[part][name] == pytest.approx(interval, abs=5e-4), (part, name)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_predictions_from_a_cold_cache(
    tiny_run: topwork.Run, drawn_photos: Path, tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = tmp_path / "cache"
    cold.mkdir()
    # Measured choices (which engine is fastest here) are the machine's, not the run's.
    shutil.copy(Path(os.environ["TOPWORK_CACHE"]) / "timings.json", cold)
    monkeypatch.setenv("TOPWORK_CACHE", str(cold))
    again = topwork.fit(drawn_photos, to=tmp_path / "again", settings=tiny)
    assert RunDir.open(again.path).provenance()["cache"]["computed"] > 0
    for first, second in zip(_rows(tiny_run), _rows(again), strict=True):
        assert first["path"] == second["path"]
        assert _probabilities(second) == pytest.approx(_probabilities(first), abs=1e-3)
    other = topwork.fit(drawn_photos, to=tmp_path / "other", recipe="probe", settings=[*tiny, "data.seed=1"])
    assert {row["path"] for row in _rows(other) if row["split"] == "test"} != {
        row["path"] for row in _rows(tiny_run) if row["split"] == "test"
    }


def test_without_a_test_part_and_with_a_broken_file(
    drawn_photos: Path, tmp_path: Path, tiny: tuple[str, ...], lines: Any
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(drawn_photos, photos)
    (photos / "rose" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    settings = [*tiny, "data.split=80/20/0"]
    run = topwork.fit(photos, to=tmp_path / "run", recipe="probe", settings=settings, progress=lines)
    assert set(_evaluation(run)["splits"]) == {"train", "val", "cv"}
    assert {row["split"] for row in _rows(run)} == {"train", "val", "cv"}
    assert all("broken" not in row["path"] for row in _rows(run))
    findings = json.loads((run.path / "findings.json").read_text())
    assert any("rose/broken.jpg" in finding["files"] for finding in findings)
    assert run.report.is_file()


def test_given_parts_are_kept(drawn_photos: Path, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    for number, photo in enumerate(sorted(drawn_photos.rglob("*.jpg"))):
        part = ("train", "train", "train", "validation", "test")[number % 5]
        target = tmp_path / "photos" / part / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    run = topwork.fit(tmp_path / "photos", to=tmp_path / "run", recipe="probe", settings=tiny)
    rows = _rows(run)
    assert len(rows) == 50
    assert {(row["path"].split("/")[0], row["split"]) for row in rows} == {
        ("train", "train"),
        ("validation", "val"),
        ("test", "test"),
    }


def test_an_earlier_run_survives_a_fit_that_fails_late(
    drawn_photos: Path, tmp_path: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    first = topwork.fit(drawn_photos, to=path, recipe="probe", settings=tiny)
    before = first.report.read_bytes(), (path / "predictions.csv").read_bytes()

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("topwork.workflow.fit.write_report", broken)
    with pytest.raises(OSError, match="No space left"):
        topwork.fit(drawn_photos, to=path, recipe="probe", settings=[*tiny, "data.seed=1"])
    assert (first.report.read_bytes(), (path / "predictions.csv").read_bytes()) == before
    assert {child.name for child in tmp_path.iterdir()} == {"run", ".run.unfinished"}  # training was over: it stays
    monkeypatch.undo()
    settings = [*tiny, "data.seed=1"]
    again = topwork.fit(drawn_photos, to=path, recipe="probe", settings=settings, resume=True)
    assert again.report.read_bytes() != before[0]
    assert [child.name for child in tmp_path.iterdir()] == ["run"]


def test_the_last_epoch_is_a_model_too(
    drawn_photos: Path, tmp_path: Path, tiny: tuple[str, ...], tiny_run: topwork.Run
) -> None:
    """Epoch 2 of a run that keeps epoch 1 is what a run that keeps the last epoch ships."""
    settings = [*tiny, "head.kind=linear", "phase2.epochs=3", "phase2.lr=0.05"]
    best = topwork.fit(drawn_photos, to=tmp_path / "best", settings=settings)
    last = topwork.fit(drawn_photos, to=tmp_path / "last", settings=[*settings, "stop.keep=last"])
    kept = [line["epoch"] for line in RunDir.open(best.path).history() if line["phase"] == 2 and line["kept"]]
    assert kept[-1] < 3, "this test needs a run whose last epoch is not its best"

    def weights(run: topwork.Run, model: str) -> bytes:
        return (run.path / model / "model.safetensors").read_bytes()

    assert weights(best, "model-last") == weights(last, "model") == weights(last, "model-last")
    assert weights(best, "model") != weights(best, "model-last")
    photo = next(drawn_photos.rglob("*.jpg"))
    said, other = (next(iter(topwork.predict(run.path / "model-last", [photo]))) for run in (best, last))
    assert said.probabilities == other.probabilities
    assert said.probabilities != next(iter(topwork.predict(best.path, [photo]))).probabilities


@pytest.mark.parametrize("mixing", ["phase2.mixup=0.4", "phase2.cutmix=1.0"])
def test_fresh_views_with_mixing_and_focal_loss_end_well_and_the_same_again(
    mixing: str, drawn_photos: Path, tmp_path: Path, tiny: tuple[str, ...], tiny_run: topwork.Run
) -> None:
    settings = [*tiny, "head.kind=linear", "data.views=fresh", "loss.imbalance=focal", "phase2.batch_size=16", mixing]
    one, two = (topwork.fit(drawn_photos, to=tmp_path / name, settings=settings) for name in ("one", "two"))
    weights = "model-last/model.safetensors"
    assert (one.path / weights).read_bytes() == (two.path / weights).read_bytes()
    assert (one.path / "predictions.csv").read_bytes() == (two.path / "predictions.csv").read_bytes()
    history = [line for line in RunDir.open(one.path).history() if line["phase"] == 2]
    assert [line["epoch"] for line in history] == [1, 2]
    assert all(np.isfinite(line["train"]["loss"]) for line in history)
