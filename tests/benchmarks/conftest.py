"""The benchmarks are scripts beside each other: their folders are on the path while they are tested."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parents[2] / "benchmarks"
FOLDERS = [str(_HERE), str(_HERE / "peers")]
sys.path[:0] = FOLDERS


@pytest.fixture(scope="session", autouse=True)
def _only_here() -> Iterator[None]:
    yield
    for folder in FOLDERS:
        sys.path.remove(folder)
