"""`topwork report`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("report", rich_help_panel=group)(_report)


def _report(run: Annotated[str, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Make a run's figures and its HTML page again.

    \b
    Example:
      topwork report runs/photos
    """
    from topwork.workflow.report import report

    typer.echo(str(report(run)))
