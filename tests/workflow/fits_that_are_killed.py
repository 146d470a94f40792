"""Fits in children of one process, each killed by SIGKILL at an event or not at all. Run by `test_resume.py`.

    python fits_that_are_killed.py JOBS.json

Each job has `cache`, `photos`, `to`, `settings`, `resume`, and may have `kill: [kind, number]` and `save_seconds`.
Imports are paid once: a child is a fork. The events that it met are counted in `TO.events.json` when it ends by itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2  # noqa: F401
import openvino  # noqa: F401
import scipy.optimize  # noqa: F401
import timm  # noqa: F401
import torch

import topwork.exports.bundle
import topwork.workflow.fit as fitting
from topwork import atomic
from topwork.models import backbone, engine  # noqa: F401
from topwork.training import checkpoints, loop, store


class Events:
    """Counts what happens, and ends the process at one of them."""

    def __init__(self, kill: list[Any] | None) -> None:
        self.met: Counter[str] = Counter()
        self._kill = kill

    def __call__(self, kind: str) -> None:
        self.met[kind] += 1
        if self._kill == [kind, self.met[kind]]:
            os.kill(os.getpid(), signal.SIGKILL)


def watched(function: Callable[..., Any], event: Callable[[], None]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        event()
        found = function(*args, **kwargs)
        event()
        return found

    return call


def install(events: Events, *, save_seconds: float) -> None:
    phase = [0]
    train_epoch = loop._train_epoch

    def in_phase(*args: Any, course: Any, **kwargs: Any) -> None:
        phase[0] = course._number
        train_epoch(*args, course=course, **kwargs)

    loop._train_epoch = in_phase
    store._append = watched(store._append, lambda: events("rows"))
    loop.gradient_step = watched(loop.gradient_step, lambda: events(f"phase {phase[0]}"))
    checkpoints.save_file = watched(checkpoints.save_file, lambda: events("checkpoint"))
    replace = os.replace

    def replaced(source: Any, target: Any) -> None:
        saving = "checkpoints" in Path(target).parts
        if saving:
            events("checkpoint")
        replace(source, target)
        if saving:
            events("checkpoint")

    os.replace = replaced
    checkpoints.SECONDS = save_seconds
    fitting.explain_fitted = lambda *_, **__: None
    fitting.write_report = lambda *_, **__: events("report")
    atomic.os.fsync = lambda _: None  # a kill is no power cut; a shared disk makes this slow


def run(job: dict[str, Any]) -> None:
    os.environ["TOPWORK_CACHE"] = job["cache"]
    torch.set_num_threads(1)
    events = Events(job.get("kill"))
    install(events, save_seconds=job.get("save_seconds", 1e9))
    topwork.fit(job["photos"], to=job["to"], settings=job["settings"], resume=job["resume"])
    Path(f"{job['to']}.events.json").write_text(json.dumps(events.met))


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(job)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"to": job["to"], "status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
