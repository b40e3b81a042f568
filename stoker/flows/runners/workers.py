"""Worker processes of this machine, each replaced when it ends in the middle of a task.

Every worker is served by one thread here, which sends it a task and waits for the result or for its end. So it is known
which task a worker that was killed was at, and no other task is lost with it; an executor of the standard library gives
up all of them. Price: a thread that waits for each worker, and no task is sent ahead.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnContext
from multiprocessing.reduction import ForkingPickler
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MESSAGE, _RESULT, _ERROR = "message", "result", "error"  # what comes from a worker
_LOOK_S = 1.0  # between looks whether a silent worker is alive
_END_S = 3.0  # from the end of its input to a worker's end; then it is killed


class WorkerDied(Exception):
    """A worker process ended in the middle of a task. The text says how."""


class Workers(Executor):
    """An executor on ``count`` processes, begun when there is work for them.

    ``initializer`` is called in each, with an object whose ``put`` sends a message here, to ``receive``. A future
    raises WorkerDied when its process ended; the next task gets a new one.
    """

    def __init__(
        self, count: int, initializer: Callable[["Outbox"], None], receive: Callable[[object], object]
    ) -> None:
        hide_leftovers()
        # What it starts with its first process would unblock signals in the thread that does so.
        resource_tracker.ensure_running()
        self._initializer, self._receive = initializer, receive
        self._context = multiprocessing.get_context("spawn")
        self._own = threading.local()  # .worker: that of the thread
        self._all: list[_Worker] = []
        self._threads = ThreadPoolExecutor(count, "stoker-worker", _block_signals)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # Any: as in Executor
        """Have a call done in a process."""
        return self._threads.submit(self._call, functools.partial(fn, *args, **kwargs))

    def _call(self, work: Callable[[], Any]) -> Any:  # Any: as in Executor
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None or not worker.process.is_alive():
            worker = self._own.worker = _Worker(self._context, self._initializer, self._receive)
            self._all.append(worker)
        return worker.call(work)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes when their tasks are done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for worker in self._all:
                worker.pipe.close()
            for worker in self._all:
                worker.end()


class _Worker:
    """A process and the pipe to it."""

    def __init__(
        self, context: SpawnContext, initializer: Callable[["Outbox"], None], receive: Callable[[object], object]
    ) -> None:
        self._receive = receive
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(end, initializer))
        self.process.start()
        end.close()

    def call(self, work: Callable[[], Any]) -> Any:  # Any: as in Executor
        """The result of a call in the process, or its exception. Raises WorkerDied."""
        try:
            self.pipe.send(work)
            while True:
                # A process that it forked may hold its end of the pipe open, which then says nothing of its end.
                while not self.pipe.poll(_LOOK_S):
                    if not self.process.is_alive() and not self.pipe.poll():
                        raise EOFError
                kind, content = self.pipe.recv()
                if kind != _MESSAGE:
                    break
                self._receive(content)
        except (EOFError, OSError):  # OSError: it ended in the middle of a message
            self.end()  # its pipe is of no more use, though it may live
            raise WorkerDied(_how(self.process.exitcode)) from None
        if kind == _RESULT:
            return content
        raise content

    def end(self) -> None:
        """Close the pipe and wait for the process; kill it when it takes too long."""
        self.pipe.close()
        self.process.join(_END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _how(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"
    return f"signal {-exit_code}, {name}{', as when memory runs out' if -exit_code == signal.SIGKILL else ''}"


def _block_signals() -> None:
    """In a thread that starts processes: they inherit the mask, so no signal meets one that is still importing."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


class Outbox:
    """In a worker process: sends the parent messages beside results, from any thread."""

    def __init__(self, pipe: "connection.Connection") -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def put(self, message: object) -> None:
        """Send a message; it gets lost when the parent is gone."""
        with contextlib.suppress(OSError):
            self.send(_MESSAGE, message)

    put_nowait = put

    def send(self, kind: str, content: object) -> None:
        """Send a message or a result."""
        payload = ForkingPickler.dumps((kind, content))  # first: what cannot be pickled must leave nothing in the pipe
        with self._lock:
            self._pipe.send_bytes(payload)


def _serve(pipe: "connection.Connection", initializer: Callable[[Outbox], None]) -> None:
    """In a worker process: do what comes, until the pipe is closed."""
    obey_parent()
    outbox = Outbox(pipe)
    initializer(outbox)
    while True:
        try:
            outcome: tuple[str, object] = _RESULT, pipe.recv()()
        except (EOFError, ConnectionResetError):
            return
        except BaseException as error:  # the parent raises it
            outcome = _ERROR, error
        try:
            outbox.send(*outcome)
        except OSError:  # the parent is gone
            return
        except Exception as error:  # it cannot be pickled
            outbox.send(_ERROR, RuntimeError(f"{outcome[1]!r:.300}: cannot be sent from a worker: {error}"))


def obey_parent() -> None:
    """In a worker process: leave signals to the parent, which asks the tasks to stop, and end when it is gone."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@functools.cache
def hide_leftovers() -> None:
    """A run that had to be cut off leaves semaphores, and the process that removes them tells the terminal of it."""
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
