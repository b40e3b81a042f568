"""What runs the tasks of a flow: threads, processes, Ray or Dask, by one setting."""

import contextlib
import logging
import queue
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

# Tasks that are handed over at a time, for each one that runs: enough that none waits for work, and a corpus of a
# hundred thousand partitions costs no more memory than one of a hundred.
_AHEAD = 3


def make(settings: Settings) -> TaskRunner[Any]:  # Any: each runner has futures of its own
    """The task runner that the settings name. Raises StokerError when it is not installed."""
    if settings.runner == "processes":
        return ProcessPoolTaskRunner(max_workers=settings.slots, initializer=_leave_ctrl_c_to_the_parent)
    if settings.runner == "ray":
        return _ray(settings)
    if settings.runner == "dask":
        return _dask(settings)
    return ThreadPoolTaskRunner(max_workers=settings.slots)


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ray(settings: Settings) -> TaskRunner[Any]:  # Any: as above
    try:
        from prefect_ray import RayTaskRunner
    except ImportError:
        raise StokerError('runner "ray" is not installed; pip install "stoker[ray]"') from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}  # Any: Ray's own
    if settings.ray_address:
        variables = prefect_server.environment(settings, prefect_server.current_url())
        return RayTaskRunner(  # type: ignore[no-any-return]  # prefect_ray has no types
            address=settings.ray_address, init_kwargs=options | {"runtime_env": {"env_vars": variables}}
        )
    options |= {"num_cpus": settings.slots, "include_dashboard": False}
    return RayTaskRunner(init_kwargs=options)  # type: ignore[no-any-return]  # prefect_ray has no types


def _dask(settings: Settings) -> TaskRunner[Any]:  # Any: as above
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise StokerError('runner "dask" is not installed; pip install "stoker[dask]"') from None
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # Dask tells of every worker that comes and goes
    if settings.dask_address:
        existing: TaskRunner[Any] = DaskTaskRunner(address=settings.dask_address)  # Any: as above
        return existing
    options = {
        "n_workers": settings.slots,
        "threads_per_worker": 1,
        "dashboard_address": None,
        "silence_logs": logging.CRITICAL,
        "preload": "stoker.flows.services.dask_worker",
    }
    own: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs=options)  # Any: as above
    return own


def run(
    runner: TaskRunner[Any],  # Any: as above
    task: Task[..., Any],  # Any: whatever the task returns
    calls: Iterable[tuple[str, dict[str, Any]]],  # Any: JSON values
    *,
    settings: Settings,
    stopped: Callable[[], bool],
) -> Iterator[tuple[str, object]]:
    """(name, result or exception) of each call, in the order in which they end; few are handed over at a time.

    When ``stopped`` says so, nothing more is handed over; what runs is awaited.
    """
    ended: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()
    waiting: dict[object, str] = {}
    rest = iter(calls)
    while True:
        while len(waiting) < settings.slots * _AHEAD and not stopped():
            call = next(rest, None)
            if call is None:
                break
            future = runner.submit(task, parameters=call[1])
            waiting[future.task_run_id] = call[0]
            future.add_done_callback(ended.put)
        if not waiting:
            return
        with contextlib.suppress(queue.Empty):
            future = ended.get(timeout=0.5)  # so short that signals and ``stopped`` are noticed
            yield waiting.pop(future.task_run_id), _outcome(future)


def _outcome(future: PrefectFuture[Any]) -> object:
    try:
        return future.result()
    except Exception as error:
        return error
