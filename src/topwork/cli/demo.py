"""`topwork demo`: fit on the drawn flowers that ship with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from topwork.cli.console import console_progress

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("demo", rich_help_panel=group)(_demo)


def _demo(
    to: Annotated[str, typer.Option(metavar="RUN", help="Folder of the run.")] = "runs/demo",
) -> None:
    """See the whole way in about two minutes: draw flowers, train, measure, report.

    \b
    Example:
      topwork demo
    """
    from topwork.workflow.fit import fit

    with console_progress() as progress:
        run = fit("drawn-flowers", to=to, progress=progress)
    typer.echo("These are drawn flowers, not photos: the figures say that everything works, not how good it is.")
    typer.echo(f"report  {run.report.resolve()}")
    typer.echo(f"model   {run.model.resolve()}")
    typer.echo(f"next    topwork fit YOUR_FOLDER    or    topwork predict {to} PHOTO")
