"""`topwork check`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json
from topwork.errors import CheckFailed

if TYPE_CHECKING:
    from topwork.workflow.check import Checked

__all__ = ["register"]

_SHOWN = 4  # file names of a finding in the text form
_MOST = 5  # findings of one kind and severity "info" in the text form


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("check", rich_help_panel=group)(_check)


def _check(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    quick: Annotated[bool, typer.Option("--quick", help="Files, hashes and light only; no network runs.")] = False,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a page with the photos side by side.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quarantine: Annotated[
        str | None, typer.Option(metavar="FILE", help="List of photos that every later verb leaves out; adds to it.")
    ] = None,
    fix: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a manifest with labels corrected; photos stay.")
    ] = None,
    augment_preview: Annotated[
        str | None, typer.Option("--augment-preview", metavar="FILE", help="Write a PNG of augmented views.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Whose network looks, and whose augmentation is shown.")] = "default",
) -> None:
    """Say what is wrong with the photos; exit 1 if something must be fixed.

    \b
    Example:
      topwork check photos/
      topwork check photos/ --html check.html --quarantine left-out.csv
      topwork check photos/ --fix corrected.csv
      topwork check photos/ --augment-preview views.png
    """
    from topwork.workflow.check import check, write_augment_preview, write_page

    with console_progress() as progress:
        checked = check(data, quick=quick, recipe=recipe, quarantine=quarantine, fix=fix, progress=progress)
        if html is not None:
            write_page(checked, Path(html))
    if augment_preview is not None:
        from topwork.recipe import load_recipe

        write_augment_preview(checked.scan, Path(augment_preview), recipe=load_recipe(recipe))
    if as_json:
        print_json(checked.to_json())
    else:
        _print(checked)
    if quarantine is not None:
        typer.echo(f"{quarantine}: {checked.quarantined} photos added; every verb leaves out what it lists.", err=True)
    if not checked.passed:
        errors = sum(finding.severity == "error" for finding in checked.findings)
        raise CheckFailed(f"{errors} findings must be fixed.", fix="do what each finding of severity error says.")


def _print(checked: Checked) -> None:
    """Findings as text; of many alike that are good to know only, the first few."""
    told: dict[str, int] = {}
    for finding in checked.findings:
        told[finding.kind] = told.get(finding.kind, 0) + 1
        if finding.severity == "info" and told[finding.kind] > _MOST:
            continue
        more = f" and {len(finding.files) - _SHOWN} more" if len(finding.files) > _SHOWN else ""
        typer.echo(f"{finding.severity:8} {finding.kind}: {finding.evidence}")
        if finding.files:
            typer.echo(f"         {', '.join(finding.files[:_SHOWN])}{more}")
        typer.echo(f"         fix: {finding.remedy}")
    infos = {finding.kind for finding in checked.findings if finding.severity == "info"}
    for kind in sorted(infos):
        if told[kind] > _MOST:
            typer.echo(f"info     {kind}: {told[kind] - _MOST} more; --json and --html have all.")
    classes = len(checked.scan.classes)
    typer.echo(f"{len(checked.scan.records)} photos in {classes} classes, {len(checked.findings)} findings")
