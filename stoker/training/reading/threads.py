"""Thread pools that end promptly, and objects that survive a fork: neither keeps a process alive or hangs it."""

import os
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Lock, Thread, current_thread
from typing import Any, Protocol

END_S = 5.0  # that the exit of the process waits for tasks that are running
_Task = tuple[Future[Any], Callable[[], Any]]  # Any: the result


class ForkAware(Protocol):
    """An object with locks, threads or open files."""

    def reset_after_fork(self) -> None:
        """Replace them: in a forked process they belong to the parent."""


_fork_aware: "weakref.WeakSet[ForkAware]" = weakref.WeakSet()


def register_fork_reset(resource: ForkAware) -> None:
    """Call its ``reset_after_fork`` in every process that is forked from this one."""
    _fork_aware.add(resource)


def _reset_all() -> None:
    for resource in list(_fork_aware):
        resource.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all)


class ThreadPool:
    """``count`` daemon threads that run tasks in the order in which they were submitted; started with the first one.

    Not ThreadPoolExecutor: at the exit of the process that runs everything that is queued, and waits for it without
    bound. Here tasks that have not begun are cancelled: when the pool is closed, when nobody refers to it any more, and
    at the exit.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._closed = Event()
        self._threads: list[Thread] = []
        self._lock = Lock()  # of starting and closing

    @property
    def alive(self) -> bool:
        """Whether any of the threads has not ended."""
        return any(thread.is_alive() for thread in self._threads)

    def submit(self, task: Callable[[], Any]) -> Future[Any]:  # Any: the result
        """The future of a task's result; cancelled if the pool is closed before the task began."""
        if not self._threads:
            self._start()
        future: Future[Any] = Future()
        self._queue.put((future, task))
        if self._closed.is_set():
            future.cancel()  # it may be queued behind the end marks, where no thread would get to it
        return future

    def close(self, wait_s: float = END_S) -> None:
        """Begin no other task; wait at most so long for the running ones."""
        with self._lock:
            self._closed.set()
        _end(self._queue, self._closed, self._threads, wait_s)

    def _start(self) -> None:
        with self._lock:
            if self._threads or self._closed.is_set():
                return
            threads = [
                Thread(target=_work, args=(self._queue, self._closed), name=f"{self._name}-{number}", daemon=True)
                for number in range(self._count)
            ]
            for thread in threads:
                thread.start()
            self._threads = threads
            # The threads do not refer to the pool, so it is closed when its last user lets go of it, and at the exit.
            # Registered here, not in the constructor: at the exit the pool that was started last is ended first.
            weakref.finalize(self, _end, self._queue, self._closed, threads, END_S)


def _work(queue: "SimpleQueue[_Task | None]", closed: Event) -> None:
    while (entry := queue.get()) is not None:
        future, task = entry
        if closed.is_set():
            future.cancel()
        elif future.set_running_or_notify_cancel():
            try:
                result = task()
            except BaseException as error:  # noqa: BLE001  # raised by result(), in the loop
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
        del entry, future, task  # or an idle thread would hold a batch, and its memory


def _end(queue: "SimpleQueue[_Task | None]", closed: Event, threads: Sequence[Thread], wait_s: float) -> None:
    closed.set()
    for _ in threads:
        queue.put(None)
    until = time.monotonic() + wait_s
    for thread in threads:
        if thread is not current_thread():
            thread.join(max(0.0, until - time.monotonic()))
