from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import classification_report as oracle

from topwork.evaluation.evaluate import evaluate
from topwork.evaluation.report_text import classification_report
from topwork.evaluation.scores import Evaluation
from topwork.measures.predictions import Predictions

CLASSES = ("daisy", "rose", "a tulip whose name is much longer than a column", "ノースポール")


def judged(n: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 2
    return Predictions(logits=logits, labels=labels, paths=tuple(map(str, range(n))), classes=CLASSES)


@pytest.fixture
def found() -> Evaluation:
    parts = {"train": judged(2000, 1), "val": judged(200, 2), "test": judged(200, 3)}
    return evaluate(parts, seconds={})


def test_the_table_fits_100_columns_and_starts_with_the_split_to_believe(found: Evaluation) -> None:
    text = classification_report(found)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert " ".join(text[: text.index("\n\n")].split()) == found.headline()
    order = [text.index(f"{name} (") for name in ("test", "train", "val")]
    assert order == sorted(order)
    assert "val (200 photos; seen by choices)" in text
    assert "train minus test" in text
    assert text.endswith("95 % confidence intervals stand in brackets.\n")


def test_the_numbers_are_scikit_learns_to_three_decimals() -> None:
    part = judged(200, 3)
    theirs = oracle(part.labels, part.predicted, target_names=["c0", "c1", "c2", "c3"], output_dict=True)
    lines = classification_report(part).splitlines()
    for number, start in enumerate(("daisy", "rose", "a tulip", "ノースポール")):
        line = next(each for each in lines if each.startswith(start))
        row = theirs[f"c{number}"]
        for kind in ("precision", "recall", "f1-score"):
            assert f"{row[kind]:.3f} [" in line
        assert line.split()[-1] == str(int(row["support"]))
    macro = next(each for each in lines if each.startswith("macro average"))
    assert f"{theirs['macro avg']['f1-score']:.3f} [" in macro


def test_one_split_alone(found: Evaluation) -> None:
    text = classification_report(found, split="val")
    assert "val (200 photos" in text
    assert "test (" not in text
    assert "train minus test" not in text
    with pytest.raises(KeyError):
        classification_report(found, split="fold 9")


def test_a_long_class_name_keeps_its_start_and_end(found: Evaluation) -> None:
    line = next(each for each in classification_report(found).splitlines() if each.startswith("a tulip"))
    assert line.startswith("a tulip whose…column  ")


def test_columns_stay_in_line_whatever_the_script(found: Evaluation) -> None:
    def place(start: str) -> int:
        line = next(each for each in classification_report(found, split="test").splitlines() if each.startswith(start))
        before = line[: line.index("[")]
        return len(before) + sum(character >= "\u3000" for character in before)

    assert place("ノース") == place("daisy") == place("a tulip") == place("macro")


def test_a_class_name_cannot_break_the_table() -> None:
    part = judged(40, 3)
    odd = Predictions(logits=part.logits, labels=part.labels, paths=part.paths, classes=("a\nb", "\x1b[31m", "c", "d"))
    text = classification_report(odd)
    assert "\x1b" not in text
    assert any(line.startswith("a�b ") for line in text.splitlines())
