"""What `topwork compare` prints, on made-up predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from topwork.cli.compare import _print_tables
from topwork.evaluation.comparison import compare_predictions
from topwork.measures.predictions import Predictions
from topwork.reports.comparison_words import ModelFacts
from topwork.workflow.compare import Comparison

N = 120
CLASSES = ("a-class-with-a-very-long-name-1", "a-class-with-a-very-long-name-2")


def comparison(*names: str) -> Comparison:
    """Of models that are right on fewer and fewer photos, each with three seeds."""
    labels = np.arange(N) % 2
    models, facts = {}, {}
    for number, name in enumerate(names):
        wrong = np.arange(N) < 50 * number + 3
        guess = np.where(wrong, 1 - labels, labels)
        said = Predictions(logits=3 * np.eye(2)[guess], labels=labels, paths=tuple(map(str, range(N))), classes=CLASSES)
        models[name] = [said] * 3
        facts[name] = ModelFacts(
            kind="recipe",
            frozen=False,
            seedless=False,
            seconds=3599.0,
            trunk_seconds=0.0,
            train_accuracy=1.0,
            model_mb=123.4,
            ms_a_photo=None,
            choice="",
        )
    ranking = compare_predictions(models, folds=np.arange(N) % 5)
    return Comparison(path=Path("c"), ranking=ranking, facts=facts, summary={"folds": 5, "seeds": 3, "verdict": []})


@pytest.mark.parametrize(
    "names", [("probe", "tuned", "majority class"), tuple(f"a-recipe-with-a-very-long-name-{n}" for n in range(3))]
)
def test_no_line_is_wider_than_a_terminal(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    _print_tables(comparison(*names))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    assert text.splitlines()[0] == "n=120 photos, 5 folds, 3 seeds; 95 % intervals"
    assert text.count("n=") == 1


def test_differences_are_points_and_the_only_p_is_the_corrected_one(capsys: pytest.CaptureFixture[str]) -> None:
    _print_tables(comparison("probe", "tuned"))
    lines = capsys.readouterr().out.split("\n\n")[2].splitlines()
    header, cells = ([cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines)
    assert header == [
        "against probe",
        "accuracy, points",
        "only it right",
        "only probe right",
        "p (Holm)",
        "verdict",
    ]
    assert cells[0] == "tuned"
    assert cells[1].startswith("\N{MINUS SIGN}41.7 [")
    assert cells[2:] == ["0", "50", "<\N{NO-BREAK SPACE}0.001", "worse"]
