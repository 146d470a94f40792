"""What a module offers is what it says, and a verb stays a verb whatever has been imported."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pprint import pformat
from typing import Any

import topwork

NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base"}


def _public_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in ast.walk(target)]
            names = [part.id for part in targets if isinstance(part, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def _declared(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


def _imported(tree: ast.Module) -> set[str]:
    nodes = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def test_all_equals_the_public_names(sources: list[Any]) -> None:
    wrong = {}
    for source in sources:
        if source.name == "topwork" or not source.tree.body:
            continue  # the root is tested below; an empty package offers nothing
        declared, public = _declared(source.tree), sorted(set(_public_names(source.tree)))
        if declared is None and source.path.name == "__init__.py" and not public:
            continue
        own = sorted(set(declared or []) - _imported(source.tree))  # a module may hand on what it imports
        if declared is None or own != public:
            wrong[source.name] = f"__all__ is {declared}, public are {public}"
    assert not wrong, pformat(wrong, width=120)


def test_no_module_is_called_after_nothing(sources: list[Any]) -> None:
    assert not [source.name for source in sources if source.name.rsplit(".", 1)[-1] in NAMELESS]


def test_every_module_says_what_it_owns(sources: list[Any]) -> None:
    assert not [source.name for source in sources if source.tree.body and ast.get_docstring(source.tree) is None]


def test_the_roots_names_have_homes_and_types(sources: list[Any]) -> None:
    root = next(source.tree for source in sources if source.name == "topwork")
    typed = {
        alias.asname or alias.name
        for node in root.body
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert set(topwork.__all__) == set(topwork._HOMES) == typed
    assert set(topwork.__all__) <= set(dir(topwork))
    for name, home in topwork._HOMES.items():
        assert getattr(topwork, name) is getattr(importlib.import_module(home), name)


def test_no_module_shares_a_public_name_with_the_root(sources: list[Any]) -> None:
    children = {source.name.split(".")[1] for source in sources if "." in source.name}
    assert not children & set(topwork.__all__)


def test_verbs_stay_callable_after_every_import(sources: list[Any]) -> None:
    modules = [source.name for source in sources if not source.name.endswith("__main__")]
    program = (
        "import importlib, topwork\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "wrong = [name for name in topwork.__all__ if not callable(getattr(topwork, name))]\n"
        "assert not wrong, wrong\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(topwork, "no_such_verb")
