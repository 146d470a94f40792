"""Real photos, real weights: a linear probe on a few hundred flowers is far above anything luck gives."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import topwork

_PER_CLASS = 60


def _write_manifest(flowers: Path, path: Path) -> None:
    """Every k-th photo of each class, by name."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "label"])
        for folder in sorted(child for child in flowers.iterdir() if child.is_dir()):
            photos = sorted(folder.glob("*.jpg"))
            chosen = photos[:: len(photos) // _PER_CLASS][:_PER_CLASS]
            rows.writerows([str(photo.resolve()), folder.name] for photo in chosen)


@pytest.mark.slow
def test_a_probe_on_300_flower_photos(flowers: Path, tmp_path: Path) -> None:
    _write_manifest(flowers, tmp_path / "few.csv")
    run = topwork.fit(
        tmp_path / "few.csv", recipe="probe", to=tmp_path / "run", settings=["data.split=60/20/20", "data.seed=0"]
    )
    splits = run.evaluation.to_json()["splits"]
    assert splits["train"]["accuracy"]["n"] + splits["val"]["accuracy"]["n"] + splits["test"]["accuracy"]["n"] == 300
    accuracy = splits["test"]["accuracy"]
    assert accuracy["n"] == 60
    # A probe on far more photos reaches about 0.94; with 60 test photos, 0.80 is more than four standard errors below.
    assert accuracy["value"] > 0.8, accuracy
    assert accuracy["low"] > 0.6  # five classes: chance is 0.2
    # The bundle, which only knows pixels, agrees about photos it was tested on.
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        tested = [row for row in csv.DictReader(stream) if row["split"] == "test"]
    answers = topwork.predict(run.path, [flowers / row["path"] for row in tested])
    agreed = sum(answer.predicted == row["predicted"] for answer, row in zip(answers, tested, strict=True))
    assert agreed >= 58
