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
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Photos, and folders of photos.")],
    to: Annotated[str, typer.Option(metavar="DIR", help="Where the pictures go.")] = "explanations",
    method: Annotated[str, typer.Option(help="gradcam, gradcam++, layercam or eigencam.")] = "gradcam",
    layer: Annotated[
        str | None, typer.Option(help="The block to look at; `topwork backbones NAME` lists them.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The class to explain; default: the predicted one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show where on photos the model sees what it says; exit 1 if one of them could not be read.

    \b
    Example:
      topwork explain runs/photos photo.jpg
      topwork explain runs/photos new-photos/ --method layercam --to why/
    """
    from topwork.workflow.explain import explain, write_pictures

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
