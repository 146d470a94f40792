"""The laws of scale: a further photo costs the same at any size, and memory stays where it is."""

from __future__ import annotations

import os
from typing import Any

import pytest
from memory import PeakMemory, watch_memory
from scale import section_of, slope_ratio


def sizes(
    *, seconds: tuple[float, float, float], memory: tuple[int, int, int] = (100, 101, 102)
) -> list[dict[str, Any]]:
    return [
        {
            "photos": photos,
            "seconds": took,
            "memory": PeakMemory(resident=2 * bytes_, anonymous=bytes_).to_json(),
            "cache_bytes": 10 * photos,
        }
        for photos, took, bytes_ in zip((1000, 5000, 20_000), seconds, memory, strict=True)
    ]


@pytest.mark.parametrize("start", [0.0, 30.0])
def test_linear_time_passes_whatever_starting_costs(start: float) -> None:
    found = sizes(seconds=(start + 10, start + 50, start + 200))
    assert slope_ratio(found) == pytest.approx(1.0)
    assert section_of(found, [])[1]


def test_quadratic_time_and_growing_memory_fail() -> None:
    assert not section_of(sizes(seconds=(1, 25, 400)), [])[1]
    assert not section_of(sizes(seconds=(10, 50, 200), memory=(100, 200, 400)), [])[1]


def test_memory_of_this_process_is_seen() -> None:
    with watch_memory(os.getpid()) as before:
        pass
    held = bytearray(64_000_000)
    held[::4096] = b"x" * len(held[::4096])
    with watch_memory(os.getpid()) as after:
        pass
    assert after.resident - before.resident > 40_000_000
    assert after.anonymous - before.anonymous > 40_000_000
    del held
