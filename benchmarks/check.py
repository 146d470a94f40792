"""Seconds of `topwork check`, cold and warm, and how much of what is known to be wrong with the flowers it finds.

    python benchmarks/check.py flowers
    python benchmarks/check.py flowers --photos 60 --repeats 1 --flips 1 --results /tmp/check.md    (a quick check)

Each run is a process of its own, from the start of Python to its end. Rows of time:

    quick, cold          nothing is known of the photos
    quick, warm          the same again
    whole, cold          an empty cache folder: the network is converted too, which a machine does once
    whole, photos cold   the network is there, of the photos nothing is
    whole, warm          the same again

Rows of findings need what people saw in the same photos: `DATA_near_duplicates.txt`, `DATA_groups.txt` and
`DATA_label_suspects.txt` beside the data. Planted flips need cleanlab, of the dev extra.

Laws: 3,000 photos whole and cold in 30 s, quick in 8 s (from 2,000 photos on, seconds count as if there were at least
3,000); at least 0.9 of the confirmed pairs in one `near_duplicate` finding, and at most 30 pairs outside the known
groups; at least 0.6 of the labels that look wrong within the first twentieth. Exit code 1 if one is broken.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from memory import watch_memory
from numpy.typing import NDArray
from photos import named_data, thinned, write_table
from results import Section, Spread, add_results_options, publish

from topwork.data.duplicates import connect
from topwork.data.lookalikes import look_alikes
from topwork.data.neighbours import unit_features
from topwork.data.scan import Scan, scan
from topwork.evaluation.label_errors import label_suspects, out_of_fold
from topwork.progress import silent
from topwork.recipe import load_recipe
from topwork.workflow.features import clean_features

PROMISED, ENOUGH = 3000, 2000
WHOLE, QUICK = 30.0, 8.0
PAIRS, OUTSIDE, SUSPECTS = 0.9, 30, 0.6
FLIPPED = 0.05
_PHOTO_CACHES = ("scans", "activations")  # folders of the cache that hold what photos gave


@dataclass(frozen=True, kw_only=True)
class Took:
    """What one run cost: wall seconds, processor seconds of it and its children, peak bytes of anonymous memory."""

    seconds: float
    processor: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Known:
    """What people saw: confirmed pairs, known groups, photos whose labels look wrong."""

    pairs: list[frozenset[str]]
    groups: list[frozenset[str]]
    suspects: list[str]


def checked(data: Path, *options: str, cache: Path) -> tuple[Took, dict[str, Any]]:
    """`topwork check DATA --json` in a process of its own."""
    command = [sys.executable, "-m", "topwork", "check", str(data), "--json", *options]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "TOPWORK_CACHE": str(cache)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        with watch_memory(process.pid) as memory:
            output, _ = process.communicate()
            seconds = time.perf_counter() - started
    except BaseException:
        process.kill()
        raise
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(seconds=seconds, processor=processor, memory=memory.anonymous), json.loads(output)


def timed(data: Path, scratch: Path, *, repeats: int) -> tuple[dict[str, list[Took]], dict[str, Any]]:
    """Every row of time so many times, in turns; and what the whole check said."""
    found: dict[str, list[Took]] = {}
    said: dict[str, Any] = {}
    for repeat in range(repeats):
        cache = scratch / f"cache-{repeat}"

        def run(name: str, *options: str, cache: Path = cache) -> None:
            took, answer = checked(data, *options, cache=cache)
            found.setdefault(name, []).append(took)
            said.update(answer if not options else {})
            print(f"{name}: {took.seconds:.1f} s, {took.processor:.1f} s of processors", flush=True)

        run("quick, cold", "--quick")
        run("quick, warm", "--quick")
        shutil.rmtree(cache)
        run("whole, cold")
        for folder in _PHOTO_CACHES:
            shutil.rmtree(cache / folder)
        run("whole, photos cold")
        run("whole, warm")
        shutil.rmtree(cache)
    return found, said


def promised_seconds(seconds: float, photos: int) -> float:
    """The seconds of 3,000 photos, if fewer were measured."""
    return seconds * max(1.0, PROMISED / photos)


def known_of(data: Path) -> Known | None:
    """What lies beside the data, if it does."""
    files = [data.with_name(f"{data.name}_{name}.txt") for name in ("near_duplicates", "groups", "label_suspects")]
    if not all(file.is_file() for file in files):
        return None
    lines = [[line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", "")]
             for file in files]  # fmt: skip
    pairs, groups = ([frozenset(map(str.strip, line)) for line in part] for part in lines[:2])
    return Known(pairs=pairs, groups=groups, suspects=[line[0].strip() for line in lines[2]])


def compared(said: Mapping[str, Any], known: Known) -> dict[str, Any]:
    """How much of what is known was found, and how much else was."""
    alike = [set(each["files"]) for each in said["findings"] if each["kind"] == "near_duplicate"]
    told = {frozenset(pair) for group in alike for pair in itertools.combinations(sorted(group), 2)}
    outside = [pair for pair in told if not any(pair <= group for group in (*known.groups, *known.pairs))]
    first = {each["path"] for each in said["label_suspects"][: round(said["photos"] / 20)]}
    return {
        "confirmed": len(known.pairs),
        "found": sum(any(pair <= group for group in alike) for pair in known.pairs),
        "told": len(told),
        "outside": len(outside),
        "conflicts": [each["files"] for each in said["findings"] if each["kind"] == "label_conflict"],
        "suspects": len(known.suspects),
        "suspects_found": len(first & set(known.suspects)),
    }


def planted_flips(found: Scan, *, repeats: int) -> dict[str, list[float]]:
    """Precision at k = n of our ranking, and of cleanlab's two of the same probabilities, for other flips each time."""
    from cleanlab.rank import get_label_quality_scores

    labels = np.array([found.classes.index(str(record.label)) for record in found.records])
    features = clean_features(found, recipe=load_recipe("default"), progress=silent)
    units = unit_features(features)
    alike = [(pair.first, pair.second) for pair in look_alikes(found.records, units=units)]
    groups = np.array(connect(len(labels), alike))
    precisions: dict[str, list[float]] = {}
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        rows = rng.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
        wrong = labels.copy()
        wrong[rows] = (labels[rows] + rng.integers(1, len(found.classes), len(rows))) % len(found.classes)
        judged = out_of_fold(units, wrong, groups=groups, seed=seed)
        rankings: dict[str, NDArray[np.int64]] = {
            "topwork": np.array([suspect.row for suspect in label_suspects(features, wrong, groups=groups, seed=seed)])
        }
        for method in ("self_confidence", "normalized_margin"):
            rankings[f"cleanlab {method}"] = np.argsort(get_label_quality_scores(wrong, judged, method=method))
        for name, ranking in rankings.items():
            precisions.setdefault(name, []).append(float(np.isin(ranking[: len(rows)], rows).mean()))
    return precisions


def time_rows(found: Mapping[str, Sequence[Took]], photos: int) -> tuple[list[list[str]], list[bool]]:
    """A row a kind of run, and whether its law holds where it has one."""
    rows, laws = [], []
    for name, runs in found.items():
        seconds = Spread.of([took.seconds for took in runs])
        verdict = ""
        most = {"quick, cold": QUICK, "whole, cold": WHOLE, "whole, photos cold": WHOLE}.get(name)
        if most is not None and photos >= ENOUGH:
            scaled = promised_seconds(seconds.median, photos)
            laws.append(scaled <= most)
            verdict = f"{max(photos, PROMISED):,} photos: {scaled:.1f} ≤ {most:.0f}: {'yes' if laws[-1] else 'NO'}"
        memory = max(took.memory for took in runs)
        cpu = Spread.of([took.processor for took in runs])
        words = f"{seconds} s; processors {cpu.median:.1f} s; {memory / 1e9:.2f} GB"
        rows.append([name, words, f"n={len(runs)} runs", verdict])
    return rows, laws


def finding_rows(facts: Mapping[str, Any]) -> tuple[list[list[str]], list[bool]]:
    """Rows about what was found, and whether their laws hold."""
    pairs, suspects = facts["found"] / facts["confirmed"], facts["suspects_found"] / facts["suspects"]
    laws = [pairs >= PAIRS, facts["outside"] <= OUTSIDE, suspects >= SUSPECTS]
    told = ["yes" if law else "NO" for law in laws]
    conflicts = "; ".join(" and ".join(files) for files in facts["conflicts"]) or "none"
    return [
        ["confirmed pairs found", f"{pairs:.2f}", f"n={facts['confirmed']} pairs", f"≥ {PAIRS}: {told[0]}"],
        ["pairs outside known groups", str(facts["outside"]), f"of {facts['told']} told", f"≤ {OUTSIDE}: {told[1]}"],
        ["one picture, two labels", conflicts, f"n={len(facts['conflicts'])}", ""],
        [
            "wrong labels in the first twentieth",
            f"{suspects:.2f}",
            f"n={facts['suspects']}",
            f"≥ {SUSPECTS}: {told[2]}",
        ],
    ], laws


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of class folders, or a name in TOPWORK_TEST_DATA")
    parser.add_argument("--photos", type=int, metavar="N", help="of each class; default: all")
    parser.add_argument("--repeats", type=int, default=3, help="of every time")
    parser.add_argument("--flips", type=int, default=5, help="sets of planted flips")
    add_results_options(parser)
    return parser.parse_args()


def measured(given: argparse.Namespace, scratch: Path) -> tuple[Section, bool]:
    """All rows, and whether all laws hold."""
    folder = named_data(given.data)
    found = thinned(scan(folder), given.photos)
    data = folder
    if given.photos is not None:
        data = scratch / "photos.csv"
        rows = [(record.path, str(record.label), str(found.root)) for record in found.records]
        write_table(data, ["path", "label", "root"], rows)
    times, said = timed(data, scratch, repeats=given.repeats)
    rows, laws = time_rows(times, said["photos"])
    known = known_of(folder) if given.photos is None else None
    facts: dict[str, Any] = {}
    if known is not None:
        facts = compared(said, known)
        more, held = finding_rows(facts)
        rows, laws = [*rows, *more], [*laws, *held]
    flips = planted_flips(found, repeats=given.flips) if given.flips else {}
    k = round(FLIPPED * len(found.records))
    for name, values in flips.items():
        rows.append([f"planted flips, {name}", f"{Spread.of(values)}", f"k={k}, n={len(values)} sets", ""])
    section = Section(
        name="check",
        title=f"`topwork check` on {said['photos']:,} photos",
        columns=["what", "value", "n", "promised"],
        rows=rows,
        notes=[
            "Times: median and range, from the start of Python to its end; memory: largest peak of anonymous pages. "
            "Cold: an empty cache folder. Photos cold: only the converted network is there. The files themselves were "
            "read before and are in the system's memory.",
            f"Planted flips: {FLIPPED:.0%} of the labels at random; precision among the first k of the ranking. Labels "
            "that were wrong before count against all rankings alike; cleanlab ranks the same probabilities.",
            "The rule for look-alikes was tuned on the same photos: its figures describe it and do not prove it.",
        ],
        data={
            "photos": said["photos"],
            "times": {name: [vars(took) for took in runs] for name, runs in times.items()},
            "findings": facts,
            "flips": flips,
        },
    )
    return section, all(laws)


def main() -> int:
    """Measure, publish, compare with the laws."""
    given = options()
    with tempfile.TemporaryDirectory(prefix="topwork-check-") as scratch:
        section, holds = measured(given, Path(scratch))
    publish(section, given)
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
