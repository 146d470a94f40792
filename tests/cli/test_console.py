"""Progress on a terminal and in a log."""

from __future__ import annotations

import io
import threading

import pytest

from topwork.cli import console
from topwork.cli.console import console_progress, duration


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_fast_stage_takes_two_lines() -> None:
    log = io.StringIO()
    with console_progress(log) as progress:
        for done in range(1001):
            progress.step("scan", done, 1000)
    first, last = log.getvalue().splitlines()
    assert first == "scan: 1000 to do"
    assert last.startswith("scan: 1000 of 1000 in ")


def test_a_slow_stage_says_what_is_left_at_every_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    with console_progress(log) as progress:
        for done in range(101):
            progress.step("trunk", done, 100)
            now[0] += 1.0
    lines = log.getvalue().splitlines()
    assert len(lines) == 11  # the start, nine tenths, the end
    assert lines[1] == "trunk: 10 of 100, about 1 min 30 s left"
    assert lines[-1] == "trunk: 100 of 100 in 1 min 40 s"


def test_work_found_in_a_cache_does_not_count_as_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    with console_progress(log) as progress:
        progress.step("trunk", 80, 100)
        now[0] = 10.0
        progress.step("trunk", 90, 100)
    assert log.getvalue().splitlines() == ["trunk: 20 to do", "trunk: 90 of 100, about 10 s left"]


def test_a_stage_may_come_twice_and_ends_once() -> None:
    log = io.StringIO()
    with console_progress(log) as progress:
        for _ in range(2):
            progress.step("epoch", 0, 3)
            progress.step("epoch", 3, 3)
            progress.step("epoch", 3, 3)
    assert [line.split(" in ")[0] for line in log.getvalue().splitlines()] == ["epoch: 3 to do", "epoch: 3 of 3"] * 2


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_threads_and_strange_names_do_no_harm(stream: type[io.StringIO]) -> None:
    log = stream()
    with console_progress(log) as progress:

        def work(name: str) -> None:
            for done in range(50):
                progress.step(name, done, 49)

        threads = [threading.Thread(target=work, args=(f"[red]{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        progress.say("[bold]photos[/bold] are done")
    assert "[bold]photos[/bold] are done" in log.getvalue()
    assert "[red]3" in log.getvalue()


@pytest.mark.parametrize("total", [0, 1])
@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_the_smallest_totals(stream: type[io.StringIO], total: int) -> None:
    log = stream()
    with console_progress(log) as progress:
        progress.step("report", total, total)
    assert "report" in log.getvalue()


def test_a_log_that_went_away_does_not_end_the_work() -> None:
    with console_progress(_Closed()) as progress:
        progress.step("scan", 0, 2)
        progress.say("still here")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.97, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s")]
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
