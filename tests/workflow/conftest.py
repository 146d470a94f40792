"""One tiny finished run, shared by the tests that only read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

import topwork

# Random weights: what a network says is of no interest here, only that everything agrees about it.
TINY = (
    "backbone.name=test_efficientnet",
    "backbone.weights=none",
    "data.image_size=64",
    "data.split=60/20/20",
    "engine.precision=f32",
    "phase1.epochs=2",
    "phase2.epochs=2",
)


@dataclass
class Lines:
    """A `Progress` that remembers what was said."""

    said: list[str] = field(default_factory=list)

    def step(self, stage: str, done: int, total: int) -> None:
        """Counts are of no interest here."""

    def say(self, line: str) -> None:
        """Keep the sentence."""
        self.said.append(line)


@pytest.fixture
def lines() -> Lines:
    """Listens to a run."""
    return Lines()


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Settings under which a fit takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> topwork.Run:
    """A finished run on `drawn_photos`. Read only."""
    return topwork.fit(drawn_photos, to=tmp_path_factory.mktemp("runs") / "tiny", settings=TINY)
