"""A run in the making: a hidden sibling that takes the run's name in one step. Knows not what is made in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from topwork.errors import RunError
from topwork.progress import Progress, silent
from topwork.workflow.rundir import RunDir

__all__ = ["draft_of", "draft_run", "next_run_name"]

_CONTINUED = ("checkpoints", "folds", "recipe.toml", "manifest.csv", "provenance.json", "history.jsonl")
_LOCK = "lock"  # held by the process that makes the run; the system releases it whatever ends that process


@contextmanager
def draft_run(path: Path, *, resume: bool = False, progress: Progress = silent) -> Iterator[RunDir]:
    """A run in the making: takes the name `path` when the block ends well.

    When it does not, the draft is deleted, unless it holds a checkpoint. What a killed process left is continued
    or replaced.

    Args:
        path: of the finished run.
        resume: give the draft that is there, without the files that are made anew in any case.
        progress: told of a draft that is replaced or stays.

    Raises:
        RunError: if `path` holds something that is not a run, lies below a file, or is being made by another process.
    """
    if path.exists() and not (path / "recipe.toml").exists() and (path.is_file() or any(path.iterdir())):
        raise RunError(
            f"{str(path)!r} exists and is no topwork run, so it is not replaced.",
            fix="choose another folder with --to.",
        )
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"{str(path)!r} lies below a file.", fix="choose another folder with --to.") from None
    draft = draft_of(path)
    draft.mkdir(exist_ok=True)
    lock = _locked(draft)
    try:
        _clear(draft, resume=resume, progress=progress)
        yield RunDir(draft)
        (draft / _LOCK).unlink()
        _take_place(draft, path)
    finally:
        lock.release()
        if (draft / "checkpoints" / "checkpoint.json").exists():
            progress.say(f"The unfinished run stays in {draft}; the same command with --resume continues it.")
        else:
            shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # it holds the finished run, or something of somebody else
                parent.rmdir()


def draft_of(path: Path) -> Path:
    """Where the run with that name is made."""
    return path.parent / f".{path.name}.unfinished"


def _locked(draft: Path) -> FileLock:
    lock = FileLock(draft / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"Another process is making the run in {str(draft)!r}.",
            fix="wait for it, or choose another folder with --to.",
        ) from None
    return lock


def _clear(draft: Path, *, resume: bool, progress: Progress) -> None:
    """Keep what a resumed run goes on from; delete the rest, also what was half written."""
    kept = {_LOCK, *(_CONTINUED if resume else ())}
    if not resume and (draft / "recipe.toml").exists():
        progress.say(f"An unfinished run in {draft} is replaced; --resume would have continued it.")
    for path in draft.iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in kept:
            path.unlink(missing_ok=True)


def next_run_name(data_name: str) -> Path:
    """`runs/NAME-1`, or the next number that is free."""
    number = 1
    while (path := Path("runs") / f"{data_name}-{number}").exists():
        number += 1
    return path


def _take_place(draft: Path, path: Path) -> None:
    earlier = path.parent / f".{path.name}.replaced"
    shutil.rmtree(earlier, ignore_errors=True)
    try:
        if path.exists():
            path.rename(earlier)
        draft.rename(path)
    except BaseException:
        if earlier.exists() and not path.exists():
            earlier.rename(path)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
