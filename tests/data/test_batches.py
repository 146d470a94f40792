from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from topwork.data import batches
from topwork.data.augment import augmented_view, view_seed
from topwork.data.batches import AHEAD, Item, read_batches, run_ahead
from topwork.data.decode import decode, decode_bytes, printable, read_file
from topwork.data.view import evaluation_view
from topwork.digest import file_sha256
from topwork.errors import DataError
from topwork.recipe import Augment
from topwork.spec import InputSpec

SPEC = InputSpec(size=32)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    files = [tmp_path / f"photo {number}.png" for number in range(11)]
    for file in files:
        Image.fromarray(random.integers(0, 256, (40, 52, 3), dtype=np.uint8)).save(file)
    return files


def items_of(paths: list[Path], views: int = 1) -> list[Item]:
    return [Item(path, file_sha256(path), view) for path in paths for view in range(views)]


def expected(item: Item, augment: Augment | None, seed: int) -> np.ndarray:
    pixels = decode(item.path, target=SPEC.resize).pixels
    if item.view == 0 or augment is None:
        return evaluation_view(pixels, SPEC)[:, :: -1 if item.view else 1]
    return augmented_view(pixels, SPEC, augment=augment, seed=view_seed(item.sha256, item.view, seed=seed))


@pytest.mark.parametrize("batch", [1, 4, 5, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_row_is_the_view_of_its_item_in_order(paths: list[Path], batch: int, workers: int) -> None:
    items, augment = items_of(paths, views=3), Augment()
    read = list(read_batches(items, SPEC, batch=batch, workers=workers, augment=augment, seed=9))
    assert [row for part in read for row in part.rows] == list(range(len(items)))
    assert all(len(part.rows) == len(part.images) for part in read)
    assert all(len(part.rows) == batch for part in read[:-1])
    images = np.concatenate([part.images for part in read])
    assert images.dtype == np.uint8
    for item, image in zip(items, images, strict=True):
        np.testing.assert_array_equal(image, expected(item, augment, 9))


def test_a_view_does_not_depend_on_its_neighbours(paths: list[Path]) -> None:
    items = items_of(paths, views=2)
    order = np.random.default_rng(1).permutation(len(items))
    straight = rows(items)
    shuffled = rows([items[index] for index in order])
    np.testing.assert_array_equal(straight[order], shuffled)


def rows(items: list[Item]) -> np.ndarray:
    read = read_batches(items, SPEC, batch=4, workers=2, augment=Augment(), seed=0)
    return np.concatenate([part.images for part in read])


def test_without_augmentation_the_second_view_is_the_mirror_image(paths: list[Path]) -> None:
    (part,) = read_batches(items_of(paths[:1], views=2), SPEC, batch=8, workers=1, augment=None, seed=0)
    assert (part.images[1] == part.images[0][:, ::-1]).all()
    assert (part.images[1] != part.images[0]).any()


def test_nothing_to_read_gives_no_batch() -> None:
    assert list(read_batches([], SPEC, batch=4, workers=2, augment=None, seed=0)) == []


def test_a_photo_is_read_and_decoded_once_for_its_views(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    decoded: list[str] = []

    def reading(path: Path, *, name: str) -> bytes:
        read.append(name)
        return read_file(path, name=name)

    def decoding(data: bytes, *, name: str, target: int) -> object:
        decoded.append(name)
        return decode_bytes(data, name=name, target=target)

    monkeypatch.setattr(batches, "read_file", reading)
    monkeypatch.setattr(batches, "decode_bytes", decoding)
    list(read_batches(items_of(paths, views=4), SPEC, batch=8, workers=2, augment=Augment(), seed=0))
    assert sorted(read) == sorted(decoded) == sorted(printable(path) for path in paths)


def test_the_receiver_owns_its_batch(paths: list[Path]) -> None:
    read = list(read_batches(items_of(paths), SPEC, batch=4, workers=2, augment=None, seed=0))
    assert not any(np.shares_memory(a.images, b.images) for a in read for b in read if a is not b)
    for part in read:
        part.images[:] = 0


@pytest.mark.parametrize("damage", ["other bytes", "broken", "gone"])
def test_a_photo_that_is_no_longer_what_was_scanned_is_named(paths: list[Path], damage: str) -> None:
    items = items_of(paths)
    if damage == "gone":
        paths[6].unlink()
    elif damage == "broken":
        paths[6].write_bytes(paths[6].read_bytes()[:200])
    else:
        paths[6].write_bytes(paths[7].read_bytes())
    read = read_batches(items, SPEC, batch=4, workers=2, augment=None, seed=0)
    assert list(next(read).rows) == [0, 1, 2, 3]  # what comes before it is still delivered
    with pytest.raises(DataError, match=r"photo 6\.png") as caught:
        next(read)
    assert "again" in caught.value.fix


def test_reading_stays_a_bounded_number_of_groups_ahead() -> None:
    begun: list[int] = []
    results = run_ahead(begun.append, ([number] for number in count()), workers=2, ahead=3)
    for _ in range(5):
        next(results)
    time.sleep(0.1)
    assert max(begun) == 7  # five delivered, three more begun
    results.close()


def test_closing_stops_promptly_and_leaves_no_thread() -> None:
    before = threading.active_count()
    done: list[int] = []

    def slow(job: int) -> None:
        time.sleep(0.05)
        done.append(job)

    with closing(run_ahead(slow, ([*range(8)] for _ in count()), workers=2)) as results:
        next(results)
        start = time.monotonic()
    assert time.monotonic() - start < 0.04  # waits for nothing
    time.sleep(0.2)
    assert threading.active_count() == before
    assert len(done) <= 8 + 2 * 2


def test_an_error_in_the_loop_stops_the_readers() -> None:
    before = threading.active_count()

    def consume() -> None:
        for _ in run_ahead(str, ([number] for number in count()), workers=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    time.sleep(0.2)
    assert threading.active_count() == before


def test_an_error_of_a_job_comes_in_its_turn() -> None:
    def inverse(number: int) -> float:
        time.sleep(0.02 * number)  # later jobs fail first
        return 1 / (number - 2 if number < 3 else 0)

    results = run_ahead(inverse, [[0], [1], [2], [3]], workers=4)
    assert next(results) == [-0.5]
    assert next(results) == [-1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_unfinished_generator_does_not_hold_the_interpreter() -> None:
    program = (
        "import time\nfrom itertools import count\nfrom topwork.data.batches import run_ahead\n"
        "kept = run_ahead(lambda job: time.sleep(0.01), ([*range(32)] for _ in count()), workers=2)\n"
        "next(kept)\nprint(time.time(), flush=True)\nraise KeyboardInterrupt\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert time.time() - float(done.stdout) < 3
    assert "KeyboardInterrupt" in done.stderr


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    twin = tmp_path / "twin.png"
    twin.hardlink_to(path)
    spec, sha256 = InputSpec(size=160), file_sha256(path)

    def peak(photos: int) -> int:
        items = [Item((path, twin)[row % 2], sha256) for row in range(photos)]  # no two neighbours share a decode
        high = 0
        for part in read_batches(items, spec, batch=16, workers=2, augment=None, seed=0):
            high = max(high, psutil.Process().memory_info().rss)
            assert part.images.nbytes == len(part.rows) * 160 * 160 * 3
        return high

    few = peak(16 * (AHEAD + 3))
    assert peak(16 * 40) - few < 8 * 2**20  # 40 batches hold 49 MB


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 2
    while any(thread.name.startswith("topwork-read") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a reading thread is still alive"
        time.sleep(0.01)
