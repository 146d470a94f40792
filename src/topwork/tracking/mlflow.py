"""MLflow: a run in the user's tracking store, or in `mlruns` of the working folder. The only door to `mlflow`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from topwork.tracking.tracker import End, Opened, Start

__all__ = ["MlflowTracker"]

_MOST_PARAMETERS = 100  # that one request may carry
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # topwork sends nothing anywhere, so what it loads does not either
    "MLFLOW_ALLOW_FILE_STORE": "true",  # newer versions refuse a folder as store without it
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is down must not hold up a fit for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MlflowTracker:
    """Uses the client and not the module's global run, which may be the caller's own."""

    def begin(self, start: Start) -> Opened:
        """A new run, or the known one where the store still has it."""
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=_store())
        continued = bool(start.known) and self._has(start.known)
        self._run = start.known if continued else self._new_run(start.name)
        if continued:
            self._client.update_run(self._run, status="RUNNING")
        parameters = [Param(name, str(value)) for name, value in start.parameters.items()]
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self._run, params=parameters[first : first + _MOST_PARAMETERS])
        return Opened(identity=self._run, continued=continued, where=f"run {self._run} in {self._client.tracking_uri}")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """All numbers in one request."""
        from mlflow.entities import Metric

        moment = time.time_ns() // 1_000_000
        metrics = [Metric(name, number, moment, step) for name, number in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, end: End) -> None:
        """Numbers, figures as artifacts, the model's path as a tag."""
        self.log(0, end.numbers)
        for figure in end.figures:
            self._client.log_artifact(self._run, str(figure), "figures")
        self._client.set_tag(self._run, "model", str(end.model))
        self._client.set_terminated(self._run, "FINISHED")

    def stop(self) -> None:
        """The run stays, marked as failed."""
        self._client.set_terminated(self._run, "FAILED")

    def _has(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def _new_run(self, name: str) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "topwork"
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        return str(self._client.create_run(number, run_name=name).info.run_id)


def _store() -> str | None:
    """None leaves it to MLflow: what the user set, else its SQLite file, which needs more than mlflow-skinny has."""
    import mlflow

    if mlflow.is_tracking_uri_set() or find_spec("sqlalchemy"):  # type: ignore[no-untyped-call]
        return None
    return (Path.cwd() / "mlruns").as_uri()
