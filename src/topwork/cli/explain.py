"""`topwork explain`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json, print_table
from topwork.errors import CheckFailed

if TYPE_CHECKING:
    from topwork.explanations.gradcam import Method

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("explain", rich_help_panel=group)(_explain)


def _explain(
    model: Annotated[str, typer.Argument(help="A run folder, or a bundle (RUN/model).")],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE]...", help="Photos, and folders; none explains the run itself."),
    ] = None,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where the pictures of photos go.")] = "explanations",
    method: Annotated[str, typer.Option(help="gradcam, gradcam++, layercam or eigencam.")] = "gradcam",
    layer: Annotated[
        str | None, typer.Option(help="The block to look at; `topwork backbones NAME` lists them.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The class to explain; default: the predicted one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show where on photos the model sees what it says; exit 1 if one of them could not be read.

    Without photos, explain the run itself: whether its heatmaps can be believed, its errors and their nearest training
    photos, shortcuts in the data. That goes into the run and its report.

    \b
    Example:
      topwork explain runs/photos photo.jpg
      topwork explain runs/photos
      topwork explain runs/photos new-photos/ --method layercam --to why/
    """
    from topwork.workflow.explain import explain, write_pictures

    if not images:
        _explain_run(model, as_json=as_json)
        return
    with console_progress() as progress:
        found = explain(model, images, target=target, method=cast("Method", method), layer=layer, progress=progress)
    pictures = write_pictures(found, Path(to))
    if as_json:
        print_json(found.to_json() | {"pictures": [str(path) for path in pictures]})
    else:
        rows = [
            [plain["path"], photo.predicted, f"{photo.probabilities[photo.predicted]:.3f}", photo.against, str(picture)]
            for photo, plain, picture in zip(found.photos, found.to_json()["photos"], pictures, strict=True)
        ]
        print_table(["photo", "predicted", "p", "next", "picture"], rows)
    if found.failed:
        raise CheckFailed(
            f"{len(found.failed)} of the photos could not be read, the first for this reason: {found.failed[0][1]}",
            fix="repair or leave out that photo; the other pictures are complete.",
        )


def _explain_run(run: str, *, as_json: bool) -> None:
    from topwork.workflow.explaining import explain_finished

    with console_progress() as progress:
        said = explain_finished(run, progress=progress)
    if as_json:
        print_json(said)
        return
    for name, interval in said.get("hidden", {}).items():
        if name != "note":
            typer.echo(f"accuracy, {name}: {_shown(interval)}")
    for probe in said["shortcuts"]["probes"]:
        warning = "  WARNING: see the report" if probe["warns"] else ""
        typer.echo(
            f"probe, {probe['name']} only: {_shown(probe['accuracy'])}, majority {probe['majority']:.3f}{warning}"
        )
    for each in said["confusers"][:3]:
        typer.echo(f"confusing: {each['path']} stands near {each['times']} photos of {', '.join(each['classes'])}")
    if "faithfulness" in said:
        typer.echo(said["faithfulness"]["verdict"])


def _shown(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}] n={interval['n']}"
