"""Hash and features together: neither sign alone makes two photos one picture."""

from __future__ import annotations

import numpy as np
import pytest

from topwork.data.copies import copy_findings
from topwork.data.fingerprint import perceptual_hash
from topwork.data.lookalikes import least_cosine, look_alikes
from topwork.data.scan import ImageRecord

HASH = 0x0123456789ABCDEF


def record(path: str, *, phash: int = 0, label: str = "a", split: str | None = None, sha: str = "") -> ImageRecord:
    size = {"bytes": 1, "width": 200, "height": 200}
    return ImageRecord(path=path, label=label, split=split, group=None, sha256=sha or path, phash=phash, **size)


def units(cosine: float, others: int = 0) -> np.ndarray:
    """Two rows with that cosine, and rows that are orthogonal to all."""
    made = np.zeros((2 + others, 2 + others), np.float32)
    made[0, 0] = 1
    made[1, :2] = cosine, np.sqrt(1 - cosine**2)
    made[2:, 2:] = np.eye(others)
    return made


def flipped(bits: int) -> int:
    return HASH ^ ((1 << bits) - 1)


def test_the_more_bits_differ_the_more_alike_the_features_must_be() -> None:
    needed = least_cosine(np.arange(65))
    assert (np.diff(needed) >= 0).all()
    assert (needed[:23] < 1).all()
    assert (needed[23:] > 1).all()


@pytest.mark.parametrize("bits", [0, 4, 8, 12, 16, 20, 22])
def test_both_signs_are_needed(bits: int) -> None:
    pair = [record("1", phash=HASH), record("2", phash=flipped(bits))]
    needed = float(least_cosine(np.array(bits)))
    (found,) = look_alikes(pair, units=units(needed + 0.01))
    assert (found.first, found.second, found.bits, found.mirrored) == (0, 1, bits, False)
    assert found.cosine == pytest.approx(needed + 0.01, abs=1e-4)
    assert look_alikes(pair, units=units(needed - 0.01)) == ()


def test_like_features_alone_are_not_enough() -> None:
    assert look_alikes([record("1", phash=HASH), record("2", phash=flipped(30))], units=units(0.99)) == ()


@pytest.mark.parametrize(("bits", "cosine"), [(0, 0.5), (4, 0.6), (8, 0.7)])
def test_like_hashes_alone_are_not_enough(bits: int, cosine: float) -> None:
    """Different things on one white board."""
    pair = [record("1", phash=HASH), record("2", phash=flipped(bits))]
    assert look_alikes(pair, units=units(cosine)) == ()
    assert len(look_alikes(pair)) == 1  # without features the hash must do


def test_a_mirror_image_is_found() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    there, back = perceptual_hash(picture), perceptual_hash(np.ascontiguousarray(picture[:, ::-1]))
    assert (there ^ back).bit_count() > 22
    (found,) = look_alikes([record("1", phash=there), record("2", phash=back)], units=units(0.9))
    assert found.mirrored
    assert not found.sure
    assert look_alikes([record("1", phash=there), record("2", phash=back)], units=units(0.7)) == ()


def kinds(*records: ImageRecord, cosine: float) -> list[tuple[str, str]]:
    return [(finding.kind, finding.severity) for finding in copy_findings(records, units=units(cosine))]


def test_a_picture_saved_again_under_another_label_or_in_another_part_is_an_error() -> None:
    one = record("1", phash=HASH, split="train")
    tulip = record("2", phash=flipped(2), label="b", split="train")
    assert kinds(one, tulip, cosine=0.95) == [("label_conflict", "error"), ("near_duplicate", "warning")]
    assert kinds(one, tulip, cosine=0.8) == [("near_duplicate", "warning")]
    test = record("2", phash=flipped(2), split="test")
    assert kinds(one, test, cosine=0.95) == [("leak", "error"), ("near_duplicate", "info")]
    assert kinds(one, test, cosine=0.8) == [("near_duplicate", "info"), ("leak", "warning")]


def test_an_error_about_the_same_bytes_is_not_said_twice() -> None:
    group = [
        record("1", phash=HASH, sha="s"),
        record("2", phash=HASH, sha="s", label="b"),
        record("3", phash=flipped(1)),
    ]
    rows = np.array([[1, 0], [1, 0], [0.95, np.sqrt(1 - 0.95**2)]], np.float32)
    found = copy_findings(group, units=rows)
    assert [(finding.kind, finding.files) for finding in found] == [
        ("label_conflict", ("1", "2")),
        ("near_duplicate", ("1", "2", "3")),
    ]
    assert "at most 1 of 64 bits" in found[1].evidence
    assert "0.95" in found[1].evidence
