"""Planted among drawn flowers, every fault is found under its name; where none was planted, none is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from topwork.data.audit import audit
from topwork.data.finding import Finding
from topwork.data.look import Look, measure_look
from topwork.data.scan import ImageRecord, Scan, scan
from topwork.data.series import series_findings

Photos = Callable[[str, int], Image.Image]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(drawn_photos: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn_photos, tmp_path / "photos"))


def first(folder: Path, label: str, number: int = 0) -> Path:
    return sorted((folder / label).iterdir())[number]


def by_kind(folder: Path) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in audit(scan(folder)):
        found.setdefault(finding.kind, []).append(finding)
    return found


def test_clean_photos_have_no_findings(drawn_photos: Path) -> None:
    assert audit(scan(drawn_photos)) == ()


def _changed(folder: Path, name: str, change: Callable[[Image.Image], Image.Image]) -> None:
    """A changed copy of a tulip under another name; the tulip itself goes, lest the two be look-alikes."""
    source = first(folder, "tulip", -1)
    with Image.open(source) as image:
        change(image.convert("RGB")).save(folder / "tulip" / name, quality=95)
    source.unlink()


def _grey(level: int) -> Callable[[Image.Image], Image.Image]:
    return lambda image: Image.new("RGB", image.size, (level,) * 3)


def _light(scale: float, offset: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: Image.fromarray((np.asarray(image) * scale + offset).astype(np.uint8))


CHANGES: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "blank": ("warning", _grey(128)),
    "dark": ("warning", _light(0.15, 0)),
    "bright": ("warning", _light(0.15, 215)),
    "blurred": ("warning", lambda image: image.filter(ImageFilter.GaussianBlur(5))),
    "tiny": ("warning", lambda image: image.resize((40, 40))),
    "extreme_aspect": ("warning", lambda image: image.resize((400, 100))),
    "odd_mode": ("info", lambda image: image.convert("L")),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_poor_photo_is_named(photos: Path, kind: str) -> None:
    severity, change = CHANGES[kind]
    _changed(photos, "planted.jpg", change)
    found = by_kind(photos)
    (finding,) = found[kind]
    assert (finding.severity, finding.files) == (severity, ("tulip/planted.jpg",))
    assert "tulip/planted.jpg" in finding.evidence
    assert set(found) == {kind}


def _unreadable(folder: Path) -> set[str]:
    path = first(folder, "rose")
    (folder / "rose" / "zz-broken.jpg").write_bytes(path.read_bytes()[:200])
    return {"rose/zz-broken.jpg"}


def _copied(folder: Path) -> set[str]:
    path = first(folder, "rose")
    shutil.copy(path, folder / "rose" / "zz-copy.jpg")
    return {f"rose/{path.name}", "rose/zz-copy.jpg"}


def _resaved(folder: Path) -> set[str]:
    path = first(folder, "rose", 1)
    with Image.open(path) as image:
        image.resize((80, 80)).save(folder / "rose" / "zz-saved.jpg", quality=60)
    return {f"rose/{path.name}", "rose/zz-saved.jpg"}


def _two_labels(folder: Path) -> set[str]:
    path = first(folder, "rose", 2)
    shutil.copy(path, folder / "daisy" / "zz.jpg")
    return {f"rose/{path.name}", "daisy/zz.jpg"}


def _burst(folder: Path) -> set[str]:
    """Three crops of one drawing, too different to be called copies; the third was taken minutes later."""
    source, names = first(folder, "daisy"), []
    with Image.open(source) as image:
        for number, clock in enumerate(("2020:05:01 12:00:01", "2020:05:01 12:00:03", "2020:05:01 12:07:00")):
            cut = image.crop((9 * number, 4 * number, 96 - 6 * number, 96))
            exif = Image.Exif()
            exif.get_ifd(0x8769)[0x9003] = clock
            cut.save(folder / "daisy" / f"zz-{number}.jpg", exif=exif, quality=95)
            names.append(f"daisy/zz-{number}.jpg")
    source.unlink()
    return set(names[:2])


# near_duplicate: what looks alike under two labels is also named among the look-alikes
BESIDE = {"label_conflict": {"near_duplicate"}}
PLANTED: dict[str, tuple[str, Callable[[Path], set[str]]]] = {
    "unreadable": ("warning", _unreadable),
    "exact_duplicate": ("warning", _copied),
    "near_duplicate": ("info", _resaved),
    "label_conflict": ("error", _two_labels),
    "series": ("info", _burst),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_wrong_between_photos_is_named(photos: Path, kind: str) -> None:
    severity, plant = PLANTED[kind]
    files = plant(photos)
    found = by_kind(photos)
    assert set(found) == {kind} | BESIDE.get(kind, set())
    (finding,) = found[kind]
    assert (finding.severity, set(finding.files)) == (severity, files)


def test_twelve_faults_at_once_hide_none_of_one_another(photos: Path) -> None:
    planted = {kind: plant(photos) for kind, (_, plant) in PLANTED.items()}
    for kind, (_, change) in CHANGES.items():
        _changed(photos, f"{kind}.jpg", change)
        planted[kind] = {f"tulip/{kind}.jpg"}
    found = by_kind(photos)
    assert len(planted) == 12
    for kind, files in planted.items():
        named = [set(finding.files) for finding in found[kind]]
        assert any(files <= group for group in named), (kind, named)
        innocent = {file for group in named for file in group} - set().union(*planted.values())
        assert not innocent, (kind, innocent)
    assert set(found) == set(planted)


def parts(folder: Path, into: Path) -> Path:
    """The photos as train and test folders."""
    for path in sorted(folder.rglob("*.jpg")):
        part = "test" if path.stem.endswith(("8", "9")) else "train"
        target = into / part / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return into


def test_a_photo_in_two_given_parts_leaks(drawn_photos: Path, tmp_path: Path) -> None:
    split = parts(drawn_photos, tmp_path / "split")
    assert {finding.kind for finding in audit(scan(split))} == set()
    shutil.copy(first(split / "train", "rose"), split / "test" / "rose" / "again.jpg")
    (leak,) = by_kind(split)["leak"]
    assert leak.severity == "error"
    assert leak.files[0] == "test/rose/again.jpg"


@pytest.mark.parametrize(("part", "severity"), [("train", "error"), ("test", "warning")])
def test_a_class_that_a_part_lacks(drawn_photos: Path, tmp_path: Path, part: str, severity: str) -> None:
    split = parts(drawn_photos, tmp_path / "split")
    shutil.rmtree(split / part / "rose")
    (finding,) = by_kind(split)["missing_from_split"]
    assert finding.severity == severity
    assert f"{part} part has no photo of rose" in finding.evidence


def test_a_small_class_and_uneven_classes(photos: Path) -> None:
    for path in sorted((photos / "rose").iterdir())[1:]:
        path.unlink()
    for path in sorted((photos / "tulip").iterdir())[:5]:
        for number in range(8):
            _noisy(path).save(photos / "tulip" / f"{path.stem}-{number}.png")
    found = by_kind(photos)
    assert "class rose has 1 readable photo" in found["small_class"][0].evidence
    assert "class tulip has 50 photos and class rose 1" in found["uneven_classes"][0].evidence


def _noisy(path: Path) -> Image.Image:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Image.fromarray(np.random.default_rng().permutation(pixels.reshape(-1, 3)).reshape(pixels.shape))


def test_a_mode_that_tells_the_class_is_a_warning(photos: Path) -> None:
    for path in sorted((photos / "rose").iterdir()):
        with Image.open(path) as image:
            grey = image.convert("L")
        grey.save(path)
    (finding,) = by_kind(photos)["odd_mode"]
    assert finding.severity == "warning"
    assert "all in class rose" in finding.evidence


def test_errors_come_first(photos: Path) -> None:
    _changed(photos, "planted.jpg", _grey(3))
    _two_labels(photos)
    order = [finding.severity for finding in audit(scan(photos))]
    assert order == sorted(order, key=["error", "warning", "info"].index)
    assert {"error", "warning"} <= set(order)


def test_blur_lowers_sharpness_and_size_changes_it_little(drawn_photos: Path) -> None:
    with Image.open(first(drawn_photos, "daisy")) as image:
        picture = image.convert("RGB")
    blurred = [picture.filter(ImageFilter.GaussianBlur(sigma)) for sigma in (0, 1, 2, 4)]
    sharpness = [measure_look(np.asarray(image), mode="RGB").sharpness for image in blurred]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] > 2 * sharpness[-1]
    strip = measure_look(np.full((2, 900, 3), 7, np.uint8), mode="L")
    assert strip == Look(mode="L", mean=7.0, low=7.0, high=7.0, sharpness=0.0)


def record(path: str) -> ImageRecord:
    return ImageRecord(
        path=path,
        label="a",
        split=None,
        group=None,
        sha256=path,
        bytes=1,
        width=100,
        height=100,
        phash=0,
    )


def test_neighbouring_numbers_are_a_series_only_of_like_photos() -> None:
    numbers = (1_000_000_000, 1_000_000_040, 2_000_000_000, 3_000_000_000, 4_000_000_000)
    records = [record(f"a/{number}_x.jpg") for number in numbers]
    like = np.eye(5, dtype=np.float32)
    assert series_findings(records, units=like) == ()
    like[1, :2] = 0.8, 0.6
    (finding,) = series_findings(records, units=like)
    assert finding.files == ("a/1000000000_x.jpg", "a/1000000040_x.jpg")
    assert series_findings(records) == ()
    dense = [record(f"a/{number}_x.jpg") for number in range(5)]
    assert series_findings(dense, units=like) == ()  # every number is used: 0.8 tells nothing


def test_an_audit_needs_no_looks(drawn_photos: Path) -> None:
    found = scan(drawn_photos)
    bare = tuple(replace(record, look=None, capture=None) for record in found.records)
    assert audit(Scan(root=found.root, name="x", records=bare, findings=(), classes=found.classes)) == ()
