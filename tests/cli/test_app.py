"""Each way a command can end has its exit code and its words on stderr."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import typer

from topwork.cli.app import app, run
from topwork.errors import CheckFailed, DataError


def _app_that_raises(error: BaseException | None) -> typer.Typer:
    failing = typer.Typer(rich_markup_mode=None, add_completion=False)

    @failing.callback()
    def top() -> None:
        """Two levels, as the real one."""

    @failing.command()
    def verb(count: int = 1) -> None:
        if error is not None:
            raise error

    return failing


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (DataError("The folder is empty.", fix="add photos."), 2, "The folder is empty.\nfix: add photos.\n"),
        (CheckFailed("Two photos are broken.", fix="remove them."), 1, "Two photos are broken.\nfix: remove them.\n"),
        (KeyboardInterrupt(), 130, "stopped.\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
        (typer.Exit(1), 1, ""),
    ],
)
def test_exit_codes_and_words(
    error: BaseException | None, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verb"], app=_app_that_raises(error)) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENOTDIR])
def test_what_the_system_refuses_is_no_bug(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = OSError(number, os.strerror(number), "runs/x")
    assert run(["verb"], app=_app_that_raises(refusal)) == 2
    err = capsys.readouterr().err
    assert "runs/x" in err
    assert "\nfix: " in err
    assert "Traceback" not in err


def test_only_a_bug_prints_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verb"], app=_app_that_raises(ZeroDivisionError("oops"))) == 70
    err = capsys.readouterr().err
    assert err.startswith("This is a bug in topwork")
    assert "ZeroDivisionError: oops" in err


@pytest.mark.parametrize("words", [["nope"], ["verb", "--nope"], ["verb", "--count", "many"]])
def test_usage_errors_say_where_to_look(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words, app=_app_that_raises(None)) == 2
    sentence, fix = capsys.readouterr().err.splitlines()
    assert sentence
    assert fix.startswith("fix: see topwork")


def test_no_words_print_the_help_and_version_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([], app=app) == 0
    assert capsys.readouterr().out.startswith("Usage: topwork")
    assert run(["--version"], app=app) == 0
    assert capsys.readouterr().out.startswith("topwork 0.")


STUBBORN = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs deaf to it
import typer
import topwork.cli.app as cli

def work():
    threading.Thread(target=time.sleep, args=(60,)).start()  # not a daemon: an ordinary exit would wait for it
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        CLEANUP

cli.app.command("work")(work)
cli.main(["work"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
@pytest.mark.parametrize("cleanup", ["pass", "time.sleep(60)"])
def test_ctrl_c_ends_within_three_seconds_whatever_threads_do(cleanup: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN.replace("CLEANUP", cleanup)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "stopped.\n"
    assert time.monotonic() - sent < 3.5


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes there")
def test_a_reader_that_leaves_is_no_error() -> None:
    program = (
        "import topwork.cli.app as cli\n"
        "def flood():\n"
        "    for _ in range(20000): cli.typer.echo('x' * 80)\n"
        "cli.app.command('flood')(flood)\n"
        "cli.main(['flood'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 141
