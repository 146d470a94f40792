"""`topwork check`: parse, call, print."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json
from topwork.errors import CheckFailed

if TYPE_CHECKING:
    from topwork.data.finding import Finding
    from topwork.workflow.check import Checked

__all__ = ["register"]

_SHOWN = 4  # file names of a finding in the text form
_MOST = 5  # findings of one kind and severity "info" in the text form


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("check", rich_help_panel=group)(_check)


def _check(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="In seconds: files, copies and light; no network looks at the photos.")
    ] = False,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a page with the photos side by side.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    quarantine: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Add what needs no judgement (unreadable, copies ...) to this list of photos to leave out.",
        ),
    ] = None,
    fix: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a manifest in which labels that are probably wrong are replaced."),
    ] = None,
    augment_preview: Annotated[
        str | None, typer.Option("--augment-preview", metavar="FILE", help="Write a PNG of augmented views.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe whose network and augmentation are used.")] = "default",
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
    _print_files(checked, html=html, quarantine=quarantine, fix=fix, augment_preview=augment_preview)
    if not checked.passed:
        errors = sum(finding.severity == "error" for finding in checked.findings)
        fix = "do what the lines of severity error say, or leave those photos out with --quarantine FILE."
        if checked.quarantined:
            fix = "check again, now without the photos that were added to the list; then do what is left."
        raise CheckFailed(f"{errors} finding{'s' * (errors != 1)} must be fixed.", fix=fix)


def _print_files(
    checked: Checked, *, html: str | None, quarantine: str | None, fix: str | None, augment_preview: str | None
) -> None:
    """On stderr, what was written and where."""
    from topwork.reports.wording import count

    labels = count(sum(suspect.wrong for suspect in checked.suspects), "label")
    said = {
        html: "findings, and the photos side by side.",
        fix: f"{labels} changed; the old ones stand in the column `was`.",
        quarantine: f"{count(checked.quarantined, 'photo')} added; every verb leaves out what it lists.",
        augment_preview: "a few photos, and how training sees them.",
    }
    for file, words in said.items():
        if file is not None:
            typer.echo(f"{file}: {words}", err=True)


def _print(checked: Checked) -> None:
    """Findings as text; of many alike that are good to know only, the first few. What many ask for is said once."""
    shown: list[Finding] = []
    hidden: Counter[str] = Counter()
    for finding in checked.findings:
        alike = [other for other in shown if (other.kind, other.severity) == (finding.kind, finding.severity)]
        if finding.severity == "info" and len(alike) == _MOST:
            hidden[finding.kind] += 1
        else:
            shown.append(finding)
    for finding, after in zip_longest(shown, shown[1:]):
        typer.echo(f"{finding.severity:8} {finding.kind}: {finding.evidence}")
        if finding.files:
            more = f" and {len(finding.files) - _SHOWN} more" if len(finding.files) > _SHOWN else ""
            typer.echo(f"         {', '.join(finding.files[:_SHOWN])}{more}")
        if after is None or (after.kind, after.remedy) != (finding.kind, finding.remedy):
            typer.echo(f"         fix: {finding.remedy}")
        if finding.severity == "info" and (after is None or after.kind != finding.kind) and hidden[finding.kind]:
            typer.echo(f"         {hidden[finding.kind]} more such findings; --html shows them, --json has all.")
    photos, classes = len(checked.scan.records), len(checked.scan.classes)
    typer.echo(f"{photos} photos in {classes} classes, {len(checked.findings)} findings")
