"""`check`, `split`, `cache`, `backbones` and `report` as a user types them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import topwork
from topwork.cli.app import run

_SETTINGS = ("backbone.name=test_efficientnet", "backbone.weights=none", "data.image_size=64", "phase1.epochs=2")
_Capture = pytest.CaptureFixture[str]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def planted(drawn_photos: Path, tmp_path: Path) -> Path:
    """The drawn photos with one picture under two labels, an exact copy, and a broken file."""
    folder = tmp_path / "planted"
    shutil.copytree(drawn_photos, folder)
    rose, tulip = sorted((folder / "rose").iterdir())[0], sorted((folder / "tulip").iterdir())[0]
    shutil.copy(rose, folder / "daisy" / "zz-conflict.jpg")
    shutil.copy(tulip, folder / "tulip" / "zz-copy.jpg")
    (folder / "tulip" / "zz-broken.jpg").write_bytes(tulip.read_bytes()[:100])
    return folder


def _assert_refused(words: list[str], capsys: _Capture, *, about: str) -> None:
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert about in err
    assert err.splitlines()[-1].startswith("fix: ")
    assert "Traceback" not in err


def test_check_passes_clean_photos(drawn_photos: Path, capsys: _Capture) -> None:
    assert run(["check", str(drawn_photos), "--quick"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("50 photos in 5 classes, ")
    assert run(["check", str(drawn_photos), "--quick", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["photos"], len(said["classes"])) == (50, 5)
    assert all(finding["severity"] != "error" for finding in said["findings"])


def test_check_names_what_was_planted_errors_first_and_exits_1(planted: Path, capsys: _Capture) -> None:
    assert run(["check", str(planted), "--quick", "--json"]) == 1
    out, err = capsys.readouterr()
    findings = json.loads(out)["findings"]
    files = {finding["kind"]: set(finding["files"]) for finding in findings}
    assert "daisy/zz-conflict.jpg" in files["label_conflict"]
    assert len(files["label_conflict"]) == 2
    assert "tulip/zz-broken.jpg" in files["unreadable"]
    assert any("tulip/zz-copy.jpg" in finding["files"] for finding in findings)
    order = [finding["severity"] for finding in findings]
    assert order == sorted(order, key=["error", "warning", "info"].index)
    assert "1 finding must be fixed" in err
    assert run(["check", str(planted), "--quick"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("error ")
    assert "daisy/zz-conflict.jpg" in text
    assert text.count("fix: ") == len(findings)


def test_check_finds_a_photo_in_two_given_parts(drawn_photos: Path, tmp_path: Path, capsys: _Capture) -> None:
    for part in ("train", "test"):
        for name in ("rose", "tulip"):
            (tmp_path / "p" / part / name).mkdir(parents=True)
            chosen = sorted((drawn_photos / name).iterdir())[slice(0, 6) if part == "train" else slice(5, 10)]
            for photo in chosen:
                shutil.copy(photo, tmp_path / "p" / part / name / f"{part}-{photo.name}")
    code = run(["check", str(tmp_path / "p"), "--quick", "--json"])
    leaks = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["kind"] == "leak"]
    assert len(leaks) == 2  # one photo of each class is in both
    assert all({Path(file).parts[0] for file in leak["files"]} == {"train", "test"} for leak in leaks)
    assert code == (1 if any(leak["severity"] == "error" for leak in leaks) else 0)


def test_check_draws_augmented_views(drawn_photos: Path, tmp_path: Path) -> None:
    assert run(["check", str(drawn_photos), "--quick", "--augment-preview", str(tmp_path / "views.png")]) == 0
    with Image.open(tmp_path / "views.png") as sheet:
        assert sheet.format == "PNG"
        assert len(sheet.convert("RGB").resize((64, 64)).getcolors(4096) or []) > 100


def test_split_writes_a_manifest_that_fit_keeps(planted: Path, tmp_path: Path, capsys: _Capture) -> None:
    for to in ("one", "two"):
        assert run(["split", str(planted), "--to", str(tmp_path / to), "--shares", "60/20/20", "--seed", "3"]) == 0
    assert (tmp_path / "one/manifest.csv").read_bytes() == (tmp_path / "two/manifest.csv").read_bytes()
    assert run(["split", str(planted), "--to", str(tmp_path / "three"), "--shares", "60/20/20", "--seed", "4"]) == 0
    assert (tmp_path / "one/manifest.csv").read_bytes() != (tmp_path / "three/manifest.csv").read_bytes()
    with (tmp_path / "one/manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["sha256"], set()).add(row["split"])
    assert all(len(parts) == 1 for parts in sides.values())
    assert len(sides) < len(rows) == len({row["path"] for row in rows})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "train", "val", "test"]
    counted = [int(cell) for line in lines[1:6] for cell in line.split()[1:]]
    assert sum(counted) == len(rows)
    assert lines[6] == str(tmp_path / "one" / "manifest.csv")


def test_split_refuses_shares_that_do_not_sum_to_100(drawn_photos: Path, tmp_path: Path, capsys: _Capture) -> None:
    for shares in ("50/10/10", "80/20", "0/50/50", "half"):
        words = ["split", str(drawn_photos), "--to", str(tmp_path / "s"), "--shares", shares]
        _assert_refused(words, capsys, about=shares)
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_cache_is_listed_and_cleared_and_the_next_run_computes_again(
    own_cache: Path, drawn_photos: Path, tmp_path: Path, capsys: _Capture
) -> None:
    def computed(name: str) -> int:
        done = topwork.fit(drawn_photos, recipe="probe", to=tmp_path / name, settings=_SETTINGS)
        return int(json.loads((done.path / "provenance.json").read_text())["cache"]["computed"])

    def stores() -> list[dict[str, int]]:
        assert run(["cache", "list", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert Path(said["folder"]).is_relative_to(own_cache)
        return list(said["stores"])

    assert stores() == []
    assert computed("one") == 50
    assert [store["rows"] for store in stores()] == [50]
    assert stores()[0]["bytes"] > 0
    assert computed("two") == 0
    assert run(["cache", "list"]) == 0
    assert "features" in capsys.readouterr().out
    assert run(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith("removed 1 stores")
    assert stores() == []
    assert computed("three") == 50


def test_backbones_are_listed_with_what_needs_no_download(capsys: _Capture) -> None:
    assert run(["backbones", "lite0", "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)["backbones"]]
    assert "efficientnet_lite0" in names
    assert all("lite0" in name for name in names)
    assert run(["backbones", "lite0"]) == 0
    assert "efficientnet_lite0" in capsys.readouterr().out
    assert run(["backbones", "--offline", "--json"]) == 0
    offline = [row["name"] for row in json.loads(capsys.readouterr().out)["backbones"]]
    assert "efficientnet_lite0" in offline
    assert len(offline) < 50


def test_layers_are_numbered_from_input_to_output(capsys: _Capture) -> None:
    assert run(["backbones", "test_efficientnet", "--layers", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    numbers = [layer["number"] for layer in layers]
    assert numbers == sorted(set(numbers))
    blocks = list(dict.fromkeys(layer["block"] for layer in layers))
    assert (blocks[0], blocks[-1]) == ("stem", "conv_head")
    assert run(["backbones", "test_efficientnet", "--layers"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(layers) + 1
    _assert_refused(["backbones", "efficientnet_lite00", "--layers"], capsys, about="efficientnet_lite0")


def test_report_is_made_again_and_fit_says_where_things_are(
    drawn_photos: Path, tmp_path: Path, capsys: _Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    words = [word for setting in _SETTINGS for word in ("--set", setting)]
    assert run(["fit", str(drawn_photos), "--recipe", "probe", "--to", str(folder), "--seed", "5", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["report", str(folder / "report.html")],
        ["model", str(folder / "model")],
    ]
    assert json.loads((folder / "provenance.json").read_text())["seeds"] == {"data": 5}
    first = (folder / "report.html").read_text()
    numbers = (folder / "evaluation.json").read_bytes()
    (folder / "report.html").unlink()
    for chart in (folder / "figures").glob("*.svg"):  # heatmaps need the network; `explain RUN` makes those
        chart.unlink()
    monkeypatch.chdir(folder)
    assert run(["report", "."]) == 0
    assert capsys.readouterr().out.strip() == "report.html"
    again = (folder / "report.html").read_text()
    assert "<h1><bdi>run</bdi></h1>" in again
    assert abs(len(again) - len(first)) < 0.02 * len(first)
    assert (folder / "figures" / "confusion_matrix.svg").is_file()
    assert (folder / "evaluation.json").read_bytes() == numbers


def test_report_refuses_what_is_no_run(drawn_photos: Path, tmp_path: Path, capsys: _Capture) -> None:
    _assert_refused(["report", str(tmp_path / "absent")], capsys, about="absent")
    _assert_refused(["report", str(drawn_photos)], capsys, about=str(drawn_photos))


@pytest.mark.slow
def test_export_says_where_the_model_is_and_how_far_it_is_from_its_own(
    drawn_photos: Path, tmp_path: Path, capsys: _Capture
) -> None:
    topwork.fit(drawn_photos, recipe="probe", to=tmp_path / "run", settings=_SETTINGS)
    assert run(["export", str(tmp_path / "run"), "--format", "keras"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", str(tmp_path / "run.keras")]
    assert lines[1].split() == ["classes", str(tmp_path / "run.keras.json")]
    assert lines[2].endswith("on 16 photos of the run (1e-04 is allowed)")
    words = ["export", str(tmp_path / "run"), "--format", "keras", "--to", str(tmp_path / "m.h5"), "--json"]
    assert run(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert Path(said["model"]).is_file()
    assert said["difference"] <= said["tolerance"]
    _assert_refused(["export", str(tmp_path / "run"), "--format", "onnx"], capsys, about="onnx")


def test_export_refuses_what_is_no_model(tmp_path: Path, capsys: _Capture) -> None:
    _assert_refused(["export", str(tmp_path / "absent"), "--format", "keras"], capsys, about="absent")
    _assert_refused(["export", str(tmp_path), "--format", "keras", "--to", "m.pb"], capsys, about="m.pb")
