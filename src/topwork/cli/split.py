"""`topwork split`: parse, call, print."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_table

if TYPE_CHECKING:
    from topwork.data.manifest import Manifest

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("split", rich_help_panel=group)(_split)


def _split(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    to: Annotated[str, typer.Option(metavar="DIR", help="Folder that gets manifest.csv.")],
    shares: Annotated[str, typer.Option(help="Train/validation/test in percent.")] = "80/10/10",
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            "--group-by", metavar="RULE", help="folder, time, time:SECONDS or a regular expression; may be repeated."
        ),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="MANIFEST", help="Add photos to this split; no photo of it moves.")
    ] = None,
    folds: Annotated[int, typer.Option(min=0, metavar="K", help="K manifests for cross-validation.")] = 0,
    hold_out_class: Annotated[
        list[str] | None,
        typer.Option("--hold-out-class", metavar="NAME", help="Set a class aside, whole; may be repeated."),
    ] = None,
    materialize: Annotated[
        str | None, typer.Option(metavar="copy|link", help="Write train/, val/ and test/ folders of photos.")
    ] = None,
) -> None:
    """Divide photos by class; duplicates, bursts and groups stay on one side.

    \b
    Example:
      topwork split photos/ --to split/
      topwork split photos/ --to split/ --group-by 'plant-(\\d+)'
      topwork split photos/ --to bigger/ --keep split/manifest.csv
    """
    from topwork.workflow.split import SplitChoice, split

    choice = SplitChoice(
        shares=shares,
        seed=seed,
        group_by=tuple(group_by or ()),
        keep=keep,
        folds=folds,
        hold_out=tuple(hold_out_class or ()),
        materialize=materialize,  # type: ignore[arg-type]  # `split` says what it can be
    )
    with console_progress() as progress:
        division = split(data, to=to, choice=choice, progress=progress)
    for finding in division.findings:
        typer.echo(f"{finding.severity}: {finding.kind}: {finding.evidence}", err=True)
    for manifest, file in zip(division.manifests, division.files, strict=True):
        _print_counts(manifest)
        typer.echo(str(file))


def _print_counts(manifest: Manifest) -> None:
    parts = ("train", "val", "test")
    counted = Counter((row.label, row.split) for row in manifest.rows)
    print_table(["class", *parts], [[name, *(str(counted[name, part]) for part in parts)] for name in manifest.classes])
