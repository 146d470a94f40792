"""The page of a comparison and its sentences, on made-up predictions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.evaluation.comparison import ModelScores, Ranking, compare_predictions
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
from topwork.reports.comparison_figures import draw_classes, draw_curves, lowest_classes
from topwork.reports.comparison_words import ModelFacts
from topwork.reports.wording import photos

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
    said = words.comparison_verdict(alone, FACTS)
    assert said[2].startswith("Seed noise was not measured (tuned ran with one seed)")  # before any difference is told
    assert said[2].endswith("--seeds 3.")
    assert "Seed noise" not in " ".join(words.comparison_verdict(ranking, FACTS))


def test_a_tie_is_what_the_tests_cannot_tell(ranking: Ranking) -> None:
    equal = replace(ranking, pairs={pair: (gap, 1.0) for pair, (gap, _) in ranking.pairs.items()})
    assert words.comparison_verdict(equal, FACTS)[1] == "The tests cannot tell it from probe and nearest neighbours."


def test_of_very_many_classes_eight_are_named(ranking: Ranking) -> None:
    contrast = ranking.contrasts[0]
    loser = replace(contrast.classes[-1], p=1.0)
    same = tuple(replace(loser, name=f"class {number}") for number in range(102))
    text = words.class_changes(replace(contrast, classes=(contrast.classes[0], *same)))[-1]
    assert text.endswith("class 6, class 7 and 94 more.")
    nine = words.class_changes(replace(contrast, classes=(contrast.classes[0], *same[:8])))[-1]
    assert nine.endswith("class 6 and class 7.")


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
    start = f"From probe to tuned, {photos(wrong[0])} mistakes become {photos(wrong[1])}; fewer: <script>tulip"
    assert text.startswith(start)
    true, guess, before, after = words.mistakes(ranking.scores["probe"], ranking.scores["tuned"], classes=CLASSES)[0]
    assert f"{true} taken for {guess} ({photos(before)} to {photos(after)})" in text
    assert "noise" not in text
    equal = replace(contrast, verdict="no difference beyond seed noise")
    assert words.mistake_changes(equal, ranking.scores, classes=CLASSES).endswith("within noise.")
    same = replace(contrast, model="probe")
    assert "fewer" not in words.mistake_changes(same, ranking.scores, classes=CLASSES)


def test_thousands_of_mistakes_are_whole_numbers(ranking: Ranking) -> None:
    def enlarged(name: str, times: int) -> ModelScores:
        scores = ranking.scores[name]
        accuracy = replace(scores.accuracy, n=times * scores.accuracy.n)
        matrix = tuple(tuple(times * n for n in row) for row in scores.confusion_matrix)
        return replace(scores, accuracy=accuracy, confusion_matrix=matrix)

    many = {name: enlarged(name, 100) for name in ranking.scores}
    text = words.mistake_changes(ranking.contrasts[0], many, classes=CLASSES)
    assert "e+" not in text
    assert re.search(r"From probe to tuned, \d+,\d{3} mistakes become \d+,\d{3};", text)


def test_imbalance_costs_what_equal_classes_would_cost(ranking: Ranking) -> None:
    scores = ranking.scores["probe"]
    balanced = np.mean([row.recall.value for row in scores.per_class.values()])
    text = words.imbalance_costs("probe", scores)
    assert f"would fall by {(scores.accuracy.value - balanced) * 100:.1f} points" in text
    even = replace(scores, per_class={name: replace(row, support=300) for name, row in scores.per_class.items()})
    assert "next to nothing" in words.imbalance_costs("probe", even)
    recall = replace(scores.accuracy, value=scores.accuracy.value)
    alike = replace(scores, per_class={name: replace(row, recall=recall) for name, row in scores.per_class.items()})
    text = words.imbalance_costs("probe", alike)
    assert text.endswith("That costs probe next to nothing.")
    assert "0.0 points" not in text


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
        "2 photos on which the recipes disagree, the most confident",
        "nothing random",
        "of accuracy over photos and seeds, of macro-F1 over photos",
    ):
        assert text in page
    assert "comparison.json" not in page  # three classes fit
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


def test_more_classes_than_a_figure_holds_are_left_to_the_json(ranking: Ranking) -> None:
    def widened(scores: ModelScores) -> ModelScores:
        rows = list(scores.per_class.values())
        per_class = {f"class {number:03d}": rows[number % 3] for number in range(102)} | {
            "unseen": replace(rows[0], support=0)
        }
        nothing = tuple((0.0,) * len(per_class) for _ in per_class)
        return replace(scores, per_class=per_class, confusion_matrix=nothing)

    wide = replace(ranking, scores={name: widened(scores) for name, scores in ranking.scores.items()})
    text = render_comparison(_plain(wide))
    table = text.partition('id="sides-caption"')[2].partition("</table>")[0]
    assert table.count("<tr") == 1 + 30 * len(ranking.scores)
    assert "These are the 30 classes with the lowest recall; comparison.json holds the other 72 too." in text
    recipes = {name: wide.scores[name] for name in ("probe", "tuned")}
    shown = lowest_classes(recipes)
    rows = re.findall(r'<tr class="\w+"><th scope="row"><bdi>(class \d+)', table)
    assert rows == [name for name in shown for _ in ranking.scores]
    assert all(name in draw_classes(recipes)[0] for name in shown)


def _lines(*losses: float, phase: int = 1, note: str = "") -> list[dict[str, Any]]:
    return [
        {"phase": phase, "epoch": n, "note": note, "val": {"accuracy": 0.5, "loss": loss}}
        for n, loss in enumerate(losses, 1)
    ]


def test_the_loss_of_a_kernel_head_is_not_drawn_beside_others() -> None:
    ridge = {"note": "kernel ridge, strength 0.5"}
    behind = [*_lines(0.4, 0.3), *_lines(0.3, phase=2), *_lines(7000.0, 7000.0, phase=3, **ridge)]
    drawn = draw_curves({"kernel": [_lines(9000.0, **ridge)], "tuned": [behind]})[0]
    assert "step of training" in drawn
    assert max(_ticks(drawn)) < 10
    assert max(_ticks(draw_curves({"tuned": [_lines(0.4, 7000.0)]})[0])) > 1000


def _ticks(svg: str) -> list[float]:
    return [float(text) for text in re.findall(r">(\d+(?:\.\d+)?)</text>", svg)]


def test_twelve_recipes_have_twelve_marks() -> None:
    from topwork.reports.comparison_figures import _mark

    assert len({str(_mark(number)) for number in range(12)}) == 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    page: str, chromium: Any, serious: Callable[[Any], list[str]], tmp_path: Path, scheme: str
) -> None:
    file = tmp_path / "comparison.html"
    file.write_text(page, encoding="utf-8")
    shown = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    shown.goto(file.as_uri())
    shown.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert serious(shown) == []
    shown.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_complaint(page: str, chromium: Any, tmp_path: Path, width: int) -> None:
    file = tmp_path / "comparison.html"
    file.write_text(page, encoding="utf-8")
    shown = chromium.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.goto(file.as_uri())
    shown.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    shown.close()
