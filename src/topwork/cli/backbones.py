"""`topwork backbones`: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from topwork.cli.output import print_json, print_table

__all__ = ["register"]


def register(app: typer.Typer, group: str) -> None:
    """Add the command to the app under a heading."""
    app.command("backbones", rich_help_panel=group)(_backbones)


def _backbones(
    name: Annotated[str | None, typer.Argument(help="Part of a name; with --layers the whole name.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="The numbered layers of one network.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Only those whose weights are on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What networks can be used, and which of them need no download.

    \b
    Example:
      topwork backbones lite
      topwork backbones efficientnet_lite0 --layers
    """
    if layers:
        rows = _layer_rows(name or "efficientnet_lite0")
        if as_json:
            print_json({"layers": rows})
        else:
            print_table(
                ["number", "block", "layer", "kind", "parameters"], [[str(v) for v in row.values()] for row in rows]
            )
        return
    from topwork.models.catalogue import list_backbones

    found = [row.to_json() for row in list_backbones(name or "", offline_only=offline)]
    if as_json:
        print_json({"backbones": found})
    elif found:
        print_table(list(found[0]), [["" if v is None else str(v) for v in row.values()] for row in found])


def _layer_rows(name: str) -> list[dict[str, object]]:
    from topwork.models.backbone import create_backbone
    from topwork.models.layers import list_layers

    backbone = create_backbone(name, weights="none")  # layers do not depend on weights
    return [
        {
            "number": layer.number,
            "block": layer.block,
            "layer": layer.name,
            "kind": layer.kind,
            "parameters": layer.size,
        }
        for layer in list_layers(backbone)
    ]
