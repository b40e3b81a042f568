"""Many at once, results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # times the threads: how far a slow one at the front lets the others run on
BUDGET = 256 << 20  # of weight (bytes) that waits behind a slow one before no more are begun


def in_order(
    work: Callable[[T, Event], R], subjects: Iterable[T], *, threads: int, weigh: Callable[[R], int] | None = None
) -> Iterator[R]:
    """What ``work`` makes of each subject, in their order, made on threads; a bounded number is under way.

    ``work`` is also given an event that is set when the caller has gone: it should then end soon.
    """
    cancel = Event()
    pending: deque[Future[R]] = deque()
    rest = iter(subjects)
    with ThreadPoolExecutor(threads, thread_name_prefix="stoker-web") as pool:
        try:
            while True:
                room = threads * AHEAD - len(pending)
                if pending and weigh is not None and sum(_weight(one, weigh) for one in pending) > BUDGET:
                    room = 0
                pending.extend(pool.submit(work, one, cancel) for one in islice(rest, room))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            cancel.set()
            for one in pending:
                one.cancel()


def _weight(future: "Future[R]", weigh: Callable[[R], int]) -> int:
    return weigh(future.result()) if future.done() and not future.cancelled() and not future.exception() else 0
