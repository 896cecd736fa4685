"""Health metrics to MLflow."""

import os
from collections.abc import Collection, Sequence

from mlflow.entities import Metric
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mmhealth.errors import TrackerError
from mmhealth.health.timeline import LivedStep
from mmhealth.integrations.trackers.steps import PREFIX, HealthStep
from mmhealth.runlog import Run

_TAG = "mmhealth.run_id"
_MARK = f"{PREFIX}attempt"
"""Every step has it, and it is sent last."""


class MLflow:
    """An MLflow run of its own, found again by its tag ``mmhealth.run_id``.

    Its experiment is MLFLOW_EXPERIMENT_NAME, or ``mmhealth``. The client's own interface is used: a
    run that the training has active is not touched.
    """

    def __init__(self, run: Run, uri: str) -> None:
        try:
            self._client = MlflowClient(tracking_uri=uri or None)
            self._run_id = self._find_or_create(run).info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        except ImportError as error:
            raise TrackerError(
                f"mlflow: {uri or 'its own store'} needs more than mlflow-skinny ({error}): "
                "install mlflow itself, or name a server: mlflow=http://HOST:PORT"
            ) from error
        except (MlflowException, OSError) as error:
            raise TrackerError(f"mlflow: {error}") from error

    def arrived(self, doubtful: Sequence[HealthStep]) -> Collection[LivedStep]:
        """Those of which MLflow has the last metric."""
        try:
            history = self._client.get_metric_history(self._run_id, _MARK)
        except (MlflowException, OSError) as error:
            raise TrackerError(f"mlflow: {error}") from error
        there = {LivedStep(int(metric.value), metric.step) for metric in history}
        return [step.key for step in doubtful if step.key in there]

    def send(self, step: HealthStep) -> None:
        """Log the values of one step in one request, at the time of its commit."""
        names = sorted(step.values, key=lambda name: name == _MARK)
        when = int(step.time * 1000)
        metrics = [Metric(name, step.values[name], when, step.key.step) for name in names]
        try:
            self._client.log_batch(self._run_id, metrics=metrics)
        except (MlflowException, OSError) as error:
            raise TrackerError(f"mlflow: {error}") from error

    def flush(self) -> None:
        """Nothing to do: each step is sent at once."""

    def close(self) -> None:
        """Say that the MLflow run has ended; the next export takes it up again."""
        try:
            self._client.set_terminated(self._run_id)
        except (MlflowException, OSError) as error:
            raise TrackerError(f"mlflow: {error}") from error

    def _find_or_create(self, run: Run) -> MlflowRun:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "mmhealth"
        experiment = self._client.get_experiment_by_name(name)
        where = experiment.experiment_id if experiment else self._client.create_experiment(name)
        found = self._client.search_runs([where], f"tags.`{_TAG}` = '{run.id}'", max_results=1)
        return found[0] if found else self._client.create_run(where, None, {_TAG: run.id}, run.name)


def open_tracker(run: Run, where: str) -> MLflow:
    """An MLflow run at the tracking URI ``where``. Raises TrackerError."""
    return MLflow(run, where)
