"""A quarantine is in force for every later scan, can be edited by hand, and ends with its file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from topwork.data.audit import audit
from topwork.data.corrections import write_corrected
from topwork.data.finding import Finding
from topwork.data.quarantine import (
    add_to_quarantine,
    photos_to_leave_out,
    quarantine_of,
    read_quarantine,
    remember,
)
from topwork.data.scan import scan
from topwork.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(drawn_photos: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn_photos, tmp_path / "photos"))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def test_what_is_listed_is_left_out_until_the_list_is_gone(photos: Path, tmp_path: Path) -> None:
    listed, *others = names(photos)
    file = tmp_path / "left-out.csv"
    assert add_to_quarantine(file, {listed: "blank"}) == 1
    assert len(scan(photos).records) == 50  # a list is in force only when someone says so
    remember(scan(photos).root, file)
    found = scan(photos)
    assert [record.path for record in found.records] == others
    (finding,) = [finding for finding in found.findings if finding.kind == "quarantined"]
    assert (finding.severity, finding.files) == ("info", (listed,))
    assert str(file) in finding.evidence
    file.unlink()
    assert quarantine_of(found.root) is None
    assert len(scan(photos).records) == 50


def test_a_manifest_of_the_same_photos_is_quarantined_too(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "left-out.csv"
    add_to_quarantine(file, {names(photos)[3]: ""})
    remember(photos.resolve(), file)
    write_corrected(tmp_path / "m.csv", scan(photos), labels={})
    assert names(photos)[3] not in (tmp_path / "m.csv").read_text()
    lines = (tmp_path / "m.csv").read_text() + f"{names(photos)[3]},rose,,,{photos.resolve()},\n"
    (tmp_path / "m.csv").write_text(lines)
    assert len(scan(tmp_path / "m.csv").records) == 49


def test_lines_of_the_user_stay(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text('path,reason\n"rose/a,b.jpg",my cat\n')
    assert add_to_quarantine(file, {"rose/a,b.jpg": "blank", "rose/é\n.jpg": "x"}) == 1
    assert read_quarantine(file) == {"rose/a,b.jpg": "my cat", "rose/é\n.jpg": "x"}


@pytest.mark.parametrize(("content", "says"), [(b"", "nothing"), (b"file\nx\n", "file"), (b"path\n\xe9", "readable")])
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "q.csv").write_bytes(content)
    with pytest.raises(DataError, match=says):
        add_to_quarantine(tmp_path / "q.csv", {})


def test_a_list_of_everything_is_refused(photos: Path, tmp_path: Path) -> None:
    add_to_quarantine(tmp_path / "q.csv", dict.fromkeys(names(photos), ""))
    remember(photos.resolve(), tmp_path / "q.csv")
    with pytest.raises(DataError, match="names all 50"):
        scan(photos)


def finding(kind: str, *files: str, severity: str = "warning") -> Finding:
    return Finding(kind=kind, severity=severity, files=files, evidence="", remedy="")  # type: ignore[arg-type]


def test_what_is_left_out() -> None:
    findings = [
        finding("unreadable", "u"),
        finding("exact_duplicate", "a", "b", "c"),
        finding("label_conflict", "x", "y", severity="error"),
        finding("leak", "test/l", "train/l", severity="error"),
        finding("leak", "test/m", "train/m"),
        finding("near_duplicate", "n", "o", severity="info"),
        finding("blurred", "s"),
    ]
    split_of = {"test/l": "test", "train/l": "train", "test/m": "test", "train/m": "train"}
    chosen = photos_to_leave_out(findings, split_of)
    assert set(chosen) == {"u", "b", "c", "x", "y", "train/l"}
    assert chosen["b"] == "exact_duplicate"


def test_after_the_quarantine_nothing_must_be_fixed(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / names(photos)[0], photos / "tulip" / "zz.jpg")
    shutil.copy(photos / names(photos)[20], (photos / names(photos)[20]).with_name("zz.jpg"))
    found = scan(photos)
    before = audit(found)
    assert {finding.kind for finding in before} == {"label_conflict", "exact_duplicate", "near_duplicate"}
    add_to_quarantine(tmp_path / "q.csv", photos_to_leave_out(before, {r.path: r.split for r in found.records}))
    remember(found.root, tmp_path / "q.csv")
    after = audit(scan(photos))
    assert {finding.kind for finding in after} <= {"quarantined", "small_class"}


def test_a_corrected_manifest_is_the_same_photos_with_other_labels(photos: Path, tmp_path: Path) -> None:
    found = scan(photos)
    changed = {found.records[0].path: "tulip", found.records[7].path: "rose"}
    write_corrected(tmp_path / "corrected.csv", found, labels=changed)
    again = scan(tmp_path / "corrected.csv")
    assert {r.path: r.label for r in again.records} == {r.path: r.label for r in found.records} | changed
    assert {r.path: r.sha256 for r in again.records} == {r.path: r.sha256 for r in found.records}
    rows = (tmp_path / "corrected.csv").read_text().splitlines()
    assert sum(not row.endswith(",") for row in rows[1:]) == 2


def test_a_corrected_manifest_never_replaces_a_photo(photos: Path) -> None:
    found = scan(photos)
    with pytest.raises(DataError, match="new CSV file"):
        write_corrected(photos / found.records[0].path, found, labels={})


def in_parts(photos: Path, folder: Path) -> Path:
    """The same photos as train and test folders."""
    for name in names(photos):
        part = "test" if name.endswith(("8.jpg", "9.jpg")) else "train"
        (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, folder / part / name)
    return folder.resolve()


@pytest.mark.parametrize(("listed_for", "scanned"), [("", "test"), ("test", ""), ("test/rose", "test"), ("", "")])
def test_a_list_is_in_force_above_and_below_its_folder(
    photos: Path, tmp_path: Path, listed_for: str, scanned: str
) -> None:
    folder = in_parts(photos, tmp_path / "parts")
    photo = folder / "test/rose" / sorted(path.name for path in (folder / "test/rose").iterdir())[0]
    add_to_quarantine(tmp_path / "q.csv", {photo.relative_to(folder / listed_for).as_posix(): "blank"})
    everything = {record.path for record in scan(folder / scanned).records}
    beside = scan(folder / "train")
    remember(folder / listed_for, tmp_path / "q.csv")
    left = {record.path for record in scan(folder / scanned).records}
    assert everything - left == {photo.relative_to(folder / scanned).as_posix()}
    assert scan(folder / "train") == beside


def test_lists_of_several_folders_add_up(photos: Path, tmp_path: Path) -> None:
    folder = in_parts(photos, tmp_path / "parts")
    for part in ("train", "test"):
        add_to_quarantine(tmp_path / f"{part}.csv", {names(folder / part)[0]: ""})
        remember(folder / part, tmp_path / f"{part}.csv")
    found = scan(folder)
    assert len(found.records) == 48
    (told,) = [each for each in found.findings if each.kind == "quarantined"]
    assert told.files == tuple(sorted(f"{part}/{names(folder / part)[0]}" for part in ("train", "test")))
    assert "train.csv" in told.evidence
    assert "test.csv" in told.evidence
