"""Freed memory stays with the process while training runs, and goes back afterwards."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from topwork.training import heap
from topwork.training.heap import heap_kept

_BYTES = 64 << 20
_PAGES = _BYTES // resource.getpagesize()
_ROUNDS = 5


def _faults() -> int:
    """Pages that the system hands out while arrays of one size are made and freed, but for those of the first."""
    np.ones(_BYTES, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(_ROUNDS):
        np.ones(_BYTES, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(heap._glibc() is None, reason="only glibc can be told to keep what is freed")
def test_what_a_step_frees_the_next_one_takes_up() -> None:
    with heap_kept():
        inside = _faults()
        kept = _resident()
    assert inside < 0.1 * _PAGES
    assert kept - _resident() > 0.9 * _BYTES  # it went back to the system


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: object())
    with heap_kept():
        assert np.ones(_BYTES, dtype=np.uint8).all()
