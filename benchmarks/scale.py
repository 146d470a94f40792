"""Wall time and memory of `topwork fit` on 1,000, 5,000 and 20,000 drawn photos of 64 px, each with an empty cache.

    python benchmarks/scale.py
    python benchmarks/scale.py --sizes 100 200 400 --results /tmp/check.md        (a quick check)

Each size runs as a process of its own: EfficientNet-Lite0 on 64-px pictures, the default recipe with two cached views
and two epochs of fine-tuning. Laws: a further photo costs the same at the largest size as at the smallest (at most 1.25
times as many seconds), and the largest size needs at most 1.3 times the memory of the one before. (The kernel head's
matrices grow until it stores 4,096 training photos, so the smallest says nothing about what follows.) Exit code 1 if a
law is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from memory import watch_memory
from results import Section, add_results_options, publish

from topwork.cachedir import cache_folder
from topwork.data.drawn import SPECIES, draw_flower

SIDE = 64
SETTINGS = (f"data.image_size={SIDE}", "data.views=fixed:2", "phase2.epochs=2")
SLOPE, GROWTH = 1.25, 1.3
_PART = 500  # photos that one process draws before it says so


def draw_part(folder: Path, numbers: range) -> int:
    """Draw photos by number; those that exist stay."""
    from PIL import Image

    for number in numbers:
        path = photo_path(folder, number)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = draw_flower(SPECIES[number % len(SPECIES)], seed=number, size=SIDE)
            draft = path.with_suffix(".tmp")
            Image.fromarray(drawn.pixels).save(draft, "JPEG", quality=90)
            draft.replace(path)
    return len(numbers)


def photo_path(folder: Path, number: int) -> Path:
    """Where a photo is: one folder a species."""
    return folder / SPECIES[number % len(SPECIES)] / f"{number:06d}.jpg"


def draw_all(folder: Path, count: int) -> None:
    """Draw the photos 0..count-1 that are missing, on all cores; they are kept for the next time."""
    parts = [range(start, min(count, start + _PART)) for start in range(0, count, _PART)]
    missing = [part for part in parts if not all(photo_path(folder, number).exists() for number in part)]
    done = 0
    with ProcessPoolExecutor() as pool:
        for drawn in pool.map(draw_part, [folder] * len(missing), missing):
            done += drawn
            print(f"drawn {done} of {sum(map(len, missing))}", flush=True)


def fit_once(drawn: Path, count: int, *, scratch: Path, settings: list[str]) -> dict[str, Any]:
    """Fit on the first `count` photos in a process of its own -> seconds, memory, stages."""
    data = scratch / f"photos-{count}"
    for number in range(count):
        link = photo_path(data, number)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(photo_path(drawn, number), link)
        except OSError:  # another disk
            shutil.copyfile(photo_path(drawn, number), link)
    to, chosen = scratch / f"run-{count}", [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "topwork", "fit", str(data), "--to", str(to), *chosen]
    environment = {**os.environ, "TOPWORK_CACHE": str(scratch / f"cache-{count}")}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        with watch_memory(process.pid) as memory:
            output, _ = process.communicate()
    except BaseException:
        process.kill()
        raise
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output.decode(errors='replace')[-2000:]}")
    evaluation = json.loads((to / "evaluation.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in (scratch / f"cache-{count}" / "activations").rglob("*.bin"))
    return {
        "photos": count,
        "seconds": round(seconds, 1),
        "memory": memory.to_json(),
        "cache_bytes": size,
        "stages": evaluation["seconds"],
        "accuracy": evaluation["splits"]["test"]["accuracy"],
    }


def slope_ratio(found: list[dict[str, Any]]) -> float:
    """Seconds of a further photo between the two largest sizes, over those between the two smallest; 1 is linear."""
    slopes = [(b["seconds"] - a["seconds"]) / (b["photos"] - a["photos"]) for a, b in pairwise(found)]
    return slopes[-1] / max(slopes[0], 1e-9)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 20_000])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--scratch", type=Path, help="where runs and caches go for a while; default: the system's")
    add_results_options(parser)
    given = parser.parse_args()
    given.sizes = sorted(given.sizes)
    if len(set(given.sizes)) < 3:
        parser.error("--sizes needs three different numbers of photos or more.")
    return given


def section_of(found: list[dict[str, Any]], settings: list[str]) -> tuple[Section, bool]:
    """The table, and whether both laws hold."""
    least, most = found[-2], found[-1]
    slopes = slope_ratio(found)
    growth = most["memory"]["anonymous"] / least["memory"]["anonymous"]
    holds = slopes <= SLOPE and growth <= GROWTH
    rows = [
        [
            f"{one['photos']:,}",
            f"{one['seconds']:.0f}",
            f"{1000 * one['seconds'] / one['photos']:.1f}",
            f"{one['memory']['anonymous'] / 1e9:.2f} GB",
            f"{one['memory']['resident'] / 1e9:.2f} GB",
            f"{one['cache_bytes'] / 1e9:.2f} GB",
        ]
        for one in found
    ]
    section = Section(
        name="scale",
        title=f"Scale: `topwork fit` on drawn photos of {SIDE} px, efficientnet_lite0",
        columns=["photos", "seconds", "ms a photo", "peak memory", "with cached file pages", "activation cache"],
        rows=rows,
        notes=[
            f"A further photo costs {slopes:.2f} times as many seconds at the largest size as at the smallest (law: at "
            f"most {SLOPE}); the largest needs {growth:.2f} times the memory of the one before (law: at most "
            f"{GROWTH}): {'both hold' if holds else 'NOT both hold'}.",
            "Up to 4,096 training photos the kernel head's matrices grow with their number, so the smallest size says "
            "nothing about the memory of what follows.",
            "Peak memory: anonymous and shared pages of the process tree, four looks a second. Cached file pages are "
            "the memory map's; the system drops them when it needs room.",
            f"One run a size, empty cache; settings {' '.join(settings)}.",
        ],
        data={"side": SIDE, "settings": settings, "slope_ratio": slopes, "memory_growth": growth, "sizes": found},
    )
    return section, holds


def main() -> int:
    """Draw, fit at every size, compare with the laws."""
    given = options()
    drawn = cache_folder() / "benchmarks" / f"drawn-{SIDE}"
    draw_all(drawn, given.sizes[-1])
    settings = [*SETTINGS, *given.settings]
    found = []
    home = given.scratch or drawn.parent
    for count in given.sizes:
        scratch = Path(tempfile.mkdtemp(dir=home, prefix="scale-"))
        try:
            found.append(fit_once(drawn, count, scratch=scratch, settings=settings))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        print(f"{count} photos: {found[-1]['seconds']} s, {found[-1]['memory']}", flush=True)
    section, holds = section_of(found, settings)
    publish(section, given)
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
