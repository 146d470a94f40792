"""`topwork fit` as a user runs it: from an empty cache, again, and with other settings above the same trunk.

    python benchmarks/whole_fit.py flowers
    python benchmarks/whole_fit.py trash
    python benchmarks/whole_fit.py flowers --photos-per-class 20 --results /tmp/check.md      (a quick check)

Each run is a process of its own, from the start of Python to its end; all share a cache folder that is empty before the
first. Rows:

    cold               the default recipe, nothing is known of the photos, the network is converted too
    again              the same command: no trunk work, the same numbers
    another head       a hidden layer of 128 units, Adam; nothing below it trains
    other settings     the linear head solved with a fixed L2 strength
    kernel             the recipe `kernel`

Laws: cold in 5 minutes and 3 GB (of resident memory, pages of mapped files among them); the second run computes no row
and gives the same numbers to 3 decimals; on a warm cache each run without a second phase ends in 20 s. Seconds count
from 1,000 photos on. Exit code 1 if one is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from photos import named_data, scan_with_groups, thinned, write_table
from results import Section, add_results_options, publish

COLD_SECONDS, COLD_GB, WARM_SECONDS, ENOUGH = 300.0, 3.0, 20.0, 1000
_HEAD = ("--set", "phase2.epochs=0", "--set", "head.kind=linear")
RUNS: dict[str, tuple[str, ...]] = {
    "cold": (),
    "again": (),
    "another head": (
        *_HEAD,
        "--set",
        "head.hidden=[128]",
        "--set",
        "phase1.optimizer=adam",
        "--set",
        "phase1.epochs=20",
    ),
    "other settings": (*_HEAD, "--set", "phase1.weight_decay=0.1"),
    "kernel": ("--recipe", "kernel"),
}


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One run.

    Args:
        name: key of `RUNS`.
        seconds: wall time of the process.
        peak: its largest resident memory in bytes, pages of mapped cache files among it.
        evaluation: of the run folder.
        computed: rows that the trunk computed.
    """

    name: str
    seconds: float
    peak: int
    evaluation: dict[str, Any]
    computed: int

    @property
    def test(self) -> dict[str, Any]:
        """Measures of the test part."""
        return dict(self.evaluation["splits"]["test"])

    def cells(self) -> list[str]:
        """Of the table."""
        accuracy = self.test["accuracy"]
        return [
            self.name,
            f"{self.seconds:.0f}",
            f"{self.peak / 1e9:.2f}",
            str(self.computed),
            f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] n={accuracy['n']}",
            ", ".join(
                f"{stage} {seconds:.0f}" for stage, seconds in self.evaluation["seconds"].items() if seconds >= 1
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run": self.name,
            "seconds": round(self.seconds, 1),
            "peak_bytes": self.peak,
            "computed": self.computed,
            "accuracy": self.test["accuracy"],
            "stages": self.evaluation["seconds"],
        }


def fitted(name: str, data: Path, *, scratch: Path) -> Fitted:
    """Run `topwork fit` once.

    Raises:
        SystemExit: if it fails; its last lines say why.
    """
    run = scratch / name.replace(" ", "-")
    command = [sys.executable, "-m", "topwork", "fit", str(data), "--to", str(run), *RUNS[name]]
    environment = {**os.environ, "TOPWORK_CACHE": str(scratch / "cache")}
    started = time.perf_counter()
    with (scratch / "log.txt").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)  # the system's own account costs no time
            process.returncode = code = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - started
        log.seek(0)
        if code:
            raise SystemExit("\n".join([*log.read().splitlines()[-5:], f"{name}: exit code {code}."]))
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    computed = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["cache"]["computed"]
    return Fitted(
        name=name, seconds=seconds, peak=1024 * usage.ru_maxrss, evaluation=evaluation, computed=int(computed)
    )


def rounded(value: Any) -> Any:
    """A tree of values with its floats at 3 decimals."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def laws(runs: Sequence[Fitted], *, photos: int) -> dict[str, bool]:
    """What must hold -> whether it does."""
    cold, again = runs[0], runs[1]
    found = {
        "the second run does no trunk work": again.computed == 0,
        "the second run has the same numbers to 3 decimals": rounded(cold.test) == rounded(again.test),
    }
    if photos >= ENOUGH:
        found[f"cold in {COLD_SECONDS:.0f} s"] = cold.seconds <= COLD_SECONDS
        found[f"cold in {COLD_GB:.0f} GB"] = cold.peak < COLD_GB * 1e9
        for run in runs[2:]:
            found[f"{run.name} in {WARM_SECONDS:.0f} s"] = run.seconds < WARM_SECONDS and run.computed == 0
    return found


def main() -> None:
    """Run all of them once, in their order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of class folders, or the name of a data set in TOPWORK_TEST_DATA")
    parser.add_argument("--photos-per-class", type=int, help="for a quick check")
    add_results_options(parser)
    given = parser.parse_args()
    folder = named_data(given.data)
    with tempfile.TemporaryDirectory() as temporary:
        scratch, data = Path(temporary), folder
        photos = sum(1 for _ in folder.glob("*/*"))
        if given.photos_per_class is not None:
            records = thinned(scan_with_groups(folder, None), given.photos_per_class).records
            data, photos = scratch / "photos.csv", len(records)
            rows = [(record.path, record.label or "", str(folder.resolve())) for record in records]
            write_table(data, ["path", "label", "root"], rows)
        runs = []
        for name in RUNS:
            runs.append(fitted(name, data, scratch=scratch))
            print(f"{name}: {runs[-1].seconds:.1f} s", flush=True)
    held = laws(runs, photos=photos)
    section = Section(
        name=f"whole-fit-{folder.name.lower()}",
        title=f"A whole fit: {folder.name}, {photos} files",
        columns=["run", "seconds", "peak GB", "rows computed", "test accuracy", "stages of a second or more"],
        rows=[run.cells() for run in runs],
        notes=[
            "Seconds of the whole process, one run each (n = 1). Peak: resident memory, mapped cache files among it.",
            *(f"{'Holds' if good else 'Does not hold'}: {law}." for law, good in held.items()),
        ],
        data={"photos": photos, "runs": [run.to_json() for run in runs], "laws": held},
    )
    publish(section, given)
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
