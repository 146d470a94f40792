"""MLflow's own client reads back what was told; nothing leaves the machine that the user did not send away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow", reason="the extra `track` is not installed")

from topwork.tracking.mlflow import MlflowTracker
from topwork.tracking.tracker import End, Start
from topwork.tracking.trackers import epoch_numbers


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _client(folder: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=folder.as_uri())


def test_parameters_curves_numbers_figures_and_the_models_path(
    start: Start, history: list[dict[str, Any]], end: End, here: Path
) -> None:
    tracker = MlflowTracker()
    opened = tracker.begin(start)
    assert not opened.continued
    for step, line in enumerate(history, start=1):
        tracker.log(step, epoch_numbers(line))
    tracker.finish(end)
    client = _client(here / "mlruns")
    run = client.get_run(opened.identity)
    assert run.info.run_name == start.name
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in start.parameters.items()}
    curve = client.get_metric_history(opened.identity, "val/loss")
    assert [(each.step, each.value) for each in curve] == [(1, 1.0), (2, 0.5), (3, 1.0)]
    assert {name: run.data.metrics[name] for name in end.numbers} == dict(end.numbers)
    assert [each.path for each in client.list_artifacts(opened.identity, "figures")] == ["figures/confusion_matrix.png"]
    assert run.data.tags["model"] == str(end.model)
    assert client.get_experiment(run.info.experiment_id).name == "topwork"


def test_more_parameters_than_one_request_may_carry(start: Start, here: Path) -> None:
    many = {f"key.{number}": number for number in range(230)}
    opened = MlflowTracker().begin(Start(name="a", folder=start.folder, parameters=many))
    assert len(_client(here / "mlruns").get_run(opened.identity).data.params) == 230


def test_a_known_run_goes_on_and_a_deleted_one_is_made_anew(start: Start, here: Path) -> None:
    first = MlflowTracker()
    opened = first.begin(start)
    first.stop()
    assert _client(here / "mlruns").get_run(opened.identity).info.status == "FAILED"
    again = Start(name=start.name, folder=start.folder, parameters=start.parameters, known=opened.identity)
    assert MlflowTracker().begin(again).continued
    assert _client(here / "mlruns").get_run(opened.identity).info.status == "RUNNING"
    _client(here / "mlruns").delete_run(opened.identity)
    third = MlflowTracker().begin(again)
    assert not third.continued
    assert third.identity != opened.identity


def test_the_users_store_and_experiment_are_used(start: Start, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (here / "elsewhere").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "thesis")
    opened = MlflowTracker().begin(start)
    client = _client(here / "elsewhere")
    run = client.get_run(opened.identity)
    assert client.get_experiment(run.info.experiment_id).name == "thesis"
    assert not (here / "mlruns").exists()


# MLflow turns its telemetry off by itself under pytest and in CI, so that this needs a process without either.
_TELEMETRY = """
from pathlib import Path
from topwork.tracking.mlflow import MlflowTracker
from topwork.tracking.tracker import Start
MlflowTracker().begin(Start(name="a", folder=Path("x"), parameters={}))
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
"""


def test_telemetry_is_off(here: Path) -> None:
    signs = ("PYTEST", "CI", "GITHUB", "DO_NOT_TRACK", "MLFLOW")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(signs)}
    # Without internet even a client that reports would only try: this machine is its own proxy.
    kept |= {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", _TELEMETRY], env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
