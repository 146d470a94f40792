"""`topwork lr-find`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json, print_table

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("lr-find", rich_help_panel=group)(_lr_find)


def _lr_find(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    phase: Annotated[int, typer.Option(help="1: the head; 2: the blocks that the recipe fine-tunes.")] = 2,
    recipe: Annotated[
        str, typer.Option(help="default, kernel, probe, a known system (flowers-mobilenetv2-160, ...) or a TOML file.")
    ] = "default",
    backbone: Annotated[str | None, typer.Option(help="Another network; `topwork backbones` lists them.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one choice; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, augmentation and training.")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of curve and figure, may be a run; runs/lr-find-NAME.")
    ] = None,
    low: Annotated[float, typer.Option(help="First rate.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Last rate.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Batches that are trained on.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Find the learning rate that a phase of a recipe can bear.

    \b
    Example:
      topwork lr-find photos/
      topwork lr-find photos/ --phase 1 --set phase1.optimizer=adamw --to runs/photos
    """
    from topwork.training.lr_finder import RangeTest
    from topwork.workflow.lr_find import lr_find

    changes = [f"data.seed={seed}"] * (seed is not None) + [f'backbone.name="{backbone}"'] * (backbone is not None)
    with console_progress() as progress:
        search = lr_find(
            data,
            phase=phase,
            recipe=recipe,
            to=to,
            settings=[*changes, *(settings or ())],
            test=RangeTest(low=low, high=high, steps=steps),
            progress=progress,
        )
    if as_json:
        print_json({**search.curve.to_json(), "figure": str(search.figure)})
        return
    named = {"steepest": search.curve.steepest, "valley": search.curve.valley}
    rows = [[name, f"{rate:.1e}", f"--set phase{phase}.lr={rate:.1e}"] for name, rate in named.items()]
    print_table(["suggestion", "rate", "use"], rows)
    typer.echo(f"figure  {search.figure}")
