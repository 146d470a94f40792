"""`topwork export`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("export", rich_help_panel=group)(_export)


def _export(
    model: Annotated[str, typer.Argument(help="A run folder, or a bundle (RUN/model).")],
    format: Annotated[str, typer.Option(metavar="FORMAT", help="keras.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Ends in .keras or .h5; default: MODEL.keras, beside the model."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write a model for another framework; it is compared with the original first.

    FILE.json beside it names the classes, and says how to prepare a picture. Keras is an extra: pip install
    'topwork[keras]'.

    \b
    Example:
      topwork export runs/photos --format keras
      topwork export runs/photos --format keras --to photos.h5
    """
    from topwork.workflow.export import TOLERANCE, export

    with console_progress() as progress:
        done = export(model, format=format, to=to, progress=progress)
    if as_json:
        print_json(done.to_json())
        return
    typer.echo(f"model    {done.model}")
    typer.echo(f"classes  {done.facts}")
    typer.echo(
        f"largest difference of a probability from topwork's own: {done.difference:.1e} on {done.photos} "
        f"{done.pictures} ({TOLERANCE:.0e} is allowed)"
    )
