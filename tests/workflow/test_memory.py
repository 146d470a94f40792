"""Memory does not grow with the number of photos, but for a small record of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Scan, split, trunk, head and one epoch of the top in a process of its own, which tells its peak.
_RUN = """
import json, resource, sys
import topwork.workflow.fit as fit
from topwork.data.copies import copy_findings
from topwork.data.scan import scan
from topwork.data.split import split
from topwork.recipe import load_recipe

settings = ["backbone.name=test_efficientnet", "backbone.weights=none", "data.image_size=64", "engine.precision=f32"]
settings += ["data.mirror=false", "head.kind=linear", "engine.trunk=torch", "data.views=fixed:0"]
settings += ["phase2.epochs=1", "phase2.train=top-1 blocks"]
recipe = load_recipe("default", settings)
found = scan(sys.argv[1])
copy_findings(found.records)
manifest = split(found, shares=(0.8, 0.1, 0.1), seed=0)
outcome = fit.fit_manifest(recipe, manifest)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"photos": len(manifest.rows), "peak": peak, "computed": outcome.extractor.work.computed}))
"""
_GROWTH = 150e6  # bytes for 19,000 further photos; the record of a photo takes about 3 kB in Python
_SIDE = 64


def _draw(folder: Path, count: int) -> Path:
    """Photos with distinct bytes: 100 drawn flowers, each many times with other lines across it."""
    from topwork.data.drawn import SPECIES, draw_flower

    drawn = [draw_flower(SPECIES[number % 5], seed=number, size=_SIDE).pixels for number in range(100)]
    for species in SPECIES:
        (folder / species).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = drawn[number % 100].copy()
        row, column = random.integers(0, _SIDE - 8, 2)
        pixels[row : row + 4] = random.integers(0, 256, 3)
        pixels[:, column : column + 4] = random.integers(0, 256, 3)
        Image.fromarray(pixels).save(folder / SPECIES[number % 5] / f"{number}.jpg", quality=80)
    return folder


def _measured(photos: Path, cache: Path) -> dict[str, int]:
    environment = {**os.environ, "TOPWORK_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(photos)], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_twenty_thousand_photos_need_hardly_more_memory_than_one_thousand(tmp_path: Path) -> None:
    few = _measured(_draw(tmp_path / "few", 1_000), tmp_path / "cache-few")
    many = _measured(_draw(tmp_path / "many", 20_000), tmp_path / "cache-many")
    assert (few["photos"], many["photos"]) == (1_000, 20_000)
    assert many["computed"] > 19_900  # the same bytes are computed once
    assert many["peak"] - few["peak"] < _GROWTH
