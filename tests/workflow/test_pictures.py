"""Pictures of explained photos, whatever photos and classes are called, and where there is nothing to see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.explanations import overlay
from topwork.explanations.overlay import Panel
from topwork.workflow.explain import Explained, ExplainedPhoto
from topwork.workflow.pictures import write_examples, write_pictures

LONG = "a-class-with-a-very-long-name-and-no-spaces"
WIDEST = 36  # letters that a panel has room for


def _photo(name: str, target: str, *, against: str = "other", is_blank: bool = False) -> ExplainedPhoto:
    raw = np.zeros((2, 2), np.float32)
    raw[1, 0] = 0.0 if is_blank else 2.0
    return ExplainedPhoto(
        path=Path(name),
        probabilities={target: 0.9, against: 0.1},
        target=target,
        against=against,
        view=np.full((16, 16, 3), 90, np.uint8),
        raw=raw,
        raw_contrast=-raw,
    )


def _explained(*photos: ExplainedPhoto) -> Explained:
    return Explained(photos=photos, failed=(), method="gradcam", layer="last")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[tuple[str, Sequence[Panel]]]]:
    """The rows of every picture that is drawn."""
    rows: list[Sequence[tuple[str, Sequence[Panel]]]] = []
    real = overlay.panels_png

    def noted(each: Sequence[tuple[str, Sequence[Panel]]]) -> bytes:
        rows.append(each)
        return real(each)

    monkeypatch.setattr(overlay, "panels_png", noted)
    return rows


def _titles(drawn: Sequence[Sequence[tuple[str, Sequence[Panel]]]]) -> list[str]:
    return [panel.title for rows in drawn for _, panels in rows for panel in panels]


def test_odd_names_are_drawn_without_a_warning_and_fit_their_panel(drawn: Any, tmp_path: Path) -> None:
    photos = [_photo("caf\udce9.jpg", "花", against="caf\udce9"), _photo(f"{LONG}.jpg", LONG, against=LONG + "2")]
    assert len(write_pictures(_explained(*photos), tmp_path)) == 2
    write_examples([("花", photos[0]), (LONG + "2", photos[1])], tmp_path / "figures")
    titles = _titles(drawn)
    assert "caf\\xe9.jpg" in titles
    assert "blue speaks for 花\norange for caf\\xe9" in titles
    assert max(len(line) for title in titles for line in title.splitlines()) <= WIDEST
    assert any("…" in title for title in titles)


def test_classes_whose_names_are_the_same_once_they_are_safe_have_a_grid_each(tmp_path: Path) -> None:
    write_pictures(_explained(_photo("a.jpg", "rose?"), _photo("b.jpg", "rose!"), _photo("c.jpg", "rose!")), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("grid-*")) == ["grid-001-rose.png", "grid-002-rose.png"]


def test_a_heatmap_without_any_evidence_points_nowhere_and_says_so(drawn: Any, tmp_path: Path) -> None:
    blank, seen = _photo("a.jpg", "rose", is_blank=True), _photo("b.jpg", "rose")
    assert blank.peak is None
    assert blank.to_json()["peak"] is None
    assert seen.peak is not None
    assert seen.peak[0] < 0.5 < seen.peak[1]
    write_pictures(_explained(blank, seen), tmp_path)
    spoken = [title for title in _titles(drawn) if title.startswith("rose")]
    assert spoken.count("rose 0.90\nno place speaks for it") == spoken.count("rose 0.90") == 2  # its own, and the grid


def test_drawing_says_how_far_it_is(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []

    class Counted:
        def step(self, stage: str, done: int, total: int) -> None:
            steps.append((stage, done, total))

        def say(self, line: str) -> None:
            raise AssertionError(line)

    write_pictures(_explained(_photo("a.jpg", "rose"), _photo("b.jpg", "rose")), tmp_path, progress=Counted())
    assert steps == [("pictures", done, 2) for done in (0, 1, 2)]
    write_pictures(_explained(), tmp_path, progress=Counted())
    assert len(steps) == 3


def test_only_the_classes_that_the_grid_shows_are_drawn(
    drawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = overlay.overlay
    monkeypatch.setattr(overlay, "overlay", lambda *each: made.append(1) or real(*each))
    write_examples([(f"class {n:02d}", _photo(f"{n}.jpg", f"class {n:02d}")) for n in range(14)], tmp_path / "figures")
    grid, example = drawn
    assert [name for name, _ in grid] == [f"class {n:02d}" for n in range(10)]
    assert [name for name, _ in example] == ["right"]  # nothing was wrong
    assert len(made) == 10 + 1


def test_the_surest_wrong_answer_is_the_example(drawn: Any, tmp_path: Path) -> None:
    wrong = _photo("w.jpg", "tulip")
    write_examples([("rose", _photo("r.jpg", "rose")), ("rose", wrong)], tmp_path / "figures")
    example = dict(drawn[1])
    assert [panel.is_wrong for panel in example["wrong"]] == [False, True, False]
    assert example["wrong"][0].title == "labelled rose"
    assert not any(panel.is_wrong for panel in example["right"])
