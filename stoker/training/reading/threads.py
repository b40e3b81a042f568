"""Threads that work ahead, end promptly, and keep no process alive."""

import os
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Thread, current_thread
from typing import Any, Protocol

_END_S = 5.0  # that the process waits at its exit for what the threads are at
_Wish = tuple[Future[Any], Callable[[], Any]]  # Any: what the call gives


class Forked(Protocol):
    """What holds locks, threads or open files."""

    def begin_anew(self) -> None:
        """In a process that was forked they are those of the other process: have others."""


_forked: "weakref.WeakSet[Forked]" = weakref.WeakSet()


def after_fork(one: Forked) -> None:
    """Let it begin anew in every process that will be forked from this one."""
    _forked.add(one)


def _begin_anew() -> None:
    for one in list(_forked):
        one.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)


class Threads:
    """A pool that works off calls in their order.

    Not ThreadPoolExecutor: at the exit of the process that works off all that is queued, and waits for it without
    bound. Here what has not begun is dropped, when the pool is closed, when nobody holds it any more, and at the exit.
    """

    def __init__(self, count: int, name: str) -> None:
        self._queue: SimpleQueue[_Wish | None] = SimpleQueue()
        closed = Event()
        threads = [
            Thread(target=_work, args=(self._queue, closed), name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        # They do not hold the pool, so it is closed when the last who uses it lets go of it, and before the exit.
        self._closing = (self._queue, closed, threads)
        weakref.finalize(self, _end, *self._closing, _END_S)

    @property
    def alive(self) -> bool:
        """Whether any of the threads has not ended."""
        return any(thread.is_alive() for thread in self._closing[2])

    def call(self, wished: Callable[[], Any]) -> Future[Any]:  # Any: what the call gives
        """What it gives or raises, when a thread got to it; cancelled if the pool is closed before."""
        coming: Future[Any] = Future()
        queue, closed, _ = self._closing
        queue.put((coming, wished))
        if closed.is_set():
            coming.cancel()  # behind what ends the threads, none would get to it
        return coming

    def close(self, wait_s: float = _END_S) -> None:
        """Begin nothing more; wait so long for what has begun."""
        _end(*self._closing, wait_s)


def _work(queue: "SimpleQueue[_Wish | None]", closed: Event) -> None:
    while (wish := queue.get()) is not None:
        coming, wished = wish
        if closed.is_set():
            coming.cancel()
        elif coming.set_running_or_notify_cancel():
            try:
                made = wished()
            except BaseException as error:  # noqa: BLE001  # raised by result(), in the loop
                coming.set_exception(error)
            else:
                coming.set_result(made)
                del made
        del wish, coming, wished  # or an idle thread would hold a batch, and its memory


def _end(queue: "SimpleQueue[_Wish | None]", closed: Event, threads: Sequence[Thread], wait_s: float) -> None:
    closed.set()
    for _ in threads:
        queue.put(None)
    until = time.monotonic() + wait_s
    for thread in threads:
        if thread is not current_thread():
            thread.join(max(0.0, until - time.monotonic()))
