"""A manifest survives its CSV file, odd names included."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.data.manifest import PARTS, Manifest, Row
from topwork.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ROWS = st.lists(st.builds(Row, TEXT, TEXT, st.sampled_from(PARTS), TEXT, TEXT), max_size=8)


@given(rows=ROWS)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("m") / "manifest.csv"
    manifest = Manifest(Path("/photos"), tuple(rows))
    manifest.write_csv(path)
    assert Manifest.read_csv(path, root=Path("/photos")) == manifest


def test_columns_are_the_contract(tmp_path: Path) -> None:
    row = Row(path="rose/a, b.jpg", label="rose", split="val", group="0f", sha256="ab")
    Manifest(tmp_path, (row,)).write_csv(tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_text() == 'path,label,split,group,sha256\n"rose/a, b.jpg",rose,val,0f,ab\n'


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, (Row("caf\udce9.jpg", "a", "train", "g", "s"),))
    manifest.write_csv(tmp_path / "manifest.csv")
    assert b"caf\xe9.jpg" in (tmp_path / "manifest.csv").read_bytes()
    assert Manifest.read_csv(tmp_path / "manifest.csv", root=tmp_path) == manifest


def test_parts_classes_and_paths() -> None:
    rows = (Row("2", "b", "train", "", ""), Row("1", "a", "val", "", ""), Row("3", "a", "train", "", ""))
    manifest = Manifest(Path("/photos"), rows)
    assert manifest.classes == ("a", "b")
    assert manifest.part("train") == (rows[0], rows[2])
    assert manifest.part("test") == ()
    assert manifest.paths(manifest.part("val")) == (Path("/photos/1"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Got nothing"),
        ("path,label\n", "Got path,label"),
        ("path,label,split,group,sha256\na,b,holdout,c,d\n", "Row 2"),
        ("path,label,split,group,sha256\na,b,val,c,d\na,b\n", "Row 3"),
        ('path,label,split,group,sha256\n"a,b', "readable"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError, match=r"m\.csv") as caught:
        Manifest.read_csv(tmp_path / "m.csv", root=tmp_path)
    assert says in caught.value.what


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        Manifest.read_csv(tmp_path / "m.csv", root=tmp_path)
