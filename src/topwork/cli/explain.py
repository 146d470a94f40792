"""`topwork explain`: parse, call, print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json, print_table
from topwork.errors import CheckFailed, RecipeError

if TYPE_CHECKING:
    from topwork.explanations.gradcam import Method
    from topwork.workflow.explain import Explained

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
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the pictures of photos go; default explanations.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="gradcam (default), gradcam++, layercam or eigencam.")] = None,
    layer: Annotated[
        str | None, typer.Option(help="The block to look at; `topwork backbones NAME --layers` lists them.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The class to explain; default: the predicted one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show which parts of a photo led to the answer; exit 1 if a photo could not be read.

    Every photo gets a picture: the photo, the heatmap, and why the likeliest class won against the next one. Where the
    model is a run, its nearest training photos are named too. Without photos, explain the run itself: whether its
    heatmaps can be believed, its errors and their nearest training photos, shortcuts in the data. That goes into the
    run and its report.

    \b
    Example:
      topwork explain runs/photos photo.jpg
      topwork explain runs/photos
      topwork explain runs/photos new-photos/ --method layercam --to why/
    """
    from topwork.workflow.explain import explain
    from topwork.workflow.pictures import write_pictures

    if not images:
        given = {"--to": to, "--method": method, "--layer": layer, "--target": target}
        _explain_run(model, unused=[name for name, value in given.items() if value is not None], as_json=as_json)
        return
    asked = cast("Method", method or "gradcam")
    folder = Path(to or "explanations")
    with console_progress() as progress:
        found = explain(model, images, target=target, method=asked, layer=layer, progress=progress)
        pictures = write_pictures(found, folder, progress=progress)
    if as_json:
        print_json(found.to_json() | {"pictures": [str(path) for path in pictures]})
    elif found.photos:
        print_table(["photo", "predicted", "p", "next", "nearest training photo", "picture"], _rows(found, pictures))
        typer.echo(f"A grid of each class and explanations.json are in {folder} too.")
        if found.verdict:
            typer.echo(f"Can such heatmaps be believed? {found.verdict}")
    if found.failed:
        others = "repair it, or leave it out; the other pictures are complete."
        raise CheckFailed(
            f"{len(found.failed)} of the photos could not be read, the first for this reason: {found.failed[0][1]}",
            fix=others if found.photos else "name photos, or folders that hold some.",
        )


def _rows(found: Explained, pictures: Sequence[Path]) -> list[list[str]]:
    from topwork.data.decode import printable

    rows = []
    for photo, plain, picture in zip(found.photos, found.to_json()["photos"], pictures, strict=True):
        near = photo.neighbours[0].path if photo.neighbours else "-"
        probability = f"{photo.probabilities[photo.predicted]:.3f}"
        rows.append([plain["path"], photo.predicted, probability, photo.against, printable(near), str(picture)])
    return rows


def _explain_run(run: str, *, unused: Sequence[str], as_json: bool) -> None:
    from topwork.workflow.explaining import explain_finished
    from topwork.workflow.rundir import RunDir

    if unused:
        raise RecipeError(
            f"{', '.join(unused)} would change nothing: without photos the run itself is explained, always in one way.",
            fix="name photos too, or leave that out.",
        )
    with console_progress() as progress:
        said = explain_finished(run, progress=progress)
    if as_json:
        print_json(said)
        return
    for line in _lines(said):
        typer.echo(line)
    typer.echo(f"report  {RunDir(Path(run)).report_file}")


def _lines(said: dict[str, Any]) -> Iterator[str]:
    """What the run is found to be, warnings among it."""
    for name, interval in said.get("hidden", {}).items():
        if name != "note":
            yield f"accuracy, {name}: {_shown(interval)}"
    for probe in said["shortcuts"]["probes"]:
        warning = "  WARNING: see the report" if probe["warns"] else ""
        yield f"probe, {probe['name']} only: {_shown(probe['accuracy'])}, majority {probe['majority']:.3f}{warning}"
    for spot in said["shortcuts"]["hot_spots"]:
        share = f"{_shown(spot['share'])} of the heatmaps of {spot['class']}"
        yield f"WARNING: {share} peak at one and the same place at the edge ({spot['place']}): see the report"
    for each in said["confusers"][:3]:
        yield f"confusing: {each['path']} stands near {each['times']} photos of {', '.join(each['classes'])}"
    if not said.get("randomisation", {}).get("passed", True):
        yield "WARNING: the heatmaps hardly change when the model forgets: they show the photo, not the model"
    if "faithfulness" in said:
        yield said["faithfulness"]["verdict"]


def _shown(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}] n={interval['n']}"
