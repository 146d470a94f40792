"""`fit --resume`: a run that was broken off anywhere ends with the same bits as one that was not."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import topwork
from topwork.cli.app import run as main
from topwork.errors import RunError

SETTINGS = (
    *("backbone.name=test_efficientnet", "backbone.weights=none", "data.image_size=64", "data.split=60/20/20"),
    *("engine.precision=f32", "data.views=fixed:1", "head.kind=linear", "head.dropout=0.2"),
    *("phase1.optimizer=adamw", "phase1.epochs=3", "phase1.batch_size=8"),
    *("phase2.train=top-2 blocks", "phase2.epochs=3", "phase2.batch_size=8", "phase2.mixup=0.3"),
    *("phase2.batchnorm=update", "stop.patience=9"),
)


def result(run: Path) -> dict[str, Any]:
    """What must be the same to the bit."""
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    evaluation = json.loads((run / "evaluation.json").read_text())
    return {
        **{
            path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in [*run.glob("model*/*.safetensors"), run / "predictions.csv", run / "manifest.csv"]
        },
        "history": [{k: v for k, v in record.items() if k not in ("seconds", "at")} for record in history],
        "evaluation": {key: value for key, value in evaluation.items() if key != "seconds"},
    }


class Place:
    """Runs fits in children of one process."""

    def __init__(self, folder: Path, photos: Path) -> None:
        self.folder = folder
        self.photos = photos

    def job(self, name: str, *, kill: list[Any] | None = None, **more: Any) -> dict[str, Any]:
        fixed = {"photos": str(self.photos), "settings": SETTINGS, "resume": False, "kill": kill}
        return {**fixed, "cache": str(self.folder / name / "cache"), "to": str(self.folder / name / "run"), **more}

    def prepared(self, name: str, *, like: str) -> str:
        """A cache with the converted graph and the measured choices of another, and no activations."""
        cache = self.folder / name / "cache"
        cache.mkdir(parents=True)
        shutil.copytree(self.folder / like / "cache" / "engine", cache / "engine")
        shutil.copy(self.folder / like / "cache" / "timings.json", cache)
        return name

    def run(self, *jobs: dict[str, Any]) -> list[int]:
        path = self.folder / "jobs.json"
        path.write_text(json.dumps(jobs))
        script = Path(__file__).with_name("fits_that_are_killed.py")
        done = subprocess.run(
            [sys.executable, str(script), str(path)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(line["status"] in (0, -signal.SIGKILL) for line in said), done.stderr
        return [line["status"] for line in said]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, drawn_photos: Path) -> Place:
    """With one run that was never broken off, `whole`."""
    place = Place(tmp_path_factory.mktemp("resume"), drawn_photos)
    (place.folder / "first" / "cache").mkdir(parents=True)
    assert place.run(place.job("first")) == [0]
    assert place.run(place.job(place.prepared("whole", like="first"))) == [0]
    # A network that was converted a moment ago gives the same numbers as one that is read.
    whole = result(place.folder / "whole" / "run")
    assert {"model/model.safetensors", "model-last/model.safetensors"} <= set(whole)
    assert result(place.folder / "first" / "run") == whole
    return place


@pytest.mark.slow
@pytest.mark.timeout(1600)  # a minute on an idle machine
def test_killed_at_random_points_it_ends_with_the_same_bits(place: Place) -> None:
    met = json.loads((place.folder / "whole" / "run.events.json").read_text())
    chance = random.Random(20261124)
    kinds = ["rows"] * 2 + ["phase 1"] * 2 + ["phase 2"] * 3 + ["checkpoint"] * 4
    points = [[kind, chance.randint(1, met[kind])] for kind in kinds] + [["report", 1]]
    jobs, names = [], []
    for number, point in enumerate(points):
        name = place.prepared(f"{number}", like="first")
        names.append(name)
        often = 0.0 if number % 2 else 1e9  # every second one is saved after each step, too
        jobs += [
            place.job(name, kill=point, save_seconds=often),
            place.job(name, resume=True, save_seconds=often),
        ]
    statuses = place.run(*jobs)
    assert statuses == [-signal.SIGKILL, 0] * len(points)
    whole = result(place.folder / "whole" / "run")
    for name, point in zip(names, points, strict=True):
        assert result(place.folder / name / "run") == whole, point
        left = {path.name for path in (place.folder / name).iterdir()}
        assert left == {"cache", "run", "run.events.json"}
        names_inside = {path.name for path in (place.folder / name / "run").iterdir()}
        assert not [inside for inside in names_inside if inside.startswith(".") or inside == "lock"]


@pytest.mark.slow
@pytest.mark.timeout(1600)  # a minute on an idle machine
def test_killed_twice_with_the_machines_memory_of_its_speed_gone(place: Place) -> None:
    """Choices made by timing come from the run itself: a poisoned memory of them changes nothing."""
    name = place.prepared("twice", like="first")
    assert place.run(place.job(name, kill=["phase 2", 4])) == [-signal.SIGKILL]
    timings = place.folder / name / "cache" / "timings.json"
    others = {"f32": "bf16", "bf16": "f32"}
    known = json.loads(timings.read_text())
    assert any("top precision" in key for key in known)
    poisoned = {key: {**entry, "picked": others.get(entry["picked"], entry["picked"])} for key, entry in known.items()}
    timings.write_text(json.dumps(poisoned))
    killed, done = place.run(place.job(name, resume=True, kill=["phase 2", 9]), place.job(name, resume=True))
    assert (killed, done) == (-signal.SIGKILL, 0)
    assert result(place.folder / name / "run") == result(place.folder / "whole" / "run")
    provenance = json.loads((place.folder / name / "run" / "provenance.json").read_text())
    assert len(provenance["resumed"]) == 2
    assert json.loads(timings.read_text()) == poisoned


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_default_recipe_killed_in_phase_2_and_while_the_run_is_packed(place: Place) -> None:
    """Its last stage solves a head on the features of phase 2; that is done again."""
    settings = [setting for setting in SETTINGS if not setting.startswith(("head.", "phase1.", "phase2."))]
    settings += ["phase2.epochs=2", "phase2.train=top-2 blocks"]
    names = [place.prepared(name, like="first") for name in ("kernel", "kernel killed", "kernel packed")]
    jobs = [place.job(names[0], settings=settings)]
    for name, point in ((names[1], ["phase 2", 2]), (names[2], ["report", 1])):
        jobs += [place.job(name, settings=settings, kill=point), place.job(name, settings=settings, resume=True)]
    assert place.run(*jobs) == [0, -signal.SIGKILL, 0, -signal.SIGKILL, 0]
    whole, *others = (result(place.folder / name / "run") for name in names)
    assert others == [whole, whole]


def test_a_finished_run_stays_as_it_is(
    tiny_run: topwork.Run, drawn_photos: Path, tiny: tuple[str, ...], lines: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def there() -> dict[str, tuple[int, str]]:
        files = [path for path in tiny_run.path.rglob("*") if path.is_file()]
        return {str(p): (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files}

    before = there()
    again = topwork.fit(drawn_photos, to=tiny_run.path, settings=tiny, resume=True, progress=lines)
    assert lines.said == [f"The run {tiny_run.path} is finished; there is nothing to continue."]
    assert again.path == tiny_run.path
    assert again.evaluation.to_json() == tiny_run.evaluation.to_json()
    assert main(["fit", str(drawn_photos), "--to", str(tiny_run.path), "--resume"]) == 0
    assert "finished" in capsys.readouterr().err
    assert there() == before


class _Stop(Exception):
    pass


def test_what_differs_is_named_and_nothing_is_lost(
    tiny_run: topwork.Run,
    drawn_photos: Path,
    tiny: tuple[str, ...],
    tmp_path: Path,
    lines: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos, to = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(drawn_photos, photos)

    def stopped(*_: Any, **__: Any) -> None:
        raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr("topwork.workflow.fit.write_model", stopped)
        with pytest.raises(_Stop):
            topwork.fit(photos, to=to, recipe="probe", settings=tiny)
    draft = tmp_path / ".run.unfinished"
    assert draft.is_dir()
    with pytest.raises(RunError, match=r"began with loss\.label_smoothing=0\.05; now it is 0\.2"):
        topwork.fit(photos, to=to, recipe="probe", settings=[*tiny, "loss.label_smoothing=0.2"], resume=True)
    with pytest.raises(RunError, match=r"began with minutes=None; now it is 3"):
        topwork.fit(photos, to=to, recipe="probe", settings=tiny, minutes=3, resume=True)
    gone = next((photos / "rose").iterdir())
    kept = gone.read_bytes()
    gone.unlink()
    with pytest.raises(RunError, match=r"photos are not those"):
        topwork.fit(photos, to=to, recipe="probe", settings=tiny, resume=True)
    gone.write_bytes(kept)
    run = topwork.fit(photos, to=to, recipe="probe", settings=tiny, resume=True, progress=lines)
    assert any("Continuing the run of" in line and "phase 1" in line for line in lines.said)
    assert not any(line.startswith("phase 1") for line in lines.said)  # it was not trained again
    whole = topwork.fit(photos, to=tmp_path / "whole", recipe="probe", settings=tiny)
    weights = "model/model.safetensors"
    assert (run.path / weights).read_bytes() == (whole.path / weights).read_bytes()
    assert not (run.path / "model-last").exists()  # a solver has no epochs
    assert not draft.exists()
