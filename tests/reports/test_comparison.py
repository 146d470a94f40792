"""The page of a comparison and its sentences, on made-up predictions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.evaluation.comparison import Ranking, compare_predictions
from topwork.measures.predictions import Predictions
from topwork.reports import comparison_words as words
from topwork.reports.comparison import (
    Answer,
    ComparisonInputs,
    Dispute,
    Elsewhere,
    render_comparison,
    strongest_disputes,
)
from topwork.reports.comparison_words import ModelFacts

N = 900
CLASSES = ("daisy", "rose", "<script>tulip")


def said(skill: Sequence[float], *, seed: int) -> Predictions:
    """`skill` by class; half of the photos are daisies."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, N, p=[0.5, 0.3, 0.2])
    hard = rng.normal(size=N)
    logits = np.random.default_rng(seed).normal(size=(N, 3))
    logits[np.arange(N), labels] += np.array(skill)[labels] - hard
    paths = tuple(f"{CLASSES[label].strip('<>')}/{number}.jpg" for number, label in enumerate(labels))
    return Predictions(logits=logits, labels=labels, paths=paths, classes=CLASSES)


def facts(kind: str = "recipe", *, seedless: bool = False, train: float = 0.99) -> ModelFacts:
    return ModelFacts(
        kind=kind,
        frozen=seedless,
        seedless=seedless,
        seconds=12.0,
        trunk_seconds=3.0,
        train_accuracy=train,
        model_mb=13.2,
        ms_a_photo=None,
        choice="k = 5" if kind == "baseline" else "",
    )


FACTS = {
    "probe": facts(seedless=True, train=0.9),
    "tuned": facts(),
    "nearest neighbours": facts("baseline", seedless=True),
}


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    models = {
        "probe": [said((3.0, 2.0, 0.5), seed=1)],
        "tuned": [said((3.0, 2.0, 2.5), seed=seed) for seed in (2, 3)],
        "nearest neighbours": [said((1.0, 1.0, 0.0), seed=4)],
    }
    return compare_predictions(models, folds=np.arange(N) % 5)


def test_the_verdict_names_leader_tests_and_worth(ranking: Ranking) -> None:
    text = " ".join(words.comparison_verdict(ranking, FACTS))
    assert text.startswith("tuned has the highest accuracy")
    assert "better than every other model" in text
    assert re.search(r"tuned against probe: \+\d+\.\d points \[.*\], better", text)
    assert "Training below the head pays: tuned is better than probe" in text
    assert "nearest neighbours against" not in text


def test_fine_tuning_is_better_only_if_the_test_agrees() -> None:
    two = {name: FACTS[name] for name in ("probe", "tuned")}
    same = {"probe": [said((2.0, 2.0, 2.0), seed=1)], "tuned": [said((2.02, 2.0, 2.0), seed=s) for s in (2, 3)]}
    found = compare_predictions(same, folds=np.arange(N) % 5)
    text = " ".join(words.comparison_verdict(found, two))
    assert "not shown to pay" in text or "does not pay" in text
    assert "Training below the head pays" not in text
    worse = {"probe": [said((3.0, 3.0, 3.0), seed=1)], "tuned": [said((1.0, 1.0, 1.0), seed=s) for s in (2, 3)]}
    found = compare_predictions(worse, folds=np.arange(N) % 5)
    assert "does not pay here" in " ".join(words.comparison_verdict(found, two))


def test_one_seed_is_confessed(ranking: Ranking) -> None:
    alone = replace(ranking, scores={name: replace(each, seeds=1) for name, each in ranking.scores.items()})
    assert "Seed noise was not measured: tuned" in " ".join(words.comparison_verdict(alone, FACTS))


def test_the_class_that_was_helped_gains_and_the_others_do_not(ranking: Ranking) -> None:
    text = " ".join(words.class_changes(ranking.contrasts[0]))
    assert re.search(r"recall rises in <script>tulip \(\+\d", text)
    assert "No difference beyond seed noise in" in text
    assert "falls" not in text


def test_mistakes_that_go_away_come_first_and_counts_are_those_of_the_matrices(ranking: Ranking) -> None:
    before, after = ranking.scores["probe"], ranking.scores["tuned"]
    rows = words.mistakes(before, after, classes=CLASSES)
    changes = [b - a for _, _, a, b in rows]
    assert changes == sorted(changes)
    assert changes[0] < -5
    true, guess, a, b = rows[0]
    place = CLASSES.index(true), CLASSES.index(guess)
    assert (before.confusion_matrix[place[0]][place[1]], after.confusion_matrix[place[0]][place[1]]) == (a, b)
    assert true == "<script>tulip"


def test_mistakes_are_told_in_words(ranking: Ranking) -> None:
    contrast = ranking.contrasts[0]
    text = words.mistake_changes(contrast, ranking.scores, classes=CLASSES)
    wrong = [N - np.trace(ranking.scores[name].confusion_matrix) for name in ("probe", "tuned")]
    assert text.startswith(f"From probe to tuned, {wrong[0]:.4g} mistakes become {wrong[1]:.4g}; fewer: <script>tulip")
    true, guess, before, after = words.mistakes(ranking.scores["probe"], ranking.scores["tuned"], classes=CLASSES)[0]
    assert f"{true} taken for {guess} ({before:.4g} to {after:.4g})" in text
    assert "noise" not in text
    equal = replace(contrast, verdict="no difference beyond seed noise")
    assert words.mistake_changes(equal, ranking.scores, classes=CLASSES).endswith("within noise.")
    same = replace(contrast, model="probe")
    assert "fewer" not in words.mistake_changes(same, ranking.scores, classes=CLASSES)


def test_imbalance_costs_what_equal_classes_would_cost(ranking: Ranking) -> None:
    scores = ranking.scores["probe"]
    balanced = np.mean([row.recall.value for row in scores.per_class.values()])
    text = words.imbalance_costs("probe", scores)
    assert f"would fall by {(scores.accuracy.value - balanced) * 100:.1f} points" in text
    even = replace(scores, per_class={name: replace(row, support=300) for name, row in scores.per_class.items()})
    assert "next to nothing" in words.imbalance_costs("probe", even)


def test_what_generalises_is_told_of_recipes_only(ranking: Ranking) -> None:
    told = words.generalising(ranking, FACTS)
    assert [sentence.split()[0] for sentence in told] == ["probe", "tuned"]
    assert "by heart" in told[1]


def test_the_surest_opposite_answers_come_first() -> None:
    def dispute(path: str, *answers: tuple[str, float]) -> Dispute:
        return Dispute(
            path=path, label=None, answers={str(n): Answer(predicted=c, p=p) for n, (c, p) in enumerate(answers)}
        )

    sharp, mild = dispute("a", ("x", 0.9), ("y", 0.8)), dispute("b", ("x", 0.99), ("y", 0.4))
    agreed = dispute("c", ("x", 0.9), ("x", 0.8))
    assert strongest_disputes([mild, agreed, sharp]) == [sharp, mild]
    assert agreed.strength == 0


@pytest.fixture(scope="module")
def page(ranking: Ranking, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("photos")
    Image.new("RGB", (80, 60), (200, 40, 40)).save(root / "here.jpg")
    answers = {"probe": Answer(predicted="daisy", p=0.7), "tuned": Answer(predicted="rose", p=0.8)}
    history = [
        {"phase": 1, "epoch": epoch, "val": {"accuracy": 0.5 + 0.1 * epoch, "loss": 1 / epoch}} for epoch in (1, 2, 3)
    ]
    inputs = ComparisonInputs(
        name="flowers & co",
        root=root,
        ranking=ranking,
        facts=FACTS,
        folds=5,
        seeds=2,
        histories={"probe": [history], "tuned": [history, history[:2]]},
        disputes=[
            Dispute(path="here.jpg", label="rose", answers=answers),
            Dispute(path="gone.jpg", label="daisy", answers=answers),
        ],
        elsewhere=Elsewhere(
            name="holiday",
            root=root,
            photos=3,
            unreadable=1,
            disputes=[Dispute(path="here.jpg", label=None, answers=answers)],
        ),
        provenance={"versions": {"topwork": "0.1.0"}},
    )
    return render_comparison(inputs)


def test_the_page_holds_everything_and_loads_nothing(page: str) -> None:
    for text in (
        "tuned",
        "nearest neighbours",
        "k = 5",
        "mistakes become",
        "Where they disagree",
        "holiday",
        "1 of 3 photos",
        "by heart",
    ):
        assert text in page
    assert page.count("data:image/jpeg;base64") == 2
    assert "gone.jpg" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert len(page) < 3_000_000


def test_names_are_escaped(page: str) -> None:
    assert "<script>tulip" not in page
    assert "&lt;script&gt;tulip" in page
    assert "flowers &amp; co" in page


def test_the_same_inputs_give_the_same_page(ranking: Ranking) -> None:
    again = [render_comparison(_plain(ranking)) for _ in range(2)]
    assert again[0] == again[1]
    assert "Photos from elsewhere" not in again[0]


def _plain(ranking: Ranking) -> ComparisonInputs:
    return ComparisonInputs(
        name="x", root=Path("."), ranking=ranking, facts=FACTS, folds=5, seeds=2, histories={"probe": []}
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_complaint(page: str, browser: str, tmp_path: Path, width: int) -> None:
    from playwright.sync_api import sync_playwright

    file = tmp_path / "comparison.html"
    file.write_text(page, encoding="utf-8")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        shown = running.new_page(viewport={"width": width, "height": 900})
        complaints: list[str] = []
        shown.on("console", lambda message: complaints.append(message.text))
        shown.goto(file.as_uri())
        shown.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints == []
        running.close()
