"""`topwork compare`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from topwork.cli.console import console_progress, duration
from topwork.cli.output import print_json, print_table
from topwork.reports.wording import count, p_value, points, shortened, visible

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
    """Numbers, costs, tests and the verdict; no table is wider than 120 characters."""
    summary, scores = comparison.summary, comparison.ranking.scores
    n = next(iter(scores.values())).accuracy.n
    rounds = f"{count(summary['folds'], 'fold')}, {count(summary['seeds'], 'seed')}"
    typer.echo(f"n={n:,} photos, {rounds}; 95 % intervals")
    print_table(
        ["model", "accuracy", "macro-F1", "ECE", "lowest recall"],
        [
            [
                _name(name),
                _bounds(each.accuracy),
                _bounds(each.macro_f1),
                _bounds(each.ece),
                f"{_bounds(each.worst_class[1])} {_name(each.worst_class[0], 11)}",
            ]
            for name, each in scores.items()
        ],
    )
    typer.echo("")
    print_table(
        ["model", "a fit", "MB", "ms/photo"],
        [
            [_name(name), duration(facts.seconds), _number(facts.model_mb), _number(facts.ms_a_photo)]
            for name, facts in comparison.facts.items()
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
            f"against {_name(reference, 12)}",
            "accuracy, points",
            "only it right",
            f"only {_name(reference, 7)} right",
            "p (Holm)",
            "verdict",
        ],
        [
            [
                _name(contrast.model),
                _points(contrast.accuracy),
                str(contrast.test.only_second),
                str(contrast.test.only_first),
                p_value(contrast.p),
                contrast.verdict,
            ]
            for contrast in comparison.ranking.contrasts
        ],
    )


def _name(name: str, most: int = 20) -> str:
    return shortened(visible(name), most)


def _bounds(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _points(interval: Interval) -> str:
    return f"{points(interval.value)} [{points(interval.low)}, {points(interval.high)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
