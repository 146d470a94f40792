"""What is stored of a round is read back, or is no round."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from topwork.data.manifest import Manifest, Row
from topwork.measures.predictions import Predictions, predictions_csv
from topwork.recipe import load_recipe
from topwork.workflow.draft import draft_run
from topwork.workflow.rounds import Entry, RoundPlan, read_round

PATHS = ("a/1.jpg", "a/caf\udce9\r.jpg", "b/2.jpg")
SETTINGS = ["backbone.name=test_efficientnet", "backbone.weights=none", "data.image_size=64"]


def planned(folder: Path, *, paths: tuple[str, ...] = PATHS, settings: list[str] | None = None) -> RoundPlan:
    rows = tuple(
        Row(path=path, label=path[0], split="test", group="", sha256=f"{n:064x}") for n, path in enumerate(paths)
    )
    entry = Entry(name="x", recipe=load_recipe("probe", [*SETTINGS, *(settings or [])]))
    return RoundPlan(entry=entry, manifest=Manifest(root=folder, rows=rows), fold=0, seed=0, folder=folder)


@pytest.fixture
def stored(tmp_path: Path) -> RoundPlan:
    plan = planned(tmp_path)
    said = Predictions(logits=np.eye(2)[[0, 0, 1]], labels=np.array([0, 0, 1]), paths=PATHS, classes=("a", "b"))
    with draft_run(plan.path) as run:
        run.write_recipe(plan.recipe)
        run.predictions_file.write_bytes(predictions_csv({"test": said}).encode("utf-8", "surrogateescape"))
        run.append_history({"phase": 1, "epoch": 1})
        run.write_provenance({"round": {"key": plan.key, "seconds": 1.0}})
    return plan


def test_a_round_comes_back_whatever_its_photos_are_called(stored: RoundPlan) -> None:
    found = read_round(stored)
    assert found is not None
    assert found.predictions.paths == PATHS
    assert [row["epoch"] for row in found.history] == [1]


def test_photos_under_other_names_are_other_photos(stored: RoundPlan) -> None:
    renamed = planned(stored.folder, paths=("a/10.jpg", "a/11.jpg", "b/12.jpg"))
    assert renamed.key == stored.key
    assert read_round(renamed) is None


@pytest.mark.parametrize("name", ["history.jsonl", "predictions.csv", "provenance.json"])
@pytest.mark.parametrize("content", [b"{damaged\n", b"\xff\xfe\n"])
def test_what_is_damaged_is_no_round(stored: RoundPlan, name: str, content: bytes) -> None:
    (stored.path / name).write_bytes(content)
    assert read_round(stored) is None


def test_the_key_knows_what_is_in_the_weights_and_not_only_their_name(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "weights.safetensors"

    def key() -> str:
        return planned(tmp_path, settings=[f"backbone.weights={file}"]).key

    save_file({"x": np.zeros(1, dtype=np.float32)}, file)
    first = key()
    assert key() == first
    save_file({"x": np.ones(1, dtype=np.float32)}, file)
    os.utime(file, ns=(1, 1))  # a file system may be too coarse to tell the two moments apart
    assert key() != first


def test_seeds_have_keys_of_their_own(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert replace(plan, seed=1).key != plan.key
