"""What a source holds: layouts, labels, what is left out and named, and the index that spares a second decoding."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from topwork.data import scan as scan_module
from topwork.data import scan_index
from topwork.data.finding import Finding
from topwork.data.fingerprint import perceptual_hash
from topwork.data.scan import Scan, list_images, scan
from topwork.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(small).resize(size).save(path, "JPEG", quality=90)
    return path


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    for label in ("rose", "tulip"):
        for number in range(10):
            photo(tmp_path / "photos" / label / f"{number}.jpg", number + 100 * (label == "rose"))
    return tmp_path / "photos"


def kinds(found: Scan) -> dict[str, Finding]:
    return {finding.kind: finding for finding in found.findings}


def test_class_folders(two_classes: Path) -> None:
    photo(two_classes / "rose" / "deep" / "folder.jpg" / "inner.jpg")
    found = scan(two_classes)
    assert found.classes == ("rose", "tulip")
    assert found.name == "photos"
    assert found.findings == ()
    assert [record.path for record in found.records] == sorted(record.path for record in found.records)
    assert len(found.records) == 21
    inner = next(record for record in found.records if record.path.endswith("folder.jpg/inner.jpg"))
    content = (two_classes / inner.path).read_bytes()
    assert (inner.label, inner.split, inner.group) == ("rose", None, None)
    assert inner.sha256 == hashlib.sha256(content).hexdigest()
    assert (inner.bytes, inner.width, inner.height) == (len(content), 24, 16)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST"), ("train", "valid")])
def test_part_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        for label in "ab":
            photo(tmp_path / "d" / name / label / f"{name}.jpg")
    photo(tmp_path / "d" / "extra" / "a" / "x.jpg")
    photo(tmp_path / "d" / names[0] / "loose.jpg")
    found = scan(tmp_path / "d")
    assert found.classes == ("a", "b")
    assert {record.split for record in found.records} == {"train", "val", "test"} & {
        {"v": "val", "t": "train"}[n[0].lower()] if n.lower() != "test" else "test" for n in names
    }
    assert kinds(found)["outside_parts"].files == ("extra/a/x.jpg",)
    assert kinds(found)["no_class"].files == (f"{names[0]}/loose.jpg",)


def test_a_train_folder_alone_names_no_split(tmp_path: Path) -> None:
    for label in "ab":
        photo(tmp_path / "d" / "train" / label / "1.jpg")
    found = scan(tmp_path / "d")
    assert found.classes == ("a", "b")
    assert {record.split for record in found.records} == {None}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for label in ("bus", "train"):
        photo(tmp_path / "d" / label / "1.jpg")
    assert scan(tmp_path / "d").classes == ("bus", "train")


def test_composed_and_decomposed_class_names_are_one_class(tmp_path: Path) -> None:
    photo(tmp_path / "d" / "train" / "e\u0301t\u00e9" / "1.jpg")
    photo(tmp_path / "d" / "val" / "\u00e9te\u0301" / "fleur d'\u00e9te\u0301 \u2013 \u82b1 \U0001f33c.jpg")
    photo(tmp_path / "d" / "train" / "b" / "quote'\"; rm -rf $(x)&.jpg")
    found = scan(tmp_path / "d")
    assert found.classes == ("b", "\u00e9t\u00e9")
    assert len(found.records) == 3


def test_what_is_no_photo_is_named_once_or_skipped(two_classes: Path) -> None:
    rose = two_classes / "rose"
    for name in (".hidden.jpg", "._apple_double.jpg", "Thumbs.db", ".DS_Store"):
        (rose / name).write_bytes(b"\x00\x05\x16\x07")
    photo(two_classes / "__MACOSX" / "x.jpg")
    for number in range(50):
        (rose / f"notes{number}.txt").write_text("words")
    (two_classes / "README.md").write_text("words")
    photo(two_classes / "rose" / "no_extension")
    found = scan(two_classes)
    assert [finding.kind for finding in found.findings] == ["not_a_photo"]
    assert found.findings[0].severity == "info"
    assert len(found.findings[0].files) == 50
    assert "rose/no_extension" in {record.path for record in found.records}


def test_unreadable_photos_are_named_and_left_out(two_classes: Path) -> None:
    whole = (two_classes / "rose" / "0.jpg").read_bytes()
    (two_classes / "rose" / "0.jpg").write_bytes(whole[: len(whole) // 2])
    (two_classes / "tulip" / "1.jpg").write_bytes(b"<html></html>")
    found = scan(two_classes)
    unreadable = {finding.files: finding for finding in found.findings}
    assert set(unreadable) == {("rose/0.jpg",), ("tulip/1.jpg",), ()}
    assert unreadable[("rose/0.jpg",)].evidence.startswith("truncated")
    assert unreadable[("tulip/1.jpg",)].evidence.startswith("html")
    assert unreadable[("tulip/1.jpg",)].severity == "warning"
    assert len(found.records) == 18


def test_links_that_leave_the_folder_are_refused(two_classes: Path, tmp_path: Path) -> None:
    outside = photo(tmp_path / "elsewhere" / "x.jpg")
    rose = two_classes / "rose"
    (rose / "leaves.jpg").symlink_to(outside)
    (rose / "dangling.jpg").symlink_to(rose / "nowhere.jpg")
    (rose / "folder").symlink_to(two_classes / "tulip")
    (rose / "loop").symlink_to(rose)
    (rose / "stays.jpg").symlink_to(two_classes / "tulip" / "0.jpg")
    found = scan(two_classes)
    refused = [finding for finding in found.findings if finding.kind == "link_refused"]
    assert sorted(file for finding in refused for file in finding.files) == [
        f"rose/{name}" for name in ("dangling.jpg", "folder", "leaves.jpg", "loop")
    ]
    assert "rose/stays.jpg" in {record.path for record in found.records}


def test_the_folder_itself_may_be_a_link(two_classes: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(two_classes)
    assert scan(tmp_path / "link").root == two_classes.resolve()


def test_names_that_are_not_utf8_are_left_out_and_printable(two_classes: Path) -> None:
    Path(os.fsdecode(os.fsencode(two_classes / "rose") + b"/caf\xe9.jpg")).write_bytes(b"x")
    found = scan(two_classes)
    finding = kinds(found)["unusable_name"]
    assert finding.files == ("rose/caf\\xe9.jpg",)
    json.dumps(finding.to_json(), ensure_ascii=False).encode("utf-8")


def test_a_class_whose_name_is_not_utf8_is_refused_by_name(two_classes: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(two_classes) + b"/caf\xe9"))
    photo(odd / "x.jpg")
    with pytest.raises(DataError, match=r"caf\\xe9 must be UTF-8, since folders name the classes") as caught:
        scan(two_classes)
    assert caught.value.fix == "rename it."
    photo(two_classes / "rose" / "cafe.jpg")
    odd.rename(two_classes / "cafe")
    assert scan(two_classes).classes == ("cafe", "rose", "tulip")


def test_odd_photos_are_kept_and_said_once(two_classes: Path) -> None:
    for number in range(2):
        path = two_classes / "rose" / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:-2])
    odd = kinds(scan(two_classes))["odd_file"]
    assert odd.files == ("rose/0.jpg", "rose/1.jpg")
    assert odd.severity == "info"


def test_small_and_empty_classes_are_named(two_classes: Path) -> None:
    photo(two_classes / "few" / "1.jpg")
    (two_classes / "none").mkdir()
    (two_classes / "none" / "1.jpg").write_bytes(b"")
    found = scan(two_classes)
    assert found.classes == ("few", "rose", "tulip")
    assert "few has 1 readable photo," in kinds(found)["small_class"].evidence
    assert "none" in kinds(found)["empty_class"].evidence


# --- errors --------------------------------------------------------------------------------------------------------


def _missing(folder: Path) -> Path:
    return folder / "nowhere"


def _empty(folder: Path) -> Path:
    return folder


def _file(folder: Path) -> Path:
    return photo(folder / "x.jpg")


def _loose(folder: Path) -> Path:
    return photo(folder / "x.jpg").parent


def _texts(folder: Path) -> Path:
    for label in "ab":
        (folder / label).mkdir()
        (folder / label / "notes.txt").write_text("words")
    return folder


def _loose_texts(folder: Path) -> Path:
    (folder / "notes.txt").write_text("words")
    return folder


def _one_class(folder: Path) -> Path:
    return photo(folder / "rose" / "x.jpg").parents[1]


def _wrapped(folder: Path) -> Path:
    photo(folder / "flowers" / "rose" / "x.jpg")
    return photo(folder / "flowers" / "tulip" / "x.jpg").parents[2]


def _unreadable(folder: Path) -> Path:
    for label in "ab":
        (folder / label).mkdir()
        (folder / label / "x.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    return folder


@pytest.mark.parametrize(
    ("make", "says", "fix"),
    [
        (_missing, "must exist", "spelling"),
        (_empty, "empty", "one folder a class"),
        (_file, "Got a file", "class folders"),
        (_loose, "1 directly in it", "one folder a class"),
        (_texts, "2 other files, such as a/notes.txt", "put photos"),
        (_loose_texts, "other files, such as notes.txt", "one folder a class"),
        (_one_class, "Got only rose", "second class"),
        (_wrapped, "Got only flowers", "/data/flowers"),
        (_unreadable, "Git LFS", "git lfs pull"),
    ],
)
def test_sources_without_lessons(tmp_path: Path, make: Callable[[Path], Path], says: str, fix: str) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError) as caught:
        scan(make(tmp_path / "data"))
    assert says in caught.value.what
    assert fix in caught.value.fix
    assert "\n" not in caught.value.what + caught.value.fix


# --- manifests -----------------------------------------------------------------------------------------------------


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_manifest(two_classes: Path) -> None:
    text = (
        "\ufefflabel,path,split,group,other\nrose,rose/0.jpg,train,g1,1\nrose,rose/1.jpg,valid,,\n"
        "tulip,tulip/0.jpg,TEST,g1,2\ntulip,tulip/../tulip/1.jpg,,,\n"
    )
    found = scan(table(two_classes / "m.csv", text))
    assert [(r.path, r.label, r.split, r.group) for r in found.records] == [
        ("rose/0.jpg", "rose", "train", "g1"),
        ("rose/1.jpg", "rose", "val", None),
        ("tulip/0.jpg", "tulip", "test", "g1"),
        ("tulip/1.jpg", "tulip", None, None),
    ]
    assert found.name == "m"


@pytest.mark.parametrize("root", ["photos", "./photos/", "{absolute}"])
def test_the_root_column(two_classes: Path, tmp_path: Path, root: str) -> None:
    root = root.format(absolute=two_classes)
    found = scan(table(tmp_path / "m.csv", f"path,label,root\nrose/0.jpg,a,{root}\ntulip/0.jpg,b,\n"))
    assert found.root == two_classes.resolve()
    assert len(found.records) == 2


def test_absolute_paths_and_windows_paths(two_classes: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    rows = f"{two_classes}/rose/0.jpg,a\n{two_classes}/tulip/0.jpg,b\n"
    found = scan(table(tmp_path / "tables" / "m.csv", "path,label\n" + rows))
    assert found.root == two_classes.resolve()
    assert [record.path for record in found.records] == ["rose/0.jpg", "tulip/0.jpg"]
    found = scan(table(two_classes / "m.csv", "path,label\nrose\\0.jpg,a\ntulip\\0.jpg,b\n"))
    assert [record.path for record in found.records] == ["rose/0.jpg", "tulip/0.jpg"]


def test_rows_that_name_no_photo_are_left_out_with_findings(two_classes: Path, tmp_path: Path) -> None:
    photo(tmp_path / "outside.jpg")
    text = (
        "path,label\nrose/0.jpg,rose\nrose/0.jpg,rose\nrose/1.jpg,rose\nrose/1.jpg,tulip\ntulip/0.jpg,tulip\n"
        "gone.jpg,tulip\n../outside.jpg,rose\ntulip/2.jpg,\n"
    )
    found = scan(table(two_classes / "m.csv", text))
    left_out = {finding.kind: finding.files for finding in found.findings if finding.kind != "small_class"}
    assert left_out == {
        "repeated_row": ("rose/0.jpg",),
        "label_conflict": ("rose/1.jpg",),
        "missing": ("gone.jpg",),
        "link_refused": ("../outside.jpg",),
        "no_label": ("tulip/2.jpg",),
    }
    assert [(record.path, record.label) for record in found.records] == [
        ("rose/0.jpg", "rose"),
        ("rose/1.jpg", "rose"),
        ("tulip/0.jpg", "tulip"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"path,label\n", "empty"),
        (b"file;class\nx;y\n", "file;class"),
        (b"path,label\nnowhere.jpg,a\n", "None of 1 does"),
        (b"path,label,split\nrose/0.jpg,a,holdout\n", "'holdout'"),
        (b"path,label\ncaf\xe9.jpg,a\n", "UTF-8"),
        (b"path,label,root\na.jpg,a,x\nb.jpg,b,y\n", "one folder"),
    ],
)
def test_manifests_that_cannot_be_used(two_classes: Path, content: bytes, says: str) -> None:
    (two_classes / "m.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        scan(two_classes / "m.csv")
    assert says in caught.value.what


def test_parquet_needs_pyarrow(two_classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (two_classes / "m.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError) as caught:
        scan(two_classes / "m.parquet")
    assert "pyarrow" in caught.value.fix


# --- progress, index, interruption ---------------------------------------------------------------------------------


class Recorder:
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def step(self, stage: str, done: int, total: int) -> None:
        assert stage == "scan"
        self.steps.append((done, total))

    def say(self, line: str) -> None: ...


def test_progress_and_workers_change_nothing(two_classes: Path) -> None:
    recorder = Recorder()
    assert scan(two_classes, workers=4, progress=recorder) == scan(two_classes, workers=1)
    assert recorder.steps == [(0, 20), (16, 20), (20, 20)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on; no file is too fresh for the index."""
    names: list[str] = []
    real = scan_module.fingerprint

    def counting(path: Path, *, name: str) -> Any:
        names.append(name)
        return real(path, name=name)

    monkeypatch.setattr(scan_module, "fingerprint", counting)
    monkeypatch.setattr(scan_index, "_SETTLED_NS", -(10**12))
    return names


def test_an_unchanged_file_is_not_decoded_again(two_classes: Path, decoded: list[str]) -> None:
    first = scan(two_classes)
    assert len(decoded) == 20
    decoded.clear()
    assert scan(two_classes) == first
    assert decoded == []
    photo(two_classes / "rose" / "3.jpg", seed=77)
    photo(two_classes / "rose" / "new.jpg")
    (two_classes / "tulip" / "0.jpg").unlink()
    again = scan(two_classes)
    assert sorted(decoded) == ["rose/3.jpg", "rose/new.jpg"]
    assert len(again.records) == 20


def test_a_change_that_keeps_size_and_time_is_seen(two_classes: Path, decoded: list[str]) -> None:
    path = two_classes / "rose" / "3.jpg"
    scan(two_classes)
    status = path.stat()
    other = bytearray(path.read_bytes())
    other[-3] ^= 1
    time.sleep(0.02)
    path.write_bytes(bytes(other))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    decoded.clear()
    record = next(record for record in scan(two_classes).records if record.path == "rose/3.jpg")
    assert decoded == ["rose/3.jpg"]
    assert record.sha256 == hashlib.sha256(bytes(other)).hexdigest()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff\xfe", b'{"format": %s, "files": 3}'])
def test_a_damaged_index_counts_as_empty(
    two_classes: Path, decoded: list[str], own_cache: Path, content: bytes
) -> None:
    first = scan(two_classes)
    index = next((own_cache / "scans").iterdir())
    index.write_bytes(content.replace(b"%s", json.dumps(scan_index._FORMAT).encode()))
    decoded.clear()
    assert scan(two_classes) == first
    assert len(decoded) == 20
    decoded.clear()
    scan(two_classes)
    assert decoded == []  # it was rebuilt


def test_a_damaged_entry_is_decoded_again(two_classes: Path, decoded: list[str], own_cache: Path) -> None:
    first = scan(two_classes)
    index = next((own_cache / "scans").iterdir())
    content = json.loads(index.read_bytes())
    content["files"]["rose/0.jpg"][1]["sha256"] = None
    content["files"]["rose/1.jpg"] = "?"
    del content["files"]["rose/2.jpg"][1]["phash"]
    index.write_text(json.dumps(content))
    decoded.clear()
    assert scan(two_classes) == first
    assert sorted(decoded) == ["rose/0.jpg", "rose/1.jpg", "rose/2.jpg"]


def test_a_file_of_this_moment_is_not_indexed(two_classes: Path, own_cache: Path) -> None:
    photo(two_classes / "rose" / "now.jpg")
    scan(two_classes)
    for index in (own_cache / "scans").glob("*.json"):
        assert "rose/now.jpg" not in json.loads(index.read_bytes())["files"]


def test_a_cache_that_cannot_be_written_is_no_error(two_classes: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(scan(two_classes).records) == 20


def test_an_interrupt_does_not_wait_for_the_rest(two_classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path, *, name: str) -> Any:
        time.sleep(0.2)
        return real(path, name=name)

    class Impatient(Recorder):
        def step(self, stage: str, done: int, total: int) -> None:
            if done:
                raise KeyboardInterrupt

    real = scan_module.fingerprint
    for number in range(200):
        photo(two_classes / "rose" / f"more{number}.jpg", number)
    monkeypatch.setattr(scan_module, "fingerprint", slow)
    monkeypatch.setattr(scan_module, "_PER_STEP", 1)
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        scan(two_classes, progress=Impatient())
    assert time.perf_counter() - start < 1.0


# --- any bytes -----------------------------------------------------------------------------------------------------


def smooth(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def _sample(form: str) -> bytes:
    stream = io.BytesIO()
    smooth(1, (40, 30)).save(stream, form)
    return stream.getvalue()


_SAMPLES = [_sample(form) for form in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")]


@given(
    start=st.sampled_from([b"", *_SAMPLES, *(sample[:40] for sample in _SAMPLES)]),
    rest=st.binary(max_size=200),
    damage=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    name=st.sampled_from(["x.jpg", "x.png", "x.heic", "x"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_become_a_record_or_a_finding(
    start: bytes, rest: bytes, damage: list[tuple[int, int]], name: str
) -> None:
    content = bytearray(start + rest)
    for place, value in damage:
        if content:
            content[place % len(content)] = value
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for label in ("rose", "tulip"):
            photo(root / label / "0.jpg")
        (root / "rose" / name).write_bytes(content)
        found = scan(root, workers=1)
    read = {record.path for record in found.records} - {"rose/0.jpg", "tulip/0.jpg"}
    named = [finding for finding in found.findings if f"rose/{name}" in finding.files and finding.kind != "odd_file"]
    assert read == (set() if named else {f"rose/{name}"})
    assert all(finding.kind in ("unreadable", "not_a_photo") and finding.remedy for finding in named)


# --- perceptual hash, list_images ----------------------------------------------------------------------------------


def test_the_hash_survives_resizing_recompression_and_brightness(tmp_path: Path) -> None:
    for seed in range(20):
        original = perceptual_hash(np.asarray(smooth(seed)))
        smooth(seed).save(tmp_path / "copy.jpg", quality=40)
        brighter = smooth(seed).point(lambda value: value * 0.8 + 30)
        for copy in (Image.open(tmp_path / "copy.jpg"), smooth(seed).resize((97, 71)), brighter):
            assert (original ^ perceptual_hash(np.asarray(copy))).bit_count() <= 8
        assert (original ^ perceptual_hash(np.asarray(smooth(seed + 100)))).bit_count() > 12
        assert 0 <= original < 2**64


@pytest.mark.parametrize("shade", [0, 1, 128, 255])
def test_blank_pictures_hash_to_zero(shade: int) -> None:
    assert perceptual_hash(np.full((37, 53, 3), shade, np.uint8)) == 0


def test_list_images(two_classes: Path) -> None:
    (two_classes / "rose" / "notes.txt").write_text("words")
    photo(two_classes / "rose" / ".hidden.jpg")
    bare = photo(two_classes / "rose" / "bare")
    missing = two_classes / "gone.jpg"
    found = list_images([missing, two_classes / "rose", str(two_classes / "rose" / "0.jpg"), two_classes / "rose"])
    assert found[0] == missing
    assert len(found) == len(set(found)) == 12
    assert bare in found
    assert list_images([]) == ()
