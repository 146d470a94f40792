"""`topwork compare`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from topwork.cli.console import console_progress, duration
from topwork.cli.output import print_json, print_table

if TYPE_CHECKING:
    from topwork.measures.intervals import Interval
    from topwork.workflow.compare import Comparison

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("compare", rich_help_panel=group)(_compare)


def _compare(
    data: Annotated[str, typer.Argument(help="A folder of class folders, a manifest, or a data set's name.")],
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPE...", help="Names or TOML files; the first one is the reference.")
    ],
    folds: Annotated[int, typer.Option(help="Parts that are judged in turn; each photo is judged once a seed.")] = 5,
    seeds: Annotated[int, typer.Option(help="Trainings of each fold; with one, seed noise stays unknown.")] = 3,
    photos: Annotated[
        str | None, typer.Option(metavar="DIR", help="Other photos: the page shows where the recipes disagree.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder; default runs/compare-NAME. What it holds is not run again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare recipes, and the baselines below them, on the same photos: which difference is real?

    \b
    Example:
      topwork compare photos/ probe default --to runs/which
      topwork compare photos/ default mine.toml --folds 5 --seeds 1 --json
      topwork compare photos/ probe default --to runs/which --photos holiday/
    """
    from topwork.workflow.compare import compare

    with console_progress() as progress:
        comparison = compare(data, recipes, to=to, photos=photos, progress=progress, folds=folds, seeds=seeds)
    if as_json:
        print_json(comparison.summary)
    else:
        _print_tables(comparison)


def _print_tables(comparison: Comparison) -> None:
    print_table(
        ["model", "accuracy", "macro-F1", "lowest recall", "ECE", "a fit", "MB", "ms/photo"],
        [
            [
                name,
                str(scores.accuracy),
                _bounds(scores.macro_f1),
                f"{_bounds(scores.worst_class[1])} {scores.worst_class[0]}",
                _bounds(scores.ece),
                duration(comparison.facts[name].seconds),
                _number(comparison.facts[name].model_mb),
                _number(comparison.facts[name].ms_a_photo),
            ]
            for name, scores in comparison.ranking.scores.items()
        ],
    )
    typer.echo("")
    _print_contrasts(comparison)
    typer.echo("")
    for sentence in comparison.verdict:
        typer.echo(sentence)
    typer.echo(f"page  {comparison.page}")


def _print_contrasts(comparison: Comparison) -> None:
    reference = next(iter(comparison.ranking.scores))
    print_table(
        [
            f"against {reference}",
            "accuracy",
            "only it right",
            f"only {reference}",
            "McNemar p",
            "p",
            "Holm p",
            "verdict",
        ],
        [
            [
                contrast.model,
                f"{contrast.accuracy.value:+.3f} [{contrast.accuracy.low:+.3f}, {contrast.accuracy.high:+.3f}]",
                str(contrast.test.only_second),
                str(contrast.test.only_first),
                _p(contrast.test.mcnemar),
                _p(contrast.test.p),
                _p(contrast.p),
                contrast.verdict,
            ]
            for contrast in comparison.ranking.contrasts
        ],
    )


def _bounds(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"
