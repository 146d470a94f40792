"""`fetch`: a complete, checked, attributed data set under its name, or one sentence and nothing else."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from topwork.cli.app import run
from topwork.data import download as downloading
from topwork.data.known import KnownFile, KnownSet, known_sets
from topwork.data.scan import scan
from topwork.errors import DataError, ResourceError
from topwork.workflow import fetch as fetching
from topwork.workflow.fetch import fetch

NOWHERE = "http://127.0.0.1:9"


def photo(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tgz(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tape:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tape.addfile(entry, io.BytesIO(content))
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return path


def published(path: Path, **facts: Any) -> KnownFile:
    content = path.read_bytes()
    urls = (f"{NOWHERE}/{path.name}",)
    return KnownFile(urls=urls, bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), **facts)


def described(name: str, files: Sequence[KnownFile], **facts: Any) -> KnownSet:
    texts = {"summary": "s", "homepage": "https://home.page", "licence": "CC BY 2.0", "attribution": "A. Author."}
    return KnownSet(name=name, files=tuple(files), classes=("tulip", "rose"), **{**texts, **facts})


FLOWERS = {f"flowers/{label}/{n}.png": photo(10 * n + ord(label[0])) for label in ("rose", "tulip") for n in range(6)}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror's folder with one small data set, `tiny`; the cache is this test's own."""
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOPWORK_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(downloading, "_wait", lambda _seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    junk = {"flowers/LICENSE.txt": b"by many", "flowers/._x.png": b"?", "__MACOSX/flowers/rose/0.png": b"?"}
    path = tgz(tmp_path / "mirror/tiny/tiny.tgz", {**FLOWERS, **junk, "flowers/other/9.png": photo(9)})
    monkeypatch.setitem(known_sets(), "tiny", described("tiny", [published(path)]))
    return tmp_path / "mirror"


def in_cache(cache: Path) -> list[str]:
    return sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.suffix != ".lock")


def test_a_set_comes_once_and_then_has_a_name(mirror: Path, tmp_path: Path) -> None:
    first = fetch("tiny")
    assert (first.new, first.photos, first.classes) == (True, 12, ("tulip", "rose"))
    found = scan("tiny")
    assert found.name == "tiny"
    assert found.root == first.path.resolve()
    assert {record.path: (found.root / record.path).read_bytes() for record in found.records} == {
        name.removeprefix("flowers/"): content for name, content in FLOWERS.items()
    }
    assert found.findings == () or {finding.kind for finding in found.findings} == {"small_class"}
    facts = json.loads((first.path / "dataset.json").read_text())
    assert facts["classes"] == ["tulip", "rose"]  # the publisher's order, not the alphabet's
    assert facts["licence"] == "CC BY 2.0"
    assert facts["files"][0]["sha256"] == known_sets()["tiny"].files[0].sha256
    assert "A. Author." in (first.path / "ABOUT.txt").read_text()
    assert (first.path / "LICENSE.txt").read_text() == "by many"
    shutil.rmtree(mirror)
    before = in_cache(tmp_path / "cache" / "datasets")
    second = fetch("tiny")
    assert (second.new, second.path, second.photos) == (False, first.path, 12)
    assert in_cache(tmp_path / "cache" / "datasets") == before
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_to_a_folder_of_ones_own(mirror: Path, tmp_path: Path) -> None:
    made = fetch("tiny", to=tmp_path / "photos")
    assert made.path == tmp_path / "photos"
    assert fetch("tiny", to=tmp_path / "photos").new is False
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="new or empty"):
        fetch("tiny", to=tmp_path / "other")
    with pytest.raises(DataError, match="on this machine") as caught:
        scan("tiny")
    assert "topwork fetch tiny" in caught.value.fix


@pytest.fixture
def mirror_url(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(mirror)))
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setenv("TOPWORK_DATA_MIRROR", f"{url}/")
    yield url
    http.shutdown()
    http.server_close()


def test_a_mirror_may_be_a_server(mirror_url: str) -> None:
    assert fetch("tiny").photos == 12


@pytest.mark.parametrize("damage", ["other", "absent"])
def test_without_the_right_bytes_there_is_one_sentence_and_nothing_else(
    damage: str, mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mirror / "tiny/tiny.tgz"
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[::-1])
    assert run(["fetch", "tiny"]) == 2
    said = capsys.readouterr()
    *_, what, fix = said.err.strip().splitlines()
    assert "could not be downloaded" in what
    assert "127.0.0.1:9 refused the connection" in what
    assert fix.startswith("fix: ")
    assert "--from FILE" in fix
    assert f"{NOWHERE}/tiny.tgz" in fix
    assert "TOPWORK_DATA_MIRROR" in fix
    assert said.out == ""
    assert not (tmp_path / "cache/datasets").exists()


def test_files_brought_by_hand(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPWORK_DATA_MIRROR")
    file = mirror / "tiny/tiny.tgz"
    assert fetch("tiny", given=file, to=tmp_path / "a").photos == 12
    assert fetch("tiny", given=file.parent, to=tmp_path / "b").photos == 12
    assert file.exists()  # it is the user's
    wrong = tmp_path / "wrong.tgz"
    wrong.write_bytes(file.read_bytes()[:-1])
    for given, about in ((wrong, "must be the published"), (tmp_path / "none.tgz", "must exist")):
        with pytest.raises(DataError, match=about):
            fetch("tiny", given=given, to=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_what_only_the_user_can_download_is_explained(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="downloaded by yourself") as caught:
        fetch("kaggle_flowers")
    assert "kaggle.com" in caught.value.fix
    assert "topwork fetch kaggle_flowers --from archive.zip" in caught.value.fix
    classes = known_sets()["kaggle_flowers"].classes
    plain = {f"flowers/{label}/{n}.png": photo(100 * k + n) for k, label in enumerate(classes) for n in range(3)}
    twice = {name.replace("flowers/", "flowers/flowers/", 1): content for name, content in plain.items()}
    archive = zipped(tmp_path / "archive.zip", {**plain, **twice})
    made = fetch("kaggle_flowers", given=archive)
    assert made.photos == 15
    assert len(scan("kaggle_flowers").records) == 15
    facts = json.loads((made.path / "dataset.json").read_text())
    assert facts["files"] == [{"name": "archive.zip", "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}]
    partial = zipped(tmp_path / "partial.zip", {name: c for name, c in plain.items() if "tulip" not in name})
    with pytest.raises(DataError, match="none of tulip"):
        fetch("kaggle_flowers", given=partial, to=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_official_split_in_archives_is_kept(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for part, folder in (("train", "train"), ("val", "validation"), ("test", "test")):
        names = [f"{folder}/{label}/{part}{number}.png" for label in ("rose", "tulip") for number in (1, 2)]
        inside = {name: photo(sum(name.encode())) for name in names}
        path = zipped(mirror / f"leaves/{folder}.zip", {**inside, "README.md": part.encode()})
        files.append(published(path, part=part))
    monkeypatch.setitem(known_sets(), "leaves", described("leaves", files))
    assert fetch("leaves").photos == 12
    records = scan("leaves").records
    assert {(r.path.split("/")[0], r.split) for r in records} == {(p, p) for p in ("train", "val", "test")}
    assert {r.split for r in records if "train" in r.path.split("/")[2]} == {"train"}


def test_an_official_split_in_tables_is_kept(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [1, 2, 1, 2, 1, 2, 2]  # counted from 1: tulip, rose
    parts = {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6, 7]}
    folder = mirror / "oxford"
    pack = tgz(folder / "o.tgz", {f"jpg/image_{n:05d}.jpg": photo(n) for n in range(1, 8)})
    savemat(folder / "labels.mat", {"labels": [labels]})
    savemat(folder / "setid.mat", {key: [value] for key, value in parts.items()})
    tables = [published(folder / name) for name in ("labels.mat", "setid.mat")]
    oxford = described("oxford", [published(pack), *tables], layout="oxford")
    monkeypatch.setitem(known_sets(), "oxford", oxford)
    fetch("oxford")
    told = {r.path: (r.label, r.split) for r in scan("oxford").records}
    assert told["train/tulip/image_00001.jpg"] == ("tulip", "train")
    assert told["val/rose/image_00004.jpg"] == ("rose", "val")
    assert told["test/rose/image_00007.jpg"] == ("rose", "test")
    assert len(told) == 7
    savemat(folder / "setid.mat", {key: [value[:1]] for key, value in parts.items()})
    with pytest.raises(DataError, match="must be the published"):
        fetch("oxford", given=folder, to=mirror / "x")
    short = described("oxford", [published(folder / n) for n in ("o.tgz", "labels.mat", "setid.mat")], layout="oxford")
    monkeypatch.setitem(known_sets(), "oxford", short)
    with pytest.raises(DataError, match="same photos"):
        fetch("oxford", given=folder, to=mirror / "x")
    assert not (mirror / "x").exists()


def test_a_hostile_archive_leaves_nothing(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tgz(mirror / "evil/evil.tgz", {**FLOWERS, "flowers/../../../../rose/out.png": photo(1)})
    monkeypatch.setitem(known_sets(), "evil", described("evil", [published(path)]))
    with pytest.raises(DataError, match="leaves its folder"):
        fetch("evil")
    assert [name for name in in_cache(tmp_path / "cache/datasets") if name.endswith(".png")] == []
    with pytest.raises(DataError, match="on this machine"):
        scan("evil")


def test_a_full_disk_is_said_before_any_work(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(ResourceError, match="GB free"):
        fetch("tiny")
    assert not (tmp_path / "cache").exists()


def test_an_interrupt_while_unpacking_leaves_no_half_set(mirror: Path, tmp_path: Path) -> None:
    class Stops:
        def step(self, stage: str, done: int, total: int) -> None:
            if stage == "unpack" and done == 5:
                raise KeyboardInterrupt

        def say(self, line: str) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        fetch("tiny", progress=Stops())
    assert not list((tmp_path / "cache/datasets").rglob("*.png"))
    assert len(list((tmp_path / "cache/downloads").glob("*.tgz"))) == 1  # what arrived need not come again
    shutil.rmtree(mirror)
    assert fetch("tiny").photos == 12


def test_the_command_line(mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["datasets"]}
    assert set(rows) >= {"tf_flowers", "kaggle_flowers", "oxford_flowers102", "beans", "trashnet", "tiny"}
    assert rows["tiny"]["here"] is False
    assert run(["fetch", "tiny"]) == 0
    said = capsys.readouterr()
    assert Path(said.out.strip()).is_dir()
    assert "licence: CC BY 2.0" in said.err
    assert "attribution: A. Author." in said.err
    assert run(["fetch", "tiny", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["new"], told["photos"], told["path"]) == (False, 12, said.out.strip())
    assert run(["fetch"]) == 0
    assert "tf_flowers" in capsys.readouterr().out
    for name, about in (("tf_flower", "'tf_flowers'"), ("drawn-flowers", "needs no download")):
        assert run(["fetch", name]) == 2
        assert about in capsys.readouterr().err


def test_the_facts_are_those_that_were_published(test_data: Path) -> None:
    lines = [line.split("\t") for line in (test_data / "sources.tsv").read_text().splitlines() if line[0] != "#"]
    assert len(lines) == 7
    for name, url, size, checksum in lines:
        file = next(file for file in known_sets()[name].files if file.urls[0] == url)
        assert (file.bytes, file.sha256) == (int(size), checksum)


def test_the_facts_are_complete() -> None:
    for known in known_sets().values():
        assert len(set(known.classes)) == len(known.classes) >= 2
        assert bool(known.files) != bool(known.archive)
        assert all(text for text in (known.summary, known.homepage, known.licence, known.attribution))
        for file in known.files:
            assert len(file.sha256) == 64
            assert {url.rsplit("/", 1)[-1] for url in file.urls} == {file.name}
        assert not any(set(name) & set('/\\:*?"<>|') for name in known.classes)  # they become folders, on any system
    assert len(known_sets()["oxford_flowers102"].classes) == 102


def test_facts_that_decide_the_content_name_the_folder() -> None:
    one = described("x", [])
    assert one.version == described("x", [], summary="other words").version
    file = KnownFile(urls=("http://a/b",), bytes=1, sha256="0" * 64)
    versions = {one.version, described("x", [], layout="oxford").version, described("x", [file]).version}
    assert len(versions) == 3
