"""Write `flowers.ipynb` from the cells of `flowers.py`, so that both tell the same story.

    python examples/as_notebook.py             write it
    python examples/as_notebook.py --check     say whether it is what the script gives

A line `# %%` begins a cell of code, `# %% [markdown]` one of text. Outputs are left out: they would be those of one
machine, and they make every later change unreadable.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("flowers.py")
NOTEBOOK = SCRIPT.with_suffix(".ipynb")
_CODE, _TEXT = "# %%", "# %% [markdown]"


def notebook(script: str) -> str:
    """The notebook (format 4.5) of a script, as text.

    Raises:
        ValueError: if the script does not begin with a cell, or a line of text is no comment.
    """
    cells: list[tuple[str, list[str]]] = []
    for line in script.splitlines():
        if line in (_CODE, _TEXT):
            cells.append((line, []))
        elif cells:
            cells[-1][1].append(line)
        else:
            raise ValueError(f"The first line must begin a cell: {_CODE!r}. Got {line!r}.")
    content = {
        "cells": [_cell(number, kind, lines) for number, (kind, lines) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, kind: str, lines: list[str]) -> dict[str, Any]:
    text = "\n".join(lines).strip("\n")
    common: dict[str, Any] = {"id": f"cell-{number:02d}", "metadata": {}}
    if kind == _CODE:
        return {"cell_type": "code", "execution_count": None, **common, "outputs": [], "source": _source(text)}
    return {"cell_type": "markdown", **common, "source": _source("\n".join(map(_uncommented, text.split("\n"))))}


def _source(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _uncommented(line: str) -> str:
    if line != "#" and not line.startswith("# "):
        raise ValueError(f"A line of a text cell must begin with '# '. Got {line!r}.")
    return line[2:]


def main(arguments: list[str]) -> int:
    """Write the notebook, or compare it."""
    text = notebook(SCRIPT.read_text(encoding="utf-8"))
    if "--check" not in arguments:
        NOTEBOOK.write_text(text, encoding="utf-8")
        return 0
    if NOTEBOOK.is_file() and NOTEBOOK.read_text(encoding="utf-8") == text:
        return 0
    print(f"{NOTEBOOK} does not match {SCRIPT.name}.\nfix: python examples/as_notebook.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
