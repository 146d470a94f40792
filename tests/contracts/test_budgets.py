"""How long a file and a function may be, how many parameters a function may take, and that all of it is annotated."""

from __future__ import annotations

import ast
import inspect
from pprint import pformat
from typing import Any

import typer

FILE_LINES = 400
BODY_LINES = 40
PARAMETERS = 6
POSITIONAL = 2

# Signatures that one interface fixes for all its implementations.
FIXED_SIGNATURES = {"step": "Progress: the stage, then how far of how much, in the order one says it"}


def _command_functions() -> set[str]:
    """Functions that typer calls, and the public functions of the same name: their parameters are the options."""
    import topwork
    from topwork.cli.app import app

    def callbacks(group: typer.Typer) -> list[Any]:
        own = [command.callback for command in group.registered_commands]
        if group.registered_callback:
            own.append(group.registered_callback.callback)
        return own + [each for child in group.registered_groups for each in callbacks(child.typer_instance)]

    verbs = [getattr(topwork, name) for name in topwork.__all__ if inspect.isfunction(getattr(topwork, name))]
    unwrapped = [inspect.unwrap(callback) for callback in [*callbacks(app), *verbs]]
    return {f"{function.__module__}.{function.__qualname__}".replace(".<locals>", "") for function in unwrapped}


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_files_are_short(sources: list[Any]) -> None:
    long = {str(source.path): lines for source in sources if (lines := len(source.text.splitlines())) > FILE_LINES}
    assert not long, pformat(long, width=120)


def test_function_bodies_are_short(sources: list[Any]) -> None:
    long = {
        name: lines
        for source in sources
        for name, function, _ in source.functions()
        if (lines := _body_lines(function)) > BODY_LINES
    }
    assert not long, pformat(long, width=120)


def test_functions_take_few_parameters_and_name_most_of_them(sources: list[Any]) -> None:
    commands = _command_functions()
    wrong = {}
    for source in sources:
        for name, function, in_class in source.functions():
            short_name = name.rsplit(".", 1)[-1]
            is_dunder = short_name.startswith("__") and short_name != "__init__"
            positional = [*function.args.posonlyargs, *function.args.args]
            is_option_list = name in commands and (".cli." in name or len(positional) <= POSITIONAL)
            if is_option_list or is_dunder or short_name in FIXED_SIGNATURES:
                continue
            is_static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
            unbound = len(positional) - (in_class and not is_static)
            total = unbound + len(function.args.kwonlyargs)
            if unbound > POSITIONAL or total > PARAMETERS:
                wrong[name] = f"{unbound} positional, {total} in all"
    assert not wrong, pformat(wrong, width=120)


def test_everything_is_annotated(sources: list[Any]) -> None:
    bare = []
    for source in sources:
        for name, function, in_class in source.functions():
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            arguments += [extra for extra in (function.args.vararg, function.args.kwarg) if extra]
            named = arguments[1:] if in_class and arguments and arguments[0].arg in ("self", "cls") else arguments
            if function.returns is None or any(argument.annotation is None for argument in named):
                bare.append(name)
    assert not bare, pformat(bare, width=120)
