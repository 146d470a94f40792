"""`topwork check`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json
from topwork.errors import CheckFailed

__all__ = ["register"]

_SHOWN = 4  # file names of a finding in the text form


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("check", rich_help_panel=group)(_check)


def _check(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    augment_preview: Annotated[
        str | None, typer.Option("--augment-preview", metavar="FILE", help="Write a PNG of augmented views.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Whose augmentation the preview shows.")] = "default",
) -> None:
    """Say what is wrong with the photos; exit 1 if something must be fixed.

    \b
    Example:
      topwork check photos/
      topwork check photos/ --augment-preview views.png
    """
    from topwork.workflow.check import check, write_augment_preview

    with console_progress() as progress:
        checked = check(data, progress=progress)
    if augment_preview is not None:
        from topwork.recipe import load_recipe

        write_augment_preview(checked.scan, Path(augment_preview), recipe=load_recipe(recipe))
    if as_json:
        findings = [finding.to_json() for finding in checked.findings]
        print_json({"photos": len(checked.scan.records), "classes": list(checked.scan.classes), "findings": findings})
    else:
        for finding in checked.findings:
            more = f" and {len(finding.files) - _SHOWN} more" if len(finding.files) > _SHOWN else ""
            typer.echo(f"{finding.severity:8} {finding.kind}: {finding.evidence}")
            if finding.files:
                typer.echo(f"         {', '.join(finding.files[:_SHOWN])}{more}")
            typer.echo(f"         fix: {finding.remedy}")
        classes = len(checked.scan.classes)
        typer.echo(f"{len(checked.scan.records)} photos in {classes} classes, {len(checked.findings)} findings")
    if not checked.passed:
        errors = sum(finding.severity == "error" for finding in checked.findings)
        raise CheckFailed(f"{errors} findings must be fixed.", fix="do what each finding of severity error says.")
