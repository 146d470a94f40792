"""`topwork predict`: three forms of the same answers, and one bad file does not stop the rest."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import topwork
from topwork.cli.app import run

_SETTINGS = ("backbone.name=test_efficientnet", "backbone.weights=none", "data.image_size=64", "phase1.epochs=2")
_CLASSES = ["daisy", "dandelion", "rose", "sunflower", "tulip"]


@pytest.fixture(scope="module")
def model(drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny finished run."""
    to = tmp_path_factory.mktemp("runs") / "tiny"
    return str(topwork.fit(drawn_photos, recipe="probe", to=to, settings=_SETTINGS).path)


@pytest.fixture
def photos(drawn_photos: Path, tmp_path: Path) -> Path:
    """Six good photos, whose names sort as a, b, d, e, f, g."""
    folder = tmp_path / "photos"
    folder.mkdir()
    good = sorted(drawn_photos.rglob("*.jpg"))[::8]
    for name, photo in zip("abdefg", good, strict=False):
        shutil.copy(photo, folder / f"{name}.jpg")
    return folder


def _json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_three_forms_say_the_same(model: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for form in ("", "--json", "--csv"):
        assert run(["predict", model, str(photos), *([form] if form else [])]) == 0
        texts[form] = capsys.readouterr().out
    answers = _json_lines(texts["--json"])
    names = [str(photos / f"{name}.jpg") for name in "abdefg"]
    assert [answer["path"] for answer in answers] == names
    rows = list(csv.DictReader(io.StringIO(texts["--csv"])))
    table = [line.split() for line in texts[""].splitlines()]
    assert table[0] == ["photo", "predicted", "p", "next"]
    assert len(rows) == len(table) - 1 == len(answers) == 6
    for answer, row, cells in zip(answers, rows, table[1:], strict=True):
        p = answer["p"]
        assert isinstance(p, dict)
        assert list(p) == _CLASSES
        assert sum(p.values()) == pytest.approx(1, abs=1e-6)
        ranked = sorted(p, key=lambda name: -p[name])
        assert answer["predicted"] == row["predicted"] == cells[1] == ranked[0]
        assert row["path"] == cells[0] == answer["path"]
        assert {name: float(row[f"p_{name}"]) for name in p} == pytest.approx(p, abs=1e-5)
        assert row["error"] == ""
        assert cells[2:] == [f"{p[ranked[0]]:.3f}", ranked[1], f"{p[ranked[1]]:.3f}"]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_a_picture_stored_in_eight_orientations_is_predicted_with_the_same_numbers(
    form: str, model: str, drawn_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(sorted(drawn_photos.rglob("*.jpg"))[0]) as photo:
        upright = photo.convert("RGB").crop((0, 0, 96, 70))
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}
    turns |= {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    options = {"lossless": True} if form == "WEBP" else {}
    for orientation in range(1, 9):
        turn = turns.get(orientation)
        stored = upright if turn is None else upright.transpose(Image.Transpose[turn])
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(tmp_path / f"{orientation}.{form.lower()}", exif=exif, **options)
    assert run(["predict", model, str(tmp_path), "--json"]) == 0
    answers = _json_lines(capsys.readouterr().out)
    assert len(answers) == 8
    assert all(answer["p"] == answers[0]["p"] for answer in answers)
    turned = Image.new("RGB", (70, 96))
    turned.paste(upright.transpose(Image.Transpose.ROTATE_90))
    turned.save(tmp_path / "other.png")  # without a tag it is another picture: the law can fail
    assert run(["predict", model, str(tmp_path / "other.png"), "--json"]) == 0
    assert _json_lines(capsys.readouterr().out)[0]["p"] != answers[0]["p"]


def test_files_are_answered_in_the_order_given_and_the_bundle_will_do(
    model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(photos / "g.jpg"), str(photos / "a.jpg")]
    assert run(["predict", f"{model}/model", *given, "--json"]) == 0
    assert [answer["path"] for answer in _json_lines(capsys.readouterr().out)] == given


@pytest.mark.parametrize("form", ["", "--json", "--csv"])
@pytest.mark.parametrize("name", ["a0", "0"])  # among the good ones, and before all of them
def test_a_broken_file_gives_exit_1_and_all_other_answers(
    form: str, name: str, model: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [form] if form else []
    assert run(["predict", model, str(photos), *words]) == 0
    clean = capsys.readouterr().out.splitlines()
    broken = photos / f"{name}.jpg"
    broken.write_bytes((photos / "a.jpg").read_bytes()[:40])
    assert run(["predict", model, str(photos), *words]) == 1
    out, err = capsys.readouterr()
    about = [line for line in out.splitlines() if str(broken) in line]
    assert len(about) == 1
    others = [line for line in out.splitlines() if str(broken) not in line]
    assert [line.split() for line in others] == [line.split() for line in clean]
    assert "1 of the photos could not be read" in err
    assert "\nfix: " in err
    assert "Traceback" not in err
    if form == "--json":
        answer = json.loads(about[0])
        assert set(answer) == {"path", "error"}
        assert answer["error"] in err
    if form == "--csv":
        row = next(row for row in csv.DictReader(io.StringIO(out)) if row["path"] == str(broken))
        assert row["error"] in err
        assert {value for key, value in row.items() if key.startswith("p")} == {str(broken), ""}


def test_only_broken_files(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    for form in ("--json", "--csv"):
        assert run(["predict", model, str(tmp_path / "x.jpg"), form]) == 1
        assert "x.jpg" in capsys.readouterr().out
    assert run(["predict", model, str(tmp_path / "x.jpg")]) == 1


def _damaged(model: str, tmp_path: Path) -> str:
    copy = tmp_path / "copy"
    shutil.copytree(f"{model}/model", copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    return str(copy)


def test_no_model_or_one_not_to_be_trusted_is_exit_2(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (str(tmp_path / "absent"), str(tmp_path / "empty"), str(photos), _damaged(model, tmp_path)):
        assert run(["predict", folder, str(photos)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert folder in err
        assert err.splitlines()[-1].startswith("fix: ")
        assert "Traceback" not in err


def test_no_photo_at_all_is_exit_2_and_a_missing_one_among_others_is_an_answer(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["predict", model, str(tmp_path / "empty")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("fix: ")
    assert run(["predict", model, str(tmp_path / "absent.jpg"), str(photos / "a.jpg"), "--json"]) == 1
    missing, there = _json_lines(capsys.readouterr().out)
    assert "no such file" in str(missing["error"])
    assert there["predicted"] in _CLASSES
