"""`fit --track`: what trackers show is what the run's files say, also after a stop; and a fit outlives its trackers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import topwork
from topwork.cli.app import run as main
from topwork.tracking.trackers import Trackers
from topwork.workflow.rundir import RunDir

pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
pytest.importorskip("mlflow", reason="the extra `track` is not installed")


class Stopping:
    """A `Progress` that ends the fit after a sentence."""

    def __init__(self, after: str) -> None:
        self.after = after

    def step(self, stage: str, done: int, total: int) -> None: ...

    def say(self, line: str) -> None:
        if self.after in line:
            raise RuntimeError(line)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _mlflow_runs(folder: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    return list(client.search_runs([client.get_experiment_by_name("topwork").experiment_id]))


def _curve(run: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scalars = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload().Scalars(name)
    return [(each.step, each.value) for each in scalars]


def _losses(run: Path) -> list[tuple[int, Any]]:
    lines = RunDir(run).history()
    return [(step, pytest.approx(line["val"]["loss"])) for step, line in enumerate(lines, start=1)]


@pytest.mark.slow
def test_a_continued_fit_is_one_run_in_every_tracker(here: Path, drawn_photos: Path, tiny: tuple[str, ...]) -> None:
    path = here / "runs" / "a"
    with pytest.raises(RuntimeError):
        topwork.fit(drawn_photos, to=path, settings=tiny, track=["mlflow"], progress=Stopping("phase 2, epoch 1"))
    assert [found.info.status for found in _mlflow_runs(here)] == ["FAILED"]

    topwork.fit(drawn_photos, to=path, settings=tiny, track=["mlflow"], resume=True)
    (found,) = _mlflow_runs(here)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "a"
    assert found.info.run_id == RunDir.open(path).provenance()["tracked"]["mlflow"]
    assert found.data.params["backbone.name"] == "test_efficientnet"
    accuracy = json.loads((path / "evaluation.json").read_text())["splits"]["test"]["accuracy"]
    for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert found.data.metrics[f"test/accuracy{end}"] == pytest.approx(accuracy[key])
    assert found.data.tags["model"] == str(path / "model")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(here / "mlruns").as_uri())
    pictures = {Path(each.path).name for each in client.list_artifacts(found.info.run_id, "figures")}
    assert pictures >= {"training_curves.png", "confusion_matrix.png", "gradcam_example.png", "gradcam_grid.png"}
    curve = {each.step: each.value for each in client.get_metric_history(found.info.run_id, "val/loss")}
    assert sorted(curve.items()) == _losses(path)
    # The draft's event files are made anew, with the earlier epochs: TensorBoard needs no tracker's memory.
    assert _curve(path, "val/loss") == _losses(path)
    assert dict(_curve(path, "test/accuracy_low"))[0] == pytest.approx(accuracy["low"])


def test_a_tracker_that_fails_does_not_stop_the_fit(
    here: Path, drawn_photos: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    (here / "mlruns").write_text("a file where MLflow wants a folder")
    finished = topwork.fit(drawn_photos, to=here / "runs/a", settings=tiny, track=["mlflow"], progress=lines)
    assert finished.report.is_file()
    (warning,) = [line for line in lines.said if line.startswith("Warning: mlflow")]
    assert warning.endswith("The fit goes on.")
    assert (here / "runs/a/tensorboard").is_dir()


@pytest.mark.parametrize(("name", "fix"), [("neptune", "use one of"), ("wandb", "pip install wandb")])
def test_a_tracker_that_is_not_there_is_refused_before_any_work(
    name: str, fix: str, here: Path, drawn_photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    import topwork.tracking.trackers as home

    monkeypatch.setattr(home, "_is_installed", lambda found: found != "wandb")
    assert main(["fit", str(drawn_photos), "--to", "runs/a", "--track", "tensorboard", "--track", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    said = err.splitlines()
    assert name in said[0]
    assert said[-1].startswith(f"fix: {fix}")
    assert len(said) == 2  # nothing was scanned
    assert not list(here.iterdir())


def test_without_tensorboard_a_fit_has_no_tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import topwork.tracking.trackers as home

    monkeypatch.setattr(home, "_is_installed", lambda found: False)
    from topwork.tracking.tracker import Start

    start = Start(name="a", folder=tmp_path / "x", parameters={})
    assert Trackers.named().begin(start, known={}, history=[]) == {}
