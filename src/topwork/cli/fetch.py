"""`topwork fetch`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from topwork.cli.console import console_progress
from topwork.cli.output import print_json, print_table

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("fetch", rich_help_panel=group)(_fetch)


def _fetch(
    name: Annotated[str | None, typer.Argument(help="A data set; without it, what there is.")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="A new folder; default: the cache, where `fit NAME` finds it.")
    ] = None,
    given: Annotated[
        str | None, typer.Option("--from", metavar="PATH", help="The file, or a folder of the files, already here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Download a known data set; resumed, checked, unpacked safely.

    \b
    Example:
      topwork fetch
      topwork fetch tf_flowers
      topwork fetch kaggle_flowers --from archive.zip --to photos/
    """
    if name is None:
        _list(as_json=as_json)
        return
    from topwork.workflow.fetch import fetch

    with console_progress() as progress:
        fetched = fetch(name, to=to, given=given, progress=progress)
    if as_json:
        facts = {key: getattr(fetched, key) for key in ("name", "photos", "licence", "attribution", "new")}
        print_json({**facts, "path": str(fetched.path), "classes": list(fetched.classes)})
        return
    there = "" if fetched.new else ", there already"
    typer.echo(f"{fetched.photos} photos in {len(fetched.classes)} classes{there}", err=True)
    typer.echo(f"licence: {fetched.licence}", err=True)
    typer.echo(f"attribution: {fetched.attribution}", err=True)
    typer.echo(str(fetched.path))


def _list(*, as_json: bool) -> None:
    from topwork.data.datasets import fetched_folder
    from topwork.data.known import known_sets

    rows = [
        {"name": known.name, "bytes": known.bytes, "here": fetched_folder(known.name).is_dir(), "what": known.summary}
        for known in known_sets().values()
    ]
    if as_json:
        print_json({"datasets": rows})
        return
    cells = [
        [str(r["name"]), f"{int(str(r['bytes'])) / 1e6:.0f}", "yes" if r["here"] else "no", str(r["what"])]
        for r in rows
    ]
    print_table(["name", "MB", "here", "what"], cells)
