"""The source as the contract tests see it: parsed once, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Source:
    """One module: its dotted name, its file, its text and its syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every imported module with its line, those inside functions too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module, node.lineno

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
        """Every function: its qualified name, its node, whether a class holds it directly."""
        yield from _functions(self.tree, self.name, in_class=False)


def _functions(
    node: ast.AST, prefix: str, *, in_class: bool
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}.{child.name}", child, in_class
            yield from _functions(child, f"{prefix}.{child.name}", in_class=False)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}.{child.name}", in_class=True)
        else:
            yield from _functions(child, prefix, in_class=in_class)


@pytest.fixture(scope="session")
def sources(repo: Path) -> list[Source]:
    """Every module of the package."""
    found = []
    for path in sorted((repo / "src/topwork").rglob("*.py")):
        parts = path.relative_to(repo / "src").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Source(name=name, path=path.relative_to(repo), text=text, tree=ast.parse(text)))
    assert len(found) > 5
    return found
