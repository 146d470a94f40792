"""`topwork predict`: parse, call, print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_csv, print_json, print_table
from topwork.errors import CheckFailed

if TYPE_CHECKING:
    from topwork.exports.predictor import Prediction

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("predict", rich_help_panel=group)(_predict)


def _predict(
    model: Annotated[str, typer.Argument(help="A run folder, or a bundle (RUN/model).")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Photos, and folders of photos.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a photo.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV row a photo.")] = False,
) -> None:
    """Name the class of each photo; exit 1 if one of them could not be read.

    \b
    Example:
      topwork predict runs/photos photo.jpg
      topwork predict runs/photos new-photos/ --csv > answers.csv
    """
    from topwork.workflow.predict import predict

    failed: list[str] = []
    with console_progress() as progress:
        answers = _watched(predict(model, paths, progress=progress), failed)
        if as_json:
            for answer in answers:
                print_json(answer.to_json())
        elif as_csv:
            print_csv(_csv_rows(answers))
        else:
            _print_rows(list(answers))
    if failed:
        raise CheckFailed(
            f"{len(failed)} of the photos could not be read, the first for this reason: {failed[0]}",
            fix="see the error column; the other answers are complete.",
        )


def _watched(answers: Iterable[Prediction], failed: list[str]) -> Iterator[Prediction]:
    for answer in answers:
        if answer.error:
            failed.append(answer.error)
        yield answer


def _csv_rows(answers: Iterable[Prediction]) -> Iterator[list[str]]:
    """Header and rows; the classes are those of the first answer that has any, so rows before it wait for it."""
    waiting: list[Prediction] = []
    classes: list[str] | None = None
    for answer in answers:
        waiting.append(answer)
        if classes is None and answer.probabilities:
            classes = list(answer.probabilities)
            yield ["path", "predicted", *(f"p_{name}" for name in classes), "error"]
        if classes is not None:
            yield from (_csv_row(row, classes) for row in waiting)
            waiting.clear()
    if classes is None:
        yield ["path", "predicted", "error"]
        yield from (_csv_row(row, []) for row in waiting)


def _csv_row(answer: Prediction, classes: list[str]) -> list[str]:
    plain = answer.to_json()
    cells = [f"{answer.probabilities[name]:.6f}" if answer.probabilities else "" for name in classes]
    return [plain["path"], answer.predicted or "", *cells, answer.error]


def _print_rows(answers: list[Prediction]) -> None:
    rows = []
    for answer in answers:
        ranked = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
        second = f"{ranked[1][0]} {ranked[1][1]:.3f}" if len(ranked) > 1 else answer.error
        rows.append(
            [answer.to_json()["path"], answer.predicted or "-", f"{ranked[0][1]:.3f}" if ranked else "-", second]
        )
    print_table(["photo", "predicted", "p", "next"], rows)
