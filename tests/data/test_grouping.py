"""What a rule joins, and that bursts are joined without one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.data.capture import Capture, capture_of
from topwork.data.grouping import grouped
from topwork.data.scan import ImageRecord, Scan
from topwork.digest import digest
from topwork.errors import DataError

START = datetime(2024, 5, 1, 12, 0, 0)


def taken(path: Path, *, after: float | None, camera: str = "Fuji X", exif: bool = True) -> None:
    """A one-colour JPEG; `after` is in seconds, with fractions in the tag that cameras use for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = Image.Exif()
    if after is not None:
        maker, _, model = camera.partition(" ")
        block[0x010F], block[0x0110] = maker, model
        moment = START + timedelta(seconds=int(after))
        block.get_ifd(0x8769).update({0x9003: f"{moment:%Y:%m:%d %H:%M:%S}", 0x9291: f"{after % 1:.2f}"[2:]})
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, exif=block)


def record(path: str, *, phash: int | None = None, group: str | None = None) -> ImageRecord:
    sha = digest(path)
    look = int(sha[:16], 16) if phash is None else phash
    size = {"bytes": 1, "width": 8, "height": 8}
    return ImageRecord(path=path, label=path.split("/")[0], split=None, group=group, sha256=sha, phash=look, **size)


def scanned(records: list[ImageRecord], root: Path = Path("/photos")) -> Scan:
    timed = tuple(replace(record, capture=capture_of(root / record.path)) for record in records)
    return Scan(root=root, name="photos", records=timed, findings=(), classes=("a", "b"))


def groups(scan: Scan) -> set[frozenset[str]]:
    members = defaultdict(set)
    for each in scan.records:
        members[each.group or each.path].add(each.path)
    return {frozenset(paths) for paths in members.values() if len(paths) > 1}


def test_a_pattern_joins_by_what_it_captures_across_classes() -> None:
    paths = ["a/plant7_1.jpg", "a/plant7_2.jpg", "b/plant7_3.jpg", "a/plant8_1.jpg", "b/other.jpg"]
    scan = scanned([record(path) for path in paths])
    joined = grouped(scan, by=[r"plant(\d+)"])
    assert groups(joined) == {frozenset(paths[:3])}
    assert groups(grouped(scan, by=[r"plant\d"])) == {frozenset(paths[:3])}  # no captured group: the match itself
    by_class = grouped(scan, by=[r"(\w)/plant(\d+)"])
    assert groups(by_class) == {frozenset(paths[:2])}


def test_a_group_is_named_by_content() -> None:
    one = grouped(scanned([record("a/x1.jpg"), record("a/x2.jpg")]), by=["x"])
    renamed = [replace(r, path=r.path.replace("x", "y")) for r in reversed(one.records)]
    other = grouped(scanned([replace(r, group=None) for r in renamed]), by=["y"])
    assert {r.sha256: r.group for r in one.records} == {r.sha256: r.group for r in other.records}
    assert one.records[0].group == min(r.sha256 for r in one.records)[:16]


def test_folders_below_the_class_join_and_the_class_itself_does_not() -> None:
    paths = ["a/p1/x.jpg", "a/p1/y.jpg", "b/p1/z.jpg", "b/p1/w.jpg", "a/u.jpg", "a/v.jpg"]
    joined = grouped(scanned([record(path) for path in paths]), by=["folder"])
    assert groups(joined) == {frozenset(paths[:2]), frozenset(paths[2:4])}
    parts = [replace(record(f"train/{path}"), label=path.split("/")[0]) for path in paths]
    assert len(groups(grouped(scanned(parts), by=["folder"]))) == 2


def test_rules_and_the_groups_of_a_manifest_join_transitively() -> None:
    records = [
        record("a/p1/k1.jpg"),
        record("a/p1/k2.jpg"),
        record("a/k2.jpg", group="g"),
        record("b/m.jpg", group="g"),
        record("b/n.jpg", group="alone"),
    ]
    joined = grouped(scanned(records), by=["folder", r"(k\d)"])
    assert groups(joined) == {frozenset(r.path for r in records[:4])}
    assert joined.records[4].group == "alone"


@pytest.mark.parametrize("rule", ["folder", "time", "time:5", "plant(\\d+)"])
def test_a_rule_that_joins_nothing_is_a_slip(rule: str) -> None:
    with pytest.raises(DataError, match="joins none of 2") as caught:
        grouped(scanned([record("a/x.jpg"), record("b/y.jpg")]), by=[rule])
    assert rule in caught.value.what


def test_capture_times(tmp_path: Path) -> None:
    taken(tmp_path / "a.jpg", after=1.25)
    taken(tmp_path / "b.jpg", after=None)
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    seconds = (START - datetime(1970, 1, 1)).total_seconds()
    assert capture_of(tmp_path / "a.jpg") == Capture("Fuji X", seconds + 1.25)
    assert [capture_of(tmp_path / name) for name in ("b.jpg", "c.jpg", "absent.jpg")] == [None] * 3
    damaged = (tmp_path / "a.jpg").read_bytes().replace(b"2024:05:01", b"2024:99:99")
    (tmp_path / "d.jpg").write_bytes(damaged)
    assert capture_of(tmp_path / "d.jpg") is None


def test_time_joins_photos_of_one_camera_in_a_chain(tmp_path: Path) -> None:
    moments = {"a/0.jpg": 0.0, "a/1.jpg": 50.0, "a/2.jpg": 100.0, "a/3.jpg": 200.0}
    for path, after in moments.items():
        taken(tmp_path / path, after=after)
    taken(tmp_path / "a/other.jpg", after=51.0, camera="Nikon Z")
    scan = scanned([record(path) for path in [*moments, "a/other.jpg"]], tmp_path)
    assert groups(grouped(scan, by=["time"])) == {frozenset(["a/0.jpg", "a/1.jpg", "a/2.jpg"])}
    assert groups(grouped(scan, by=["time:100"])) == {frozenset(moments)}
    assert groups(grouped(scan)) == set()


def test_bursts_are_joined_without_a_rule_if_they_look_alike(tmp_path: Path) -> None:
    looks = {"a/0.jpg": 0, "a/1.jpg": 0xFFFF, "a/2.jpg": 0xFFFF << 32, "a/late.jpg": 0xFFFF}
    for path, after in zip(looks, (0.0, 1.5, 2.0, 9.0), strict=True):
        taken(tmp_path / path, after=after)
    scan = scanned([record(path, phash=look) for path, look in looks.items()], tmp_path)
    assert groups(grouped(scan)) == {frozenset(["a/0.jpg", "a/1.jpg", "a/2.jpg"])}  # 1 and 2 by way of 0
    apart = [replace(r, phash=r.phash ^ (0xFFFF << 48 if r.path == "a/2.jpg" else 0)) for r in scan.records]
    assert groups(grouped(scanned(apart, tmp_path))) == {frozenset(["a/0.jpg", "a/1.jpg"])}
