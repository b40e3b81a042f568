"""Map a function over inputs on threads; results come in the inputs' order, with bounded read-ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

TASKS_PER_THREAD = 2  # submitted at most: how far others may run ahead of a slow one at the front
MAX_WAITING = 256 << 20  # bytes of finished results that wait behind a slow one before no more tasks are submitted


def map_in_order(
    function: Callable[[T, Event], R],
    inputs: Iterable[T],
    *,
    threads: int,
    size_of: Callable[[R], int] | None = None,
) -> Iterator[R]:
    """The result of ``function`` for each input, in order; a bounded number of tasks is submitted.

    ``function`` also gets an event that is set when the caller stops iterating: it should then end soon.
    ``size_of`` gives the bytes of a result; without it only the number of tasks is bounded.
    """
    cancel = Event()
    pending: deque[Future[R]] = deque()
    remaining = iter(inputs)
    with ThreadPoolExecutor(threads, thread_name_prefix="stoker-web") as pool:
        try:
            while True:
                free = threads * TASKS_PER_THREAD - len(pending)
                if pending and size_of is not None and sum(_size(future, size_of) for future in pending) > MAX_WAITING:
                    free = 0
                pending.extend(pool.submit(function, value, cancel) for value in islice(remaining, free))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            cancel.set()
            for future in pending:
                future.cancel()


def _size(future: "Future[R]", size_of: Callable[[R], int]) -> int:
    """The bytes of a finished result; 0 while it is not finished."""
    return size_of(future.result()) if future.done() and not future.cancelled() and not future.exception() else 0
