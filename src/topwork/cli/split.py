"""`topwork split`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_table

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("split", rich_help_panel=group)(_split)


def _split(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    to: Annotated[str, typer.Option(metavar="DIR", help="Folder that gets manifest.csv.")],
    shares: Annotated[str, typer.Option(help="Train/validation/test in percent.")] = "80/10/10",
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
) -> None:
    """Divide photos by class; duplicates and groups stay on one side.

    \b
    Example:
      topwork split photos/ --to split/
    """
    from topwork.workflow.split import split

    with console_progress() as progress:
        manifest = split(data, to=to, shares=shares, seed=seed, progress=progress)
    parts = ("train", "val", "test")
    counted = {part: [row.label for row in manifest.rows if row.split == part] for part in parts}
    rows = [[name, *(str(counted[part].count(name)) for part in parts)] for name in manifest.classes]
    print_table(["class", *parts], rows)
    typer.echo(str(Path(to) / "manifest.csv"))
