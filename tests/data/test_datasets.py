"""Known names become folders: made once, whole or not at all, never stale."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from topwork.data import datasets, drawn
from topwork.data.datasets import is_known, known_names, resolve
from topwork.errors import DataError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "_DRAWN_PER_CLASS", 2)
    monkeypatch.setattr(datasets, "_DRAWN_SIZE", 32)
    return tmp_path / "cache"


class _Counts:
    def __init__(self) -> None:
        self.steps = 0

    def step(self, stage: str, done: int, total: int) -> None:
        self.steps += 1

    def say(self, line: str) -> None:
        pass


def _left_over(cache: Path) -> list[Path]:
    return list((cache / "datasets").glob(".*"))


def test_drawn_flowers_are_made_on_first_use_only(cache: Path) -> None:
    first, second = _Counts(), _Counts()
    folder = resolve("drawn-flowers", progress=first)
    assert folder.name == "drawn-flowers"
    assert folder.is_relative_to(cache)
    assert [path.name for path in sorted(folder.iterdir())] == list(drawn.SPECIES)
    assert len(list(folder.rglob("*.jpg"))) == first.steps == 10
    assert all(drawn.read_mask(photo).any() for photo in folder.rglob("*.jpg"))
    assert resolve("drawn-flowers", progress=second) == folder
    assert second.steps == 0
    assert _left_over(cache) == []


@pytest.mark.parametrize(("owner", "name", "value"), [(drawn, "DRAWN_VERSION", 99), (datasets, "_DRAWN_SEED", 3)])
def test_other_content_is_another_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, value: int
) -> None:
    before = resolve("drawn-flowers")
    photo = next(before.rglob("*.jpg")).relative_to(before)
    monkeypatch.setattr(owner, name, value)
    after = resolve("drawn-flowers")
    assert after != before
    assert (after / photo).read_bytes() != (before / photo).read_bytes()


def test_the_folder_appears_whole_by_one_rename(cache: Path) -> None:
    """While it is filled it has another name; afterwards it is the very same folder, not a copy."""
    seen: set[tuple[int, int]] = set()

    class Looks(_Counts):
        def step(self, stage: str, done: int, total: int) -> None:
            (making,) = (cache / "datasets").iterdir()
            seen.add((making.stat().st_dev, making.stat().st_ino))

    home = resolve("drawn-flowers", progress=Looks()).parent
    assert seen == {(home.stat().st_dev, home.stat().st_ino)}


_KILLED = """
import os
from topwork.data import datasets
datasets._DRAWN_PER_CLASS, datasets._DRAWN_SIZE = 2, 32
class Dies:
    def say(self, line): pass
    def step(self, stage, done, total):
        if done == 6:
            os._exit(9)
datasets.resolve("drawn-flowers", progress=Dies())
"""


def test_a_killed_process_leaves_nothing_that_is_trusted(cache: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(datasets.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", _KILLED], env=environment, check=False).returncode == 9
    left = _left_over(cache)
    assert [path.name for path in (cache / "datasets").iterdir()] == [path.name for path in left]
    assert list(left[0].rglob("*.jpg"))  # it was killed half-way, not before
    two_days_ago = time.time() - 2 * 86_400
    os.utime(left[0], (two_days_ago, two_days_ago))
    assert len(list(resolve("drawn-flowers").rglob("*.jpg"))) == 10
    assert _left_over(cache) == []


def test_a_young_half_made_folder_may_belong_to_a_running_process(cache: Path) -> None:
    young = cache / "datasets" / ".making-young"
    young.mkdir(parents=True)
    resolve("drawn-flowers")
    assert young.is_dir()


def test_the_slower_of_two_processes_takes_the_faster_ones_folder(cache: Path) -> None:
    class Overtakes(_Counts):
        def step(self, stage: str, done: int, total: int) -> None:
            if done == 5:
                resolve("drawn-flowers")

    folder = resolve("drawn-flowers", progress=Overtakes())
    assert len(list(folder.rglob("*.jpg"))) == 10
    assert _left_over(cache) == []


def test_names() -> None:
    assert "drawn-flowers" in known_names()
    assert all(is_known(name) for name in known_names())
    assert not is_known("photos")
    with pytest.raises(DataError, match="must be known") as caught:
        resolve("drawn-flower")
    assert "drawn-flowers" in caught.value.fix


def test_a_cache_that_cannot_be_written_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="writable") as caught:
        resolve("drawn-flowers")
    assert "TOPWORK_CACHE" in caught.value.fix
