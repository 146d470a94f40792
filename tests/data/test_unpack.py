"""An archive decides nothing: what is written, where, and how much of it."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.data.unpack import Caps, unpack
from topwork.errors import DataError


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, files: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as tape:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, len(content)
            tape.addfile(entry, io.BytesIO(content))
    return path


Pack = Callable[[Path, dict[str, bytes]], Path]
packs = pytest.mark.parametrize("pack", [zipped, tarred])


def everything(path: PurePosixPath) -> str | None:
    return path.as_posix()


def opened(archive: Path, into: Path, **choices: object) -> dict[str, bytes]:
    into.mkdir()
    unpack(archive, into, place=everything, **choices)  # type: ignore[arg-type]
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}


@packs
def test_what_goes_in_comes_out(pack: Pack, tmp_path: Path) -> None:
    files = {"a/x.jpg": os.urandom(1000), "a/b/y.jpg": b"", "z": b"z" * 300_000}
    assert opened(pack(tmp_path / "p", files), tmp_path / "o") == files


@packs
def test_the_caller_says_what_and_where(pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path / "p", {"deep/rose/1.jpg": b"1", "deep/notes.txt": b"2"})
    (tmp_path / "o").mkdir()
    count = unpack(archive, tmp_path / "o", place=lambda path: path.name if path.suffix == ".jpg" else None)
    assert count == 1
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["1.jpg"]


@packs
@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "a/../../out.jpg", "a\\..\\out.jpg", "C:/out.jpg"])
def test_names_that_leave_refuse_the_archive(pack: Pack, name: str, tmp_path: Path) -> None:
    archive = pack(tmp_path / "p", {name: b"evil"})
    with pytest.raises(DataError, match="leaves its folder"):
        opened(archive, tmp_path / "o")
    assert not list((tmp_path / "o").rglob("*"))
    assert not (tmp_path / "out.jpg").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_refuse_the_archive(kind: bytes, tmp_path: Path) -> None:
    archive = tarred(tmp_path / "p", {"a/x.jpg": b""}, kind=kind, link="/etc/passwd")
    with pytest.raises(DataError, match="a link or a device"):
        opened(archive, tmp_path / "o")


def test_links_in_a_zip_and_secrets_refuse_the_archive(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a/x.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "p", "w") as bundle:
        bundle.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="a link or a device"):
        opened(tmp_path / "p", tmp_path / "o")
    content = bytearray(zipped(tmp_path / "q", {"x": b"x" * 99}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "q").write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        opened(tmp_path / "q", tmp_path / "o2")


@packs
def test_bombs_are_refused_before_they_are_written(pack: Pack, tmp_path: Path) -> None:
    archive = pack(tmp_path / "p", {f"{n}.jpg": bytes(3_000_000) for n in range(5)})
    with pytest.raises(DataError, match="bomb"):
        opened(archive, tmp_path / "o", caps=Caps(slack=10_000_000))
    assert sum(path.stat().st_size for path in (tmp_path / "o").iterdir()) <= 10_000_000
    with pytest.raises(DataError, match="bomb"):
        opened(archive, tmp_path / "o2", caps=Caps(file_bytes=2_999_999))
    with pytest.raises(DataError, match="more than 4 files"):
        opened(archive, tmp_path / "o3", caps=Caps(files=4))


def test_a_size_that_is_a_lie(tmp_path: Path) -> None:
    content = zipped(tmp_path / "p", {"x.jpg": bytes(500_000)}).read_bytes()
    (tmp_path / "p").write_bytes(content.replace((500_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DataError):
        opened(tmp_path / "p", tmp_path / "o")
    assert all(path.stat().st_size <= 10 for path in (tmp_path / "o").iterdir())


@packs
@pytest.mark.parametrize("names", [["a", "a/b"], ["n" * 300]])
def test_names_that_no_disk_can_hold(pack: Pack, names: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be readable"):
        opened(pack(tmp_path / "p", dict.fromkeys(names, b"x")), tmp_path / "o")


@packs
def test_one_name_for_two_files(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    same = pack(tmp_path / "p", {"flowers/x.jpg": b"1", "flowers/flowers/x.jpg": b"1"})
    assert unpack(same, tmp_path / "o", place=lambda path: path.name) == 1
    other = pack(tmp_path / "q", {"x.jpg": b"2"})
    with pytest.raises(DataError, match="differs"):
        unpack(other, tmp_path / "o", place=lambda path: path.name)


@given(
    cut=st.integers(0, 3000), flips=st.lists(st.integers(0, 10**6), max_size=3), pack=st.sampled_from([zipped, tarred])
)
@settings(deadline=None, max_examples=100)
def test_damage_is_an_error_or_no_matter_and_never_another_exception(
    cut: int, flips: list[int], pack: Pack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    content = bytearray(pack(folder / "p", {"a/x.jpg": os.urandom(2000), "b/y.jpg": bytes(3000)}).read_bytes())
    for flip in flips:
        content[flip % len(content)] ^= 1 + flip % 255
    (folder / "p").write_bytes(content[: max(0, len(content) - cut)])
    try:
        found = opened(folder / "p", folder / "o")
    except DataError:
        return
    assert all(len(data) <= 3000 for data in found.values())
