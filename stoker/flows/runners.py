"""The task runner of a flow, chosen by a setting: threads, processes, Ray or Dask."""

import concurrent.futures
import contextlib
import functools
import logging
import multiprocessing
import multiprocessing.connection
import os
import queue
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings, put_environment
from stoker.storage.errors import StokerError

# Tasks submitted at a time per slot. More than 1, so that no slot waits for work; bounded, so that a corpus of a
# hundred thousand partitions costs no more memory than one of a hundred.
_SUBMITTED_PER_SLOT = 3
_folders: list[tempfile.TemporaryDirectory[str]] = []  # of local Ray clusters


def make(settings: Settings) -> TaskRunner[Any]:  # Any: each runner has futures of its own
    """The task runner that the settings name. Raises StokerError when it is not installed."""
    if settings.runner in ("processes", "dask"):
        _hide_leftovers()
    if settings.runner == "processes":
        return ProcessPoolTaskRunner(max_workers=settings.slots, initializer=_obey_parent)
    if settings.runner == "ray":
        return _ray(settings)
    if settings.runner == "dask":
        return _dask(settings)
    return ThreadPoolTaskRunner(max_workers=settings.slots)


@functools.cache
def _hide_leftovers() -> None:
    """A run that had to be cut off leaves semaphores, and the process that removes them tells the terminal of it."""
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")


@functools.cache
def _ray_token() -> str:
    """One for each process: Ray's driver keeps the first that it reads."""
    return secrets.token_hex(32)


def _obey_parent() -> None:
    """In a worker process: leave signals to the parent, which asks the tasks to stop, and end when it is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _ray(settings: Settings) -> TaskRunner[Any]:  # Any: as above
    if not settings.ray_address:
        # A local cluster listens on all addresses of the machine: it does what the holder of this token says. A user's
        # own cluster has a token of its own. Ray reads the variables when it is imported.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _ray_token()}
        put_environment(token | {"RAY_USAGE_STATS_ENABLED": "0"}, without=("RAY_AUTH_TOKEN_PATH",))
    try:
        from prefect_ray import RayTaskRunner
    except ImportError:
        raise StokerError('runner "ray" is not installed; pip install "stoker[ray]"') from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}  # Any: Ray's own
    if settings.ray_address:
        variables = prefect_server.current_environment(settings)
        return RayTaskRunner(  # type: ignore[no-any-return]  # prefect_ray has no types
            address=settings.ray_address, init_kwargs=options | {"runtime_env": {"env_vars": variables}}
        )
    # Ray opens its folder to all users, so it lies in one that is closed. In /tmp, because a socket's path is short.
    folder = tempfile.TemporaryDirectory(prefix="stoker-ray-", dir="/tmp", ignore_cleanup_errors=True)
    _folders.append(folder)  # removed when this process ends
    options |= {"num_cpus": settings.slots, "include_dashboard": False, "_temp_dir": f"{folder.name}/ray"}
    return RayTaskRunner(init_kwargs=options)  # type: ignore[no-any-return]  # prefect_ray has no types


def _dask(settings: Settings) -> TaskRunner[Any]:  # Any: as above
    try:
        import dask
        from distributed.security import Security
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise StokerError('runner "dask" is not installed; pip install "stoker[dask]"') from None
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # Dask logs every worker that starts or ends
    if settings.dask_address:
        existing: TaskRunner[Any] = DaskTaskRunner(address=settings.dask_address)  # Any: as above
        return existing
    # Who gets through to a worker can have it run anything, as the wire speaks pickle. So both sides show a certificate
    # that was made for this run, and the pages on the state of the cluster, which need none, are left out.
    dask.config.set({f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")})
    options = {
        "host": "127.0.0.1",
        "security": Security.temporary(),  # type: ignore[no-untyped-call]  # Dask's own
        "n_workers": settings.slots,
        "threads_per_worker": 1,
        "dashboard_address": None,
        "silence_logs": logging.CRITICAL,
        "preload": "stoker.flows.services.dask_worker",
    }
    temporary: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs=options)  # Any: as above
    return temporary


def run(
    runner: TaskRunner[Any],  # Any: as above
    task: Task[..., Any],  # Any: whatever the task returns
    calls: Iterable[tuple[str, dict[str, Any]]],  # Any: JSON values
    *,
    settings: Settings,
    stopped: Callable[[], bool],
) -> Iterator[tuple[str, object]]:
    """(name, result or exception) of each call, in the order of completion; few are submitted at a time.

    Once ``stopped()`` is true nothing more is submitted or begun; running tasks are awaited.
    """
    completed: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()
    pending: dict[object, tuple[str, PrefectFuture[Any]]] = {}  # by task run; the name is the call's
    remaining = iter(calls)
    while True:
        while len(pending) < settings.slots * _SUBMITTED_PER_SLOT and not stopped():
            call = next(remaining, None)
            if call is None:
                break
            name, parameters = call
            future = runner.submit(task, parameters=parameters)
            pending[future.task_run_id] = name, future
            future.add_done_callback(completed.put)
        if stopped():
            pending = {run: call for run, call in pending.items() if not _is_called_off(call[1])}
        if not pending:
            return
        with contextlib.suppress(queue.Empty):
            future = completed.get(timeout=0.5)  # short, so that signals and ``stopped`` are noticed
            if future.task_run_id in pending:
                yield pending.pop(future.task_run_id)[0], _outcome(future)


def _is_called_off(future: PrefectFuture[Any]) -> bool:
    """Whether a task that was to run in a thread or process here has not begun, and now never will."""
    wrapped = getattr(future, "wrapped_future", None)
    return isinstance(wrapped, concurrent.futures.Future) and (wrapped.cancelled() or wrapped.cancel())


def _outcome(future: PrefectFuture[Any]) -> object:
    try:
        return future.result()
    except Exception as error:
        return error
