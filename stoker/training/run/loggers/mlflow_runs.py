"""A run in MLflow: on the server of MLFLOW_TRACKING_URI, or in a folder beside the metrics."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from stoker.plugins import one_line, without_user
from stoker.training.errors import TrainingError
from stoker.training.run.loggers.trackers import Sending, Tracked

_ID_FILE = "mlflow-run"  # in the run's folder
_LONGEST_PARAMETER = 500  # characters that every server takes
_log = logging.getLogger(__name__)


def open_tracker(tracked: Tracked) -> "MlflowRun":
    """The run's entry in the experiment of the corpus' name: that of before, or a new one if there is none (any more).

    Raises TrainingError.
    """
    import mlflow
    from mlflow.entities import Param

    if mlflow.is_tracking_uri_set():
        address = mlflow.get_tracking_uri()
    else:
        address = f"sqlite:///{(tracked.folder.parent / 'mlflow.db').resolve()}"
    id_file = tracked.folder / _ID_FILE
    try:
        client = mlflow.MlflowClient(address)
        before = id_file.read_text().strip() if id_file.exists() else ""
        if before and _is_there(client, before):
            client.update_run(before, status="RUNNING")
            return MlflowRun(client, before, resumed=True)
        if before:
            _log.warning("MLflow's run %s was deleted; %s goes on in a new one", before, tracked.run)
        name = mlflow.environment_variables.MLFLOW_EXPERIMENT_NAME.get() or tracked.corpus
        experiment = client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else client.create_experiment(name)
        run: str = client.create_run(number, run_name=tracked.run, tags={"version": tracked.version}).info.run_id
        parameters = [Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in tracked.options.items()]
        client.log_batch(run, params=parameters)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        where = without_user(address)
        raise TrainingError(f"loggers = mlflow: {where}: {one_line(error)}; see MLFLOW_TRACKING_URI") from error
    id_file.write_text(run)
    return MlflowRun(client, run, resumed=False)


def _is_there(client: Any, run: str) -> bool:  # Any: mlflow is not always there
    """Whether the server has a run, and it is not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        there: bool = client.get_run(run).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return there


class MlflowRun:
    """A Tracker. A server that fails ends no training: it is told once, and gets nothing more."""

    def __init__(self, client: Any, run: str, *, resumed: bool) -> None:  # Any: mlflow is not always there
        self._client, self._run, self._resumed = client, run, resumed
        self._last: dict[str, int] = {}  # the last step that is there already, by metric; of resumed runs
        self._send = Sending("MLflow", run)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = {f"{kind}/{name}": value for name, value in values.items()}
        self._send(
            lambda: self._client.log_batch(
                self._run,
                metrics=[
                    Metric(name, value, now, step) for name, value in named.items() if step > self._last_step(name)
                ],
            )
        )

    def add_text(self, name: str, step: int, text: str) -> None:
        """See Tracker."""
        self._send(lambda: self._client.set_tag(self._run, name, text))

    def close(self) -> None:
        """See Tracker."""
        self._send(lambda: self._client.set_terminated(self._run))

    def _last_step(self, name: str) -> int:
        """The last step of a metric from before this run was resumed; what is done again has the same numbers."""
        if not self._resumed:
            return -1
        if name not in self._last:
            history = self._client.get_metric_history(self._run, name)
            self._last[name] = max((one.step for one in history), default=-1)
        return self._last[name]
