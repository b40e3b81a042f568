"""Run tasks, few at a time; replace workers that end, and find the task that ends them."""

import concurrent.futures
import contextlib
import queue
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from stoker.flows.runners.clusters import call_off, cluster_end, submission, worker_end
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

# Tasks submitted at a time per slot. More than 1, so that no slot waits for work; bounded, so that a corpus of a
# hundred thousand partitions costs no more memory than one of a hundred.
_SUBMITTED_PER_SLOT = 3
_MAX_TRIES = 3  # of a task whose worker ended

_Call = tuple[str, dict[str, Any]]  # the name and the parameters, which are JSON values


class WorkerLost(StokerError):
    """A task whose worker ended each time that it was tried: killed, out of memory, or crashed."""


def run(
    runner: TaskRunner[Any],  # Any: each runner has futures of its own
    task: Task[..., Any],  # Any: whatever the task returns
    calls: Iterable[_Call | None],
    *,
    settings: Settings,
    stopped: Callable[[], bool],
) -> Iterator[tuple[str, object]]:
    """(name, result or exception) of each call, in the order of completion; few are submitted at a time.

    Where ``calls`` gives None, what follows depends on results, and it is asked again when there is one more.
    A call whose worker ended is tried again, the last time alone and after all others: a worker may have had several,
    and not each of them ended it. Then its result is WorkerLost. Once ``stopped()`` is true nothing more is submitted
    or begun; running tasks are awaited, except on a cluster of the user's own. Raises ClusterUnavailable.
    """
    completed: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()
    pending: dict[object, tuple[_Call, PrefectFuture[Any]]] = {}  # by task run
    calls_left = _Calls(calls)
    while True:
        while len(pending) < settings.slots * _SUBMITTED_PER_SLOT and not stopped():
            call = calls_left.next(others_run=bool(pending))
            if call is None:
                break
            with submission(settings):
                future = runner.submit(task, parameters=call[1])
            pending[future.task_run_id] = call, future
            future.add_done_callback(completed.put)
        if stopped():
            pending = {run: entry for run, entry in pending.items() if not _is_called_off(entry[1], settings)}
        if not pending:
            return
        with contextlib.suppress(queue.Empty):
            future = completed.get(timeout=0.5)  # short, so that signals and ``stopped`` are noticed
            if future.task_run_id in pending:
                call, _ = pending.pop(future.task_run_id)
                result = _outcome(future)
                if isinstance(result, BaseException):
                    if (end := cluster_end(settings, result)) is not None:
                        raise end from result
                    if (how := worker_end(result)) and calls_left.put_back(call):
                        continue
                    result = _worker_lost(how) if how else result
                yield call[0], result


class _Calls:
    """The calls that are still to be submitted."""

    def __init__(self, calls: Iterable[_Call | None]) -> None:
        self._new = iter(calls)
        self._again, self._last = deque[_Call](), deque[_Call]()
        self._ended = Counter[str]()  # workers, by the call's name
        self._one_runs_alone = False

    def next(self, *, others_run: bool) -> _Call | None:
        """The next call; None while there is none, or while one runs that is to be alone."""
        if others_run and self._one_runs_alone:
            return None
        self._one_runs_alone = False
        if self._again:
            return self._again.popleft()
        call = next(self._new, None)
        if call is None and self._last and not others_run:
            self._one_runs_alone = True
            call = self._last.popleft()
        return call

    def put_back(self, call: _Call) -> bool:
        """Have a call tried again whose worker ended; False if it was tried often enough."""
        self._ended[call[0]] += 1
        if self._ended[call[0]] >= _MAX_TRIES:
            return False
        (self._last if self._ended[call[0]] == _MAX_TRIES - 1 else self._again).append(call)
        return True


def _worker_lost(how: str) -> WorkerLost:
    return WorkerLost(f"it ended its worker {_MAX_TRIES} times, the last time alone ({how})")


def _is_called_off(future: PrefectFuture[Any], settings: Settings) -> bool:
    """Whether a task has not begun, and now never will, or is one of a cluster that need not be waited for."""
    wrapped = getattr(future, "wrapped_future", None)
    if settings.cluster:
        call_off(settings, wrapped)
        return True
    return isinstance(wrapped, concurrent.futures.Future) and (wrapped.cancelled() or wrapped.cancel())


def _outcome(future: PrefectFuture[Any]) -> object:
    try:
        return future.result()
    except Exception as error:
        return error
