"""The command `topwork`: its verbs, and the one place that prints errors and sets the exit code.

    0    done
    1    a check ran to its end, and the answer is "no"
    2    the user must change something: one sentence, then `fix:` and what to do
    70   a bug in topwork: the only case that prints a traceback
    130  Ctrl-C: one line
    141  whoever read our output closed it: silence

A verb module offers `register(app, group)`, and imports nothing heavy before its command runs.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from topwork import __version__
from topwork.cli import (
    backbones,
    cache,
    check,
    compare,
    demo,
    evaluate,
    explain,
    export,
    fetch,
    fit,
    lr_find,
    predict,
    report,
    split,
)
from topwork.errors import TopworkError

__all__ = ["GROUPS", "app", "main", "run"]

# Heading in `topwork --help` -> the verb modules below it, in the order of use.
GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "Start here": (demo, fit, predict),
    "Your photos": (fetch, check, split),
    "Look closer": (compare, evaluate, explain, report, lr_find),
    "Use it elsewhere": (export,),
    "This machine": (backbones, cache),
}

_BUG, _INTERRUPTED, _NO_READER = 70, 130, 141
_GRACE_SECONDS = 2.5
_SYSTEM_FIXES = {
    errno.ENOSPC: "free some space, or let TOPWORK_CACHE and --to name a larger disk.",
    errno.EDQUOT: "free some space, or let TOPWORK_CACHE and --to name a larger disk.",
    errno.EACCES: "allow access to it, or choose another place.",
    errno.EPERM: "allow access to it, or choose another place.",
    errno.EEXIST: "choose another place; what has that name is no folder.",
    errno.ENOTDIR: "choose another place; part of that path is no folder.",
    errno.EROFS: "choose a place that can be written.",
}


class _GroupedHelp(TyperGroup):
    """Lists the verbs under headings, in the order they were registered."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max((len(name) for name in self.commands), default=0)
        headings: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = command.rich_help_panel if isinstance(command, TyperCommand | TyperGroup) else None
            summary = command.get_short_help_str(formatter.width - width - 6)
            headings.setdefault(panel or "Commands", []).append((name.ljust(width), summary))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    name="topwork",
    cls=_GroupedHelp,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def _topwork(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """A folder of labelled photos in; a measured image classifier out.

    \b
    Example:
      topwork demo
      topwork fit photos/ --to runs/photos
      topwork predict runs/photos new-photo.jpg
    """
    if version:
        typer.echo(f"topwork {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for _group, _modules in GROUPS.items():
    for _module in _modules:
        _module.register(app, _group)


def run(argv: Sequence[str], *, app: typer.Typer = app) -> int:
    """Carry out one command line and report what went wrong on stderr.

    Args:
        argv: the words after `topwork`.
        app: the commands; tests bring their own.

    Returns:
        The exit code; see the module's docstring.
    """
    try:
        code = typer.main.get_command(app).main(list(argv), prog_name="topwork", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as stop:
        # typer leaves only this way when the reader of our output is gone.
        return _NO_READER if stop.code == 1 else int(stop.code or 0)
    except Exception as error:
        return _report(error)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _complain("stopped.")
    return int(code or 0)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the process: run, flush, exit; within seconds of Ctrl-C even if a thread does not listen."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a file name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, _on_interrupt)
    code = run(sys.argv[1:] if argv is None else argv)
    if code == _INTERRUPTED:
        # Threads may be in the middle of a photo or a batch. Nothing they write counts before it is complete.
        os._exit(_INTERRUPTED)
    if code == _NO_READER:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit complains
    gc.freeze()  # the system frees all memory at once; Python would take seconds to do it object by object
    sys.exit(code)


def _on_interrupt(_signal: int, _frame: FrameType | None) -> None:
    def leave() -> None:
        _complain("stopped.")
        os._exit(_INTERRUPTED)

    # Clean-up runs while KeyboardInterrupt climbs; if it waits for a thread that does not end, this ends it.
    watchdog = threading.Timer(_GRACE_SECONDS, leave)
    watchdog.daemon = True
    watchdog.start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _report(error: Exception) -> int:
    if isinstance(error, TopworkError):
        _complain(str(error))
        return error.exit_code
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "topwork"
        _complain(f"{error.format_message().strip()}\nfix: see {path} --help")
        return 2
    if isinstance(error, typer.Abort):
        _complain("stopped.")
        return _INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return _NO_READER
    if isinstance(error, OSError) and error.errno in _SYSTEM_FIXES:
        _complain(
            f"The system refused {error.filename or 'a file'}: {error.strerror}.\nfix: {_SYSTEM_FIXES[error.errno]}"
        )
        return 2
    if isinstance(error, MemoryError):
        _complain("There is not enough memory.\nfix: close other programs, or set a smaller phase2.batch_size.")
        return 2
    _complain(f"This is a bug in topwork {__version__}; please report it with these lines.\n")
    traceback.print_exception(error, file=sys.stderr)
    return _BUG


def _complain(text: str) -> None:
    with suppress(OSError, ValueError):  # stderr may be gone too
        print(text, file=sys.stderr, flush=True)
