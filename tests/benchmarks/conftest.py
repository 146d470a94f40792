"""The benchmarks are scripts beside each other: their folder is on the path while they are tested."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, FOLDER)


@pytest.fixture(scope="session", autouse=True)
def _only_here() -> Iterator[None]:
    yield
    sys.path.remove(FOLDER)
