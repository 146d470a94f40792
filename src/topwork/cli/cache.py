"""`topwork cache`: parse, call, print."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from topwork.cli.output import print_json, print_table

__all__ = ["register"]

_HELP = """What the activation cache holds.

\b
Example:
  topwork cache list
  topwork cache clear
"""


def register(app: typer.Typer, group: str) -> None:
    """Add the commands to the app under a heading."""
    commands = typer.Typer(rich_markup_mode=None, help=_HELP, no_args_is_help=True)
    commands.command("list")(_list)
    commands.command("clear")(_clear)
    app.add_typer(commands, name="cache", rich_help_panel=group)


def _list(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """What the activation cache holds, and how large it is.

    \b
    Example:
      topwork cache list
    """
    from topwork.training.activations import ActivationCache

    cache = ActivationCache()
    stores = cache.summaries()
    if as_json:
        rows = [{"name": s.name, "what": s.what, "rows": s.rows, "bytes": s.bytes, "used": s.used} for s in stores]
        print_json({"folder": str(cache.folder), "limit": cache.limit, "stores": rows})
        return
    typer.echo(f"{cache.folder}  {sum(s.bytes for s in stores) / 1e9:.2f} of {cache.limit / 1e9:.0f} GB")
    if stores:
        header = ["store", "holds", "rows", "MB", "last used"]
        print_table(
            header, [[s.name[:12], _what(s.what), str(s.rows), f"{s.bytes / 1e6:.1f}", _when(s.used)] for s in stores]
        )


def _clear() -> None:
    """Delete every cached activation; the next run computes them again.

    \b
    Example:
      topwork cache clear
    """
    from topwork.training.activations import ActivationCache

    gone, used = ActivationCache().clear()
    typer.echo(f"removed {len(gone)} stores, {sum(store.bytes for store in gone) / 1e9:.2f} GB")
    if used:
        typer.echo(f"{len(used)} that another process is using stay")


def _what(what: str) -> str:
    return {"pooled": "features", "pictures": "pictures"}.get(what, f"cut {what}")


def _when(used: float) -> str:
    return datetime.fromtimestamp(used).astimezone().strftime("%Y-%m-%d %H:%M")
