"""`topwork evaluate`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("evaluate", rich_help_panel=group)(_evaluate)


def _evaluate(
    run: Annotated[str, typer.Argument(help="A run folder; with --data a bundle does too.")],
    data: Annotated[str | None, typer.Option(help="Other labelled photos, all of them counted as test.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure a model again, or on other data.

    \b
    Example:
      topwork evaluate runs/photos
      topwork evaluate runs/photos --data other-photos/
    """
    from topwork.evaluation.report_text import classification_report
    from topwork.workflow.evaluate import evaluate

    with console_progress() as progress:
        evaluation = evaluate(run, data=data, progress=progress)
    if as_json:
        print_json(evaluation.to_json())
    else:
        typer.echo(classification_report(evaluation), nl=False)
