"""A planted watermark, odd files and blank frames are found; drawn flowers, which have no shortcut, raise nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.data.drawn import SPECIES, write_drawn_flowers
from topwork.explanations.shortcuts import COARSEST, PROBES, Sights, hot_spots, look, probe, shortcut_findings

EACH = 20


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shortcuts") / "flowers"
    return write_drawn_flowers(folder, n_per_class=EACH, size=64, seed=3, masks=False)


def _changed(flowers: Path, to: Path, change: Callable[[Image.Image, str, Path], None]) -> Path:
    for photo in sorted(flowers.rglob("*.jpg")):
        target = to / photo.parent.name / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(photo) as picture:
            change(picture.copy(), photo.parent.name, target)
    return to


def _seen(folder: Path) -> tuple[list[Sights], list[str]]:
    photos = sorted(folder.rglob("*.*"))
    return [look(photo) for photo in photos], [photo.parent.name for photo in photos]


def _findings(folder: Path) -> dict[str, str]:
    sights, labels = _seen(folder)
    probes = [probe(name, sights, labels=labels, groups=[""] * len(labels)) for name in PROBES]
    warned = [each for each in probes if each is not None and each.warns]
    return {each.name: finding.evidence for each, finding in zip(warned, shortcut_findings(warned), strict=True)}


def test_a_clean_set_raises_nothing(flowers: Path) -> None:
    assert not _findings(flowers)


def test_a_watermark_on_one_class_is_caught_at_the_border(flowers: Path, tmp_path: Path) -> None:
    def mark(picture: Image.Image, label: str, target: Path) -> None:
        if label == "rose":
            picture.paste((255, 255, 255), (56, 58, 64, 62))
        picture.save(target, quality=90)

    found = _findings(_changed(flowers, tmp_path / "marked", mark))
    assert set(found) == {"border"}
    assert "gives away rose" in found["border"]


def test_another_quality_for_one_class_is_caught_in_the_file(flowers: Path, tmp_path: Path) -> None:
    def save(picture: Image.Image, label: str, target: Path) -> None:
        picture.save(target, quality=70 if label == "tulip" else 90)

    found = _findings(_changed(flowers, tmp_path / "saved", save))
    assert set(found) == {"file"}
    assert "tulip" in found["file"]


def test_a_heic_photo_is_looked_at_like_any_other(flowers: Path, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    photo = next(iter(sorted(flowers.rglob("*.jpg"))))
    with Image.open(photo) as picture:
        heif.from_pillow(picture.convert("RGB")).save(tmp_path / "photo.heic")  # without EXIF
    seen, plain = look(tmp_path / "photo.heic").numbers, look(photo).numbers
    assert {name: values.shape for name, values in seen.items()} == {name: each.shape for name, each in plain.items()}
    assert np.isfinite(seen["file"]).all()
    assert np.abs(seen["colours"] - plain["colours"]).mean() < 0.1


def test_a_jpeg_may_number_its_only_table_as_it_likes(flowers: Path, tmp_path: Path) -> None:
    with Image.open(next(iter(sorted(flowers.rglob("*.jpg"))))) as picture:
        picture.convert("L").save(tmp_path / "first.jpg")
    data = bytearray((tmp_path / "first.jpg").read_bytes())
    data[data.index(b"\xff\xdb") + 4] = 1  # the table's number
    data[data.index(b"\xff\xc0") + 12] = 1  # and the one that the only channel names
    (tmp_path / "second.jpg").write_bytes(data)
    np.testing.assert_array_equal(
        look(tmp_path / "second.jpg").numbers["file"], look(tmp_path / "first.jpg").numbers["file"]
    )


def test_classes_that_are_colours_are_named_so() -> None:
    rng = np.random.default_rng(0)
    labels = [name for name in SPECIES for _ in range(EACH)]
    tint = {name: rng.uniform(0, 1, 192) for name in SPECIES}
    sights = [
        Sights(numbers={"colours": (tint[name] + rng.normal(0, 0.05, 192)).astype(np.float32)}) for name in labels
    ]
    found = probe("colours", sights, labels=labels, groups=[""] * len(labels))
    assert found is not None
    assert found.warns
    assert found.accuracy.value > 0.95
    assert found.majority == pytest.approx(0.2)


def test_groups_stay_together() -> None:
    """Every group has a colour of its own and a label by chance: leaking groups would look like skill."""
    rng = np.random.default_rng(1)
    groups = [f"g{row // 5}" for row in range(100)]
    tint = {name: rng.uniform(0, 1, 192) for name in groups}
    of_group = {name: "ab"[number % 2] for number, name in enumerate(dict.fromkeys(groups))}
    sights = [Sights(numbers={"border": tint[name].astype(np.float32)}) for name in groups]
    labels = [of_group[name] for name in groups]
    together = probe("border", sights, labels=labels, groups=groups)
    leaking = probe("border", sights, labels=labels, groups=[""] * 100)
    assert together is not None
    assert leaking is not None
    assert leaking.accuracy.value > 0.95
    assert together.accuracy.value < 0.8


def test_too_few_photos_say_nothing() -> None:
    sights = [Sights(numbers={"file": np.zeros(3, np.float32)})] * 12
    assert probe("file", sights, labels=["a"] * 9 + ["b"] * 3, groups=[""] * 12) is None


def test_heatmaps_that_never_leave_one_corner_are_a_hot_spot() -> None:
    rng = np.random.default_rng(2)
    raw = rng.random((60, 7, 7)).astype(np.float32)
    raw[:20, 6, 6] = 5  # class a: always the lower right corner
    raw[20:40, 3, 3] = 5  # class b: always the middle, where objects are
    spots = hot_spots(raw, ["a"] * 20 + ["b"] * 20 + ["c"] * 20)
    assert [(spot.label, spot.row, spot.column, spot.place) for spot in spots] == [("a", 6, 6, "lower right")]
    (finding,) = shortcut_findings([], spots)
    assert (finding.kind, finding.severity) == ("shortcut", "warning")
    assert "heatmaps of a" in finding.evidence
    assert "look there (lower right)" in finding.remedy


@pytest.mark.parametrize(
    ("cell", "place"),
    [
        *(((0, 0), "upper left"), ((3, 0), "middle left"), ((0, 3), "upper middle"), ((6, 4), "lower middle")),
        ((5, 5), "lower right"),  # a sign in the corner is often seen best one cell further in
        *(((5, 3), None), ((4, 5), None), ((3, 3), None)),  # objects stand there
    ],
)
def test_the_place_of_a_hot_spot_is_named(cell: tuple[int, int], place: str | None) -> None:
    raw = np.zeros((20, 7, 7), np.float32)
    raw[:, *cell] = 1
    assert [spot.place for spot in hot_spots(raw, ["a"] * 20)] == ([] if place is None else [place])


@pytest.mark.parametrize("side", [1, 2, 4])
def test_a_map_of_few_cells_has_no_edge(side: int) -> None:
    """Of 1 x 1 cells all lie at the edge, of 4 x 4 still 12 of 16: an object alone would raise a warning there."""
    raw = np.zeros((40, side, side), np.float32)
    raw[:, 0, 0] = 1
    assert hot_spots(raw, ["a"] * 40) == ()
    assert len(hot_spots(np.pad(raw, ((0, 0), (0, COARSEST - side), (0, COARSEST - side))), ["a"] * 40)) == 1
