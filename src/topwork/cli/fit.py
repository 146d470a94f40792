"""`topwork fit`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from topwork.cli.console import console_progress

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("fit", rich_help_panel=group)(_fit)


def _fit(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="default, best, kernel, probe, a known system (flowers-mobilenetv2-160, ...) or a TOML file."
        ),
    ] = "default",
    backbone: Annotated[str | None, typer.Option(help="Another network; `topwork backbones` lists them.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one choice; may be repeated.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="M", help="Finish within M minutes: fewer blocks, views and epochs where they do not fit."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of split, augmentation and training.")] = None,
    to: Annotated[str | None, typer.Option(metavar="RUN", help="Folder of the run; default runs/NAME-1.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what a stopped fit of that run left.")] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Show the run in tensorboard, mlflow or wandb too; may be repeated."),
    ] = None,
) -> None:
    """Train, measure and pack a classifier from a folder of labelled photos.

    \b
    Example:
      topwork fit photos/
      topwork fit photos/ --recipe probe --to runs/quick
      topwork fit photos/ --minutes 5
      topwork fit photos/ --set phase2.epochs=4 --seed 1
      topwork fit photos/ --to runs/quick --recipe probe --resume
      topwork fit photos/ --track mlflow
    """
    from topwork.workflow.fit import fit

    changes = [f"data.seed={seed}"] * (seed is not None) + [f'backbone.name="{backbone}"'] * (backbone is not None)
    with console_progress() as progress:
        run = fit(
            data,
            recipe=recipe,
            to=to,
            settings=[*changes, *(settings or ())],
            minutes=minutes,
            resume=resume,
            track=track or (),
            progress=progress,
        )
    typer.echo(f"report  {run.report}")
    typer.echo(f"model   {run.model}")
