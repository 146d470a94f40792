"""`export` writes a model that answers as the original does, or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import topwork
from topwork.data.decode import decode
from topwork.data.manifest import Manifest
from topwork.data.view import evaluation_view
from topwork.digest import file_sha256
from topwork.errors import BundleError, ExportError
from topwork.exports.card import read_card
from topwork.exports.to_keras import keras_probabilities
from topwork.spec import InputSpec
from topwork.workflow.rundir import RunDir


@pytest.fixture
def run(tiny_run: topwork.Run, tmp_path: Path) -> Path:
    """A finished run of one's own, with its default recipe's kernel head and mirror image."""
    return Path(shutil.copytree(tiny_run.path, tmp_path / "photos"))


def _spec(run: Path) -> InputSpec:
    return read_card(run / "model").spec


def test_the_file_predicts_what_the_run_predicts(run: Path, drawn_photos: Path) -> None:
    done = topwork.export(run)
    assert (done.model, done.facts) == (run.with_name("photos.keras"), run.with_name("photos.keras.json"))
    assert (done.photos, done.drawn) == (16, False)
    assert done.difference <= 1e-4
    facts = json.loads(done.facts.read_text())
    assert facts["sha256"] == file_sha256(done.model)
    photos = sorted(drawn_photos.rglob("*.jpg"))[::7]
    views = np.stack([evaluation_view(decode(photo).pixels, _spec(run)) for photo in photos])
    found = keras_probabilities(done.model, views)
    for answer, row in zip(topwork.predict(run, photos), found, strict=True):
        assert list(answer.probabilities) == facts["classes"]
        np.testing.assert_allclose(row, list(answer.probabilities.values()), atol=1e-4)


def test_the_facts_prepare_a_picture_as_topwork_does(run: Path, drawn_photos: Path) -> None:
    said = json.loads(topwork.export(run).facts.read_text())["input"]
    photo = next(drawn_photos.rglob("*.jpg"))
    with Image.open(photo) as picture:
        side = min(picture.size) * said["crop"] / said["short_side"]
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        size = said["shape"][1:3]
        seen = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    np.testing.assert_array_equal(np.asarray(seen), evaluation_view(decode(photo).pixels, _spec(run)))


def test_where_the_photos_are_gone_flowers_are_drawn(run: Path, tmp_path: Path) -> None:
    provenance = RunDir(run).provenance()
    provenance["data"]["root"] = str(tmp_path / "gone")
    RunDir(run).write_provenance(provenance)
    done = topwork.export(run, to=tmp_path / "elsewhere" / "m.h5")
    assert (done.photos, done.drawn) == (16, True)
    assert done.model.stat().st_size > 10_000


def test_a_bundle_alone_and_one_in_a_run_are_models(run: Path, tmp_path: Path) -> None:
    assert topwork.export(run / "model", to=tmp_path / "in-run.keras").drawn is False
    alone = Path(shutil.copytree(run / "model", tmp_path / "alone" / "bundle"))
    done = topwork.export(alone)
    assert done.drawn is True
    assert done.model == tmp_path / "alone" / "bundle.keras"


def test_photos_that_cannot_be_read_are_passed_over(run: Path, drawn_photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(drawn_photos, tmp_path / "copy"))
    rows = sorted(Manifest.read_csv(run / "manifest.csv", root=copy).rows, key=lambda row: row.sha256)
    (copy / rows[0].path).write_bytes(b"no picture")
    provenance = RunDir(run).provenance()
    provenance["data"]["root"] = str(copy)
    RunDir(run).write_provenance(provenance)
    assert (topwork.export(run).photos, topwork.export(run).drawn) == (16, False)


def test_a_model_that_answers_differently_is_not_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = run.with_name("photos.keras")
    target.write_text("an earlier one")

    def wrong(path: Path, views: np.ndarray) -> np.ndarray:
        found = keras_probabilities(path, views)
        found[3, 1] += 2e-4
        return found

    monkeypatch.setattr("topwork.exports.to_keras.keras_probabilities", wrong)
    with pytest.raises(ExportError, match=r"answer differently.*2\.0e-04"):
        topwork.export(run)
    assert target.read_text() == "an earlier one"
    assert sorted(path.name for path in run.parent.iterdir()) == ["photos", "photos.keras"]


def test_what_cannot_be_done_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="onnx"):
        topwork.export(run, format="onnx")
    with pytest.raises(ExportError, match=r"must end in \.keras or \.h5"):
        topwork.export(run, to=tmp_path / "model.pb")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(ExportError, match="is a folder"):
        topwork.export(run, to=tmp_path / "folder.keras")
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="lies below a file"):
        topwork.export(run, to=tmp_path / "file" / "m.keras")
    with pytest.raises(BundleError):
        topwork.export(tmp_path / "absent")
