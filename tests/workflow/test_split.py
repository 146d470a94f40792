"""`split` on disk: what it writes can be read again and says the same, and half of it is never there."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

import topwork
from topwork.data import materialize as materializing
from topwork.data.manifest import Manifest
from topwork.data.scan import scan
from topwork.errors import DataError, RecipeError, TopworkError
from topwork.workflow.split import SplitChoice, split


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_manifest_elsewhere_finds_its_photos_again(drawn_photos: Path, tmp_path: Path) -> None:
    made = split(drawn_photos, to=tmp_path / "deep/split", choice=SplitChoice(shares="60/20/20", seed=3))
    (file,) = made.files
    again = scan(file)
    assert {r.path: (r.label, r.split) for r in again.records} == {
        row.path: (row.label, row.split) for row in made.manifest.rows
    }
    assert again.root == drawn_photos.resolve()
    assert Manifest.read_csv(file, root=made.manifest.root) == made.manifest
    assert json.loads((tmp_path / "deep/split/findings.json").read_text()) == [f.to_json() for f in made.findings]


@pytest.mark.parametrize("how", ["copy", "link"])
def test_materialized_folders_are_the_split(how: materializing.How, drawn_photos: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(drawn_photos, photos)
    (photos / "rose/more").mkdir()
    twin = next(path for path in (photos / "rose").iterdir() if path.suffix == ".jpg")
    shutil.copy(next((photos / "rose").glob("*1.jpg")), photos / "rose/more" / twin.name.upper())
    made = split(photos, to=tmp_path / "out", choice=SplitChoice(shares="60/20/20", materialize=how))
    plain = split(photos, to=tmp_path / "plain", choice=SplitChoice(shares="60/20/20"))
    again = scan(tmp_path / "out")

    def told(rows: object) -> list[tuple[str, str, str]]:
        return sorted((row.sha256, row.label, row.split) for row in rows)  # type: ignore[attr-defined]

    assert told(again.records) == told(made.manifest.rows) == told(plain.manifest.rows)
    assert len(again.records) == 51
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"train", "val", "test", "manifest.csv"}
    assert Manifest.read_csv(tmp_path / "out/manifest.csv", root=tmp_path / "out") == made.manifest
    one = made.manifest.rows[0]
    source = next(row.path for row in plain.manifest.rows if row.sha256 == one.sha256)
    assert os.path.samefile(made.manifest.root / one.path, photos / source) == (how == "link")
    names = [row.path.casefold() for row in made.manifest.rows]
    assert len(set(names)) == len(names)


def test_materializing_is_whole_or_nothing(drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def full_disk(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(materializing.shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="No space"):
        split(drawn_photos, to=tmp_path / "out", choice=SplitChoice(materialize="copy"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_gets_no_photos(drawn_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    split(drawn_photos, to=tmp_path / "out", choice=SplitChoice(materialize="link"))  # empty: welcome
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="new or empty"):
        split(drawn_photos, to=tmp_path / "out", choice=SplitChoice(materialize="link", seed=1))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_cannot_link_says_what_to_do(
    drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(source: str, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(DataError, match="linkable") as caught:
        split(drawn_photos, to=tmp_path / "out", choice=SplitChoice(materialize="link"))
    assert "copy" in caught.value.fix


@pytest.mark.parametrize("label", ["a/b", "..", ".hidden", "x" * 300])
def test_a_class_that_cannot_name_a_folder(label: str) -> None:
    assert materializing.folder_name_problem(label)
    assert not materializing.folder_name_problem("Löwenzahn, gelb")


def test_folds_are_manifests_whose_test_parts_make_up_everything(drawn_photos: Path, tmp_path: Path) -> None:
    made = split(drawn_photos, to=tmp_path / "out", choice=SplitChoice(folds=3))
    tested = [row["path"] for file in made.files for row in rows_of(file) if row["split"] == "test"]
    assert sorted(tested) == sorted(record.path for record in scan(drawn_photos).records)
    assert [file.relative_to(tmp_path).as_posix() for file in made.files] == [
        f"out/fold-{n}/manifest.csv" for n in (1, 2, 3)
    ]


def test_a_held_out_class_is_in_a_file_of_its_own(drawn_photos: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(drawn_photos, photos)
    copied = next((photos / "tulip").glob("*.jpg"))
    shutil.copy(copied, photos / "rose/stray.jpg")
    made = split(photos, to=tmp_path / "out", choice=SplitChoice(hold_out=("tulip",)))
    rows = rows_of(tmp_path / "out/manifest.csv")
    aside = rows_of(tmp_path / "out/held-out.csv")
    assert "tulip" not in {row["label"] for row in rows}
    assert {(row["label"], row["split"]) for row in aside} == {("tulip", "test")}
    assert (len(rows), len(aside)) == (40, 10)
    assert [f.files for f in made.findings if f.kind == "joins_held_out"] == [("rose/stray.jpg",)]
    with pytest.raises(DataError, match="one of 5") as caught:
        split(photos, to=tmp_path / "x", choice=SplitChoice(hold_out=("tulips",)))
    assert "'tulip'" in caught.value.fix
    with pytest.raises(DataError, match="Two classes"):
        split(photos, to=tmp_path / "x", choice=SplitChoice(hold_out=("tulip", "rose", "daisy", "sunflower")))


def test_keeping_a_split_while_photos_come_in(drawn_photos: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(drawn_photos, photos)
    held_back = [path for path in sorted(photos.rglob("*.jpg")) if path.stem.endswith(("0", "1"))]
    for path in held_back:
        path.rename(tmp_path / f"{path.parent.name}-{path.name}")
    old = split(photos, to=tmp_path / "old", choice=SplitChoice(shares="60/20/20"))
    for path in held_back:
        (tmp_path / f"{path.parent.name}-{path.name}").rename(path)
    for keep in (tmp_path / "old", tmp_path / "old/manifest.csv"):
        new = split(photos, to=tmp_path / "new", choice=SplitChoice(shares="60/20/20", seed=9, keep=keep))
        parts = {row.path: row.split for row in new.manifest.rows}
        assert {row.path: row.split for row in old.manifest.rows}.items() <= parts.items()
        assert len(parts) == 50 > len(old.manifest.rows)


@pytest.mark.parametrize(
    ("choice", "about"),
    [
        (SplitChoice(shares="50/10"), "50/10"),
        (SplitChoice(group_by=("plant(",)), "group_by"),
        (SplitChoice(folds=3, keep="old"), "anew"),
        (SplitChoice(materialize="move"), "move"),  # type: ignore[arg-type]
        (SplitChoice(keep="absent.csv"), "absent.csv"),
        (SplitChoice(folds=51), "51"),
    ],
)
def test_choices_that_do_not_fit(choice: SplitChoice, about: str, drawn_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(TopworkError) as caught:
        split(drawn_photos, to=tmp_path / "out", choice=choice)
    assert about in caught.value.what
    assert not (tmp_path / "out").exists()


def test_fit_takes_the_same_rules(drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def record(_recipe: object, manifest: Manifest, **_rest: object) -> None:
        made.append(manifest)
        raise Stop

    made: list[Manifest] = []
    monkeypatch.setattr("topwork.workflow.fit.fit_manifest", record)
    rule = r"(\w+/\w+-\d+)\d"  # ten photos of a class that differ in the last digit
    settings = ["data.split=40/30/30", f"data.group_by={rule}"]
    with pytest.raises(DataError, match="must each hold a photo"):  # a group a class: too few for three parts
        topwork.fit(drawn_photos, recipe="probe", to=tmp_path / "run", settings=["data.group_by=^(d|r|s|t)"])
    photos = tmp_path / "photos"
    shutil.copytree(drawn_photos, photos)
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
        path.rename(path.with_name(f"plant-{100 + 3 * number}.jpg"))
    with pytest.raises(Stop):
        topwork.fit(photos, recipe="probe", to=tmp_path / "run", settings=settings)
    sides: dict[str, set[str]] = {}
    for row in made[0].rows:
        sides.setdefault(row.path[: -len("0.jpg")], set()).add(row.split)
    assert len(sides) < 50
    assert all(len(parts) == 1 for parts in sides.values()), sides


def test_a_recipe_brings_its_rules_back(tmp_path: Path) -> None:
    rules = (r"plant-(\d+)", "folder", "time:10")
    recipe = topwork.load_recipe("probe").replace({"data.group_by": list(rules)})
    (tmp_path / "r.toml").write_text(recipe.to_toml())
    assert topwork.load_recipe(tmp_path / "r.toml") == recipe
    assert topwork.load_recipe("probe", [r"data.group_by=plant-(\d+)"]).data.group_by == rules[:1]
    with pytest.raises(RecipeError, match="group_by"):
        topwork.load_recipe("probe", ["data.group_by=plant("])
