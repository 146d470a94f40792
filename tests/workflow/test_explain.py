"""`explain` on a finished run: what it says agrees with `predict`, and its pictures are there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork
from topwork.cli.app import run
from topwork.data.manifest import Manifest
from topwork.errors import DataError, RecipeError
from topwork.explanations import gradcam
from topwork.workflow import explaining
from topwork.workflow.pictures import write_pictures
from topwork.workflow.rundir import RunDir


def _photos(folder: Path, count: int) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))[:: 50 // count][:count]


def test_it_explains_what_predict_says(tiny_run: topwork.Run, drawn_photos: Path) -> None:
    photos = _photos(drawn_photos, 5)
    found = topwork.explain(tiny_run.path, photos)
    answers = list(topwork.predict(tiny_run.path, photos))
    assert [photo.path for photo in found.photos] == photos
    for photo, answer in zip(found.photos, answers, strict=True):
        assert photo.predicted == photo.target == answer.predicted
        assert photo.probabilities == pytest.approx(answer.probabilities, abs=5e-3)
        assert photo.against == sorted(answer.probabilities, key=lambda name: -answer.probabilities[name])[1]
        assert photo.heatmap.shape == photo.contrast.shape == photo.view.shape[:2] == (64, 64)
    assert found.layer == "conv_head"


def test_a_class_may_be_asked_for(tiny_run: topwork.Run, drawn_photos: Path) -> None:
    photos = _photos(drawn_photos, 2)
    rose, tulip = (topwork.explain(tiny_run.path, photos, target=name) for name in ("rose", "tulip"))
    assert {photo.target for photo in rose.photos} == {"rose"}
    assert not np.allclose(rose.photos[0].heatmap, tulip.photos[0].heatmap)
    with pytest.raises(RecipeError, match="lily"):
        topwork.explain(tiny_run.path, photos, target="lily")
    with pytest.raises(DataError):
        topwork.explain(tiny_run.path, [])


def test_pictures_and_a_photo_that_cannot_be_read(tiny_run: topwork.Run, drawn_photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    photos = _photos(drawn_photos, 3)
    found = topwork.explain(tiny_run.path, [photos[0], broken, *photos[1:]])
    assert [path for path, _ in found.failed] == [broken]
    pictures = write_pictures(found, tmp_path / "to")
    assert len(pictures) == len(found.photos) == 3
    names = {path.name for path in (tmp_path / "to").iterdir()}
    grids = {name for name in names if name.startswith("grid-")}
    assert names == {path.name for path in pictures} | grids | {"explanations.json"}
    assert len(grids) == len({photo.target for photo in found.photos})
    assert json.loads((tmp_path / "to" / "explanations.json").read_text()) == found.to_json()


def test_the_command(
    tiny_run: topwork.Run,
    drawn_photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the last call leaves `--to` out
    photos = [str(path) for path in _photos(drawn_photos, 2)]
    words = ["explain", str(tiny_run.path), *photos, "--to", str(tmp_path / "to")]
    assert run([*words, "--json", "--method", "layercam", "--layer", "blocks.4"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["method"], said["layer"], len(said["photos"])) == ("layercam", "blocks.4", 2)
    assert all(Path(path).is_file() for path in said["pictures"])
    assert run([*words, "--method", "none-such"]) == 2
    assert "gradcam++" in capsys.readouterr().err
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    assert run([*words, str(broken)]) == 1
    shown = capsys.readouterr()
    assert shown.out.count(".png") == 2
    assert "nearest training photo" in shown.out
    assert "Can such heatmaps be believed?" in shown.out
    assert run(["explain", str(tiny_run.path), str(broken)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "1 of the photos could not be read" in shown.err
    assert (tmp_path / "explanations" / "explanations.json").is_file()


def test_a_run_names_the_nearest_training_photos_of_any_photo(
    tiny_run: topwork.Run, drawn_photos: Path, tmp_path: Path
) -> None:
    rows = {row.sha256: row for row in Manifest.read_csv(tiny_run.path / "manifest.csv", root=drawn_photos).rows}
    own = next(row for row in rows.values() if row.split == "train")
    copy = tmp_path / "a copy of a training photo.jpg"
    shutil.copy(drawn_photos / own.path, copy)
    new = tmp_path / "new.png"
    with Image.open(drawn_photos / own.path) as picture:
        picture.convert("RGB").save(new)  # other bytes, the same look
    found = topwork.explain(tiny_run.path, [copy, new])
    of_path = {row.path: row for row in rows.values()}
    for photo in found.photos:
        assert len({near.path for near in photo.neighbours}) == 5
        assert {of_path[near.path].split for near in photo.neighbours} == {"train"}
        assert all(of_path[near.path].label == near.label for near in photo.neighbours)
        likeness = [near.similarity for near in photo.neighbours]
        assert likeness == sorted(likeness, reverse=True)
    assert own.path not in [near.path for near in found.photos[0].neighbours]  # a copy says nothing
    assert found.photos[1].neighbours[0].path == own.path
    assert found.photos[1].neighbours[0].similarity > 0.99
    assert [near.path for near in found.photos[0].neighbours[:4]] == [
        near.path for near in found.photos[1].neighbours[1:]
    ]
    assert found.to_json()["photos"][1]["neighbours"][0]["path"] == own.path
    assert not topwork.explain(tiny_run.model, [copy]).photos[0].neighbours  # a bundle has no training photos


def test_without_cached_features_the_neighbours_are_left_out_and_it_says_so(
    tiny_run: topwork.Run, drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "empty"))
    (photo,) = topwork.explain(tiny_run.path, _photos(drawn_photos, 1), progress=lines).photos
    assert photo.neighbours == ()
    assert any("Nearest training photos are left out" in line for line in lines.said)
    assert not list((tmp_path / "empty").rglob("*.facts.json"))  # nothing was run


def test_the_runs_verdict_stands_beside_heatmaps_of_the_same_kind_only(
    tiny_run: topwork.Run, drawn_photos: Path
) -> None:
    photos = _photos(drawn_photos, 1)
    checked = RunDir.open(tiny_run.path).explanations()
    assert topwork.explain(tiny_run.path, photos).verdict == checked["faithfulness"]["verdict"] != ""
    for others in ({"method": "eigencam"}, {"layer": "blocks.4"}):
        verdict = topwork.explain(tiny_run.path, photos, **others).verdict  # type: ignore[arg-type]
        assert verdict == f"Not checked: this run tested gradcam at {checked['layer']} only."
    assert topwork.explain(tiny_run.model, photos).verdict == ""  # a bundle has checked nothing


def test_the_verdict_is_of_whatever_method_the_run_tested(
    tiny_run: topwork.Run, drawn_photos: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tiny_run.path, copy)
    said = RunDir.open(copy).explanations()
    said["method"], said["faithfulness"]["verdict"] = "layercam", "Not shown to be better than the middle of the photo."
    (copy / "explanations.json").write_text(json.dumps(said))
    found = topwork.explain(copy, _photos(drawn_photos, 1), method="layercam")
    assert found.verdict == said["faithfulness"]["verdict"]


def test_a_run_without_frozen_features_says_that_it_has_none(
    tiny_run: topwork.Run, drawn_photos: Path, tmp_path: Path, lines: Any
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tiny_run.path, copy)
    run_dir = RunDir.open(copy)
    run_dir.write_recipe(run_dir.recipe().replace({"phase1.train": "all", "phase2.epochs": 0, "head.kind": "linear"}))
    (photo,) = topwork.explain(copy, _photos(drawn_photos, 1), progress=lines).photos
    assert photo.neighbours == ()
    assert "Nearest training photos are left out: this run keeps no features of a frozen network." in lines.said
    assert not any("computes them" in line for line in lines.said)


def test_heatmaps_that_show_nothing_are_said(
    tiny_run: topwork.Run, drawn_photos: Path, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    """As of a network that reads only its class token behind the layer."""
    real = gradcam.heatmaps_and_contrasts

    def blank(*given: Any, **named: Any) -> Any:
        return tuple(replace(each, raw=np.zeros_like(each.raw)) for each in real(*given, **named))

    photos = _photos(drawn_photos, 2)
    topwork.explain(tiny_run.model, photos, progress=lines)
    assert lines.said == []
    monkeypatch.setattr(gradcam, "heatmaps_and_contrasts", blank)
    found = topwork.explain(tiny_run.model, photos, progress=lines)
    assert [photo.peak for photo in found.photos] == [None, None]
    assert lines.said == [
        "No heatmap shows anything: no place of layer conv_head speaks for a class.",
        "Try `topwork explain` with --method eigencam or an earlier --layer.",
    ]


def test_a_file_that_cannot_be_read_does_not_stop_a_fit(
    tiny_run: topwork.Run, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("cannot identify image file")

    monkeypatch.setattr(explaining, "explain_run", fails)
    given: dict[str, Any] = {
        "manifest": Manifest.read_csv(tiny_run.path / "manifest.csv", root=Path()),
        "extractor": None,
    }
    explaining.explain_fitted(RunDir.open(tiny_run.path), **given, has_time=True, progress=lines)
    assert lines.said == ["Nothing is explained: cannot identify image file"]


def test_what_a_run_is_found_to_be_is_printed_with_its_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    share = {"value": 0.9, "low": 0.7, "high": 0.97, "n": 20}
    said: dict[str, Any] = {
        "shortcuts": {"probes": [], "hot_spots": [{"class": "rose", "place": "lower right", "share": share}]},
        "confusers": [],
        "randomisation": {"passed": False},
        "faithfulness": {"verdict": "The heatmaps mark what the model uses."},
    }
    monkeypatch.setattr(explaining, "explain_finished", lambda *_, **__: said)
    assert run(["explain", "runs/photos"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(
        "WARNING: 0.900 [0.700, 0.970] n=20 of the heatmaps of rose peak at one and the same place"
    )
    assert "(lower right)" in shown[0]
    assert shown[1].startswith("WARNING: the heatmaps hardly change when the model forgets")
    assert shown[2:] == ["The heatmaps mark what the model uses.", "report  runs/photos/report.html"]
    said["randomisation"]["passed"], said["shortcuts"]["hot_spots"] = True, []
    assert run(["explain", "runs/photos"]) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_options_that_would_change_nothing_are_refused(
    tiny_run: topwork.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", str(tiny_run.path), "--method", "layercam", "--to", "why"]) == 2
    assert capsys.readouterr().err.startswith("--to, --method would change nothing")


def test_fit_explains_its_run(tiny_run: topwork.Run, drawn_photos: Path) -> None:
    said = RunDir.open(tiny_run.path).explanations()
    manifest = {row.path: row for row in Manifest.read_csv(tiny_run.path / "manifest.csv", root=drawn_photos).rows}
    assert said["part"] == "test"
    assert {photo["path"] for photo in said["photos"]} <= {row.path for row in manifest.values() if row.split == "test"}
    for photo in said["photos"]:
        assert photo["label"] == manifest[photo["path"]].label
        assert all((tiny_run.path / photo[kind]).is_file() for kind in ("heatmap", "contrast"))
        near = [manifest[each["path"]] for each in photo["neighbours"]]
        assert len(near) == 5
        assert {row.split for row in near} == {"train"}
        assert len({row.sha256 for row in near}) == 5
        assert [row.label for row in near] == [each["label"] for each in photo["neighbours"]]
    known = {row.path: row.label for row in manifest.values()}
    assert said["label_suspects"]  # features of a random network tell little, so some labels look odd
    for each in said["label_suspects"]:
        assert known[each["path"]] == each["label"] != each["suggested"]
        assert each["p_label"] <= 0.2
    assert set(said["faithfulness"]["beats"]) == {"random", "centre"}
    assert said["faithfulness"]["deletion"]["n"] == said["could_judge"] == 10  # all test photos: there are not more
    assert said["shortcuts"]["coarse"]  # 64 pixels give 2 x 2 cells
    assert set(said["hidden"]) == {"intact", "background blurred", "object blurred", "note"}
    assert all(each["label"] not in each["classes"] for each in said["confusers"])
    for name in ("gradcam_example", "gradcam_grid"):
        assert (tiny_run.path / "figures" / f"{name}.png").stat().st_size > 1000
    assert "explain" in RunDir.open(tiny_run.path).evaluation()["seconds"]
    page = (tiny_run.path / "report.html").read_text(encoding="utf-8")
    assert "asks more of them" not in page
    assert all(f'<section id="{section}"' in page for section in ("errors", "why", "shortcuts", "labels"))
    shown = {photo["path"] for photo in said["photos"] if photo["label"] != photo["predicted"]}
    assert page.count('<li class="explained">') == len(shown) > 0


@pytest.mark.slow
def test_a_finished_run_is_explained_in_full(
    tiny_run: topwork.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tiny_run.path, copy)
    (copy / "explanations.json").unlink()
    assert run(["explain", str(copy), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == RunDir.open(copy).explanations()
    assert said["randomisation"]["stages"][0]["stage"] == "head"
    first = RunDir.open(tiny_run.path).explanations()
    assert [photo["neighbours"] for photo in said["photos"]] == [photo["neighbours"] for photo in first["photos"]]
    assert run(["explain", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert "accuracy, background blurred" in shown
    assert shown.splitlines()[-1] == f"report  {copy / 'report.html'}"
    assert run(["explain", str(tmp_path)]) == 2
