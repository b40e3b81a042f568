"""Per-host state shared by all threads: rate limit, pauses, failures in a row, idle connections.

A host that leaves several URLs in a row without an answer counts as down; for the cool-down that follows, requests to
it fail at once (a circuit breaker).
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from stoker.pipelines.web.http.kept import KeptConnections

MAX_HOSTS = 4096
MAX_KEPT = 64  # hosts with connections that wait for their next request
_CANCEL_POLL_S = 0.2  # how soon a waiting thread sees that it is cancelled


class Cancelled(Exception):
    """The caller no longer wants the answer."""


class WaitTooLong(Exception):
    """The host asked for a pause that is longer than the policy's ``max_wait_s``."""


class Host:
    """The state of one host. The interval between its requests may grow (Crawl-delay), never shrink."""

    def __init__(self, interval_s: float, connections: int) -> None:
        self.lock = threading.Lock()
        self.slots = threading.BoundedSemaphore(connections)
        self.interval_s = interval_s
        self.kept = KeptConnections(connections)
        self._next = 0.0
        self._paused_until = 0.0
        self._cooldown_until = 0.0
        self._failures_in_row = 0  # URLs in a row without an answer
        self._answered = False

    def wait_turn(self, max_wait_s: float, cancel: threading.Event | None) -> None:
        """Wait until the rate limit allows a request. Raises WaitTooLong, Cancelled."""
        while True:
            with self.lock:
                now = time.monotonic()
                if self._paused_until - now > max_wait_s:
                    raise WaitTooLong(f"the host asked for a pause of {self._paused_until - now:.0f} s")
                start = max(self._next, self._paused_until)
                if start <= now:
                    self._next = now + self.interval_s
                    return
            sleep(min(start - now, _CANCEL_POLL_S), cancel)

    def pause(self, seconds: float) -> None:
        """Start no request for ``seconds``, as the host asked by Retry-After. This counts as an answer."""
        with self.lock:
            self._answered = True
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def raise_interval(self, interval_s: float) -> None:
        """Leave at least so long between two requests from now on."""
        with self.lock:
            if interval_s > self.interval_s:
                self.interval_s = interval_s
                self._next = max(self._next, time.monotonic() + interval_s)

    def record_answer(self) -> None:
        """A URL got a response, whatever its status."""
        with self.lock:
            self._failures_in_row, self._answered = 0, True

    def record_failure(self, failures_before_down: int, cooldown_s: float) -> None:
        """A URL got no response after all attempts."""
        with self.lock:
            self._failures_in_row += 1
            if self._failures_in_row >= failures_before_down:
                self._cooldown_until = time.monotonic() + cooldown_s

    def in_cooldown(self) -> bool:
        """Whether it is down and should not be tried yet."""
        with self.lock:
            return time.monotonic() < self._cooldown_until

    def is_down(self, failures_before_down: int, max_wait_s: float) -> bool:
        """Whether it answered once, and then failed for so many URLs in a row or asked for too long a pause."""
        with self.lock:
            failing = self._failures_in_row >= failures_before_down
            return self._answered and (failing or self._paused_until - time.monotonic() > max_wait_s)

    def is_idle(self) -> bool:
        """Whether its state can be dropped without effect: no interval, pause or cool-down is running."""
        with self.lock:
            return time.monotonic() >= max(self._next, self._paused_until, self._cooldown_until)


class Hosts:
    """The hosts by name, at most about ``MAX_HOSTS``: the ones least recently used are dropped."""

    def __init__(self, *, requests_per_second: float, connections_per_host: int, connections: int) -> None:
        self._interval_s = 1 / requests_per_second if requests_per_second > 0 else 0.0
        self._per_host = connections_per_host
        self._slots = threading.BoundedSemaphore(connections)
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, tuple[Host, int]] = OrderedDict()  # with the number of its users
        self._keeping: OrderedDict[Host, None] = OrderedDict()  # the ones that kept connections last

    @contextmanager
    def acquire(self, name: str, cancel: threading.Event | None) -> Iterator[Host]:
        """The host, with one of its connections reserved. Raises Cancelled."""
        host = self._hold(name)
        try:
            with _reserved(host.slots, cancel), _reserved(self._slots, cancel):
                yield host
        finally:
            self._release(name)

    @contextmanager
    def lookup(self, name: str) -> Iterator[Host]:
        """The host, without reserving a connection."""
        host = self._hold(name)
        try:
            yield host
        finally:
            self._release(name)

    def note_kept(self, host: Host) -> None:
        """The host keeps a connection; the one that did longest ago closes its own if there are too many."""
        with self._lock:
            self._keeping[host] = None
            self._keeping.move_to_end(host)
            dropped = self._keeping.popitem(last=False)[0] if len(self._keeping) > MAX_KEPT else None
        if dropped is not None:
            dropped.kept.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            hosts = [host for host, _ in self._hosts.values()]
        for host in hosts:
            host.kept.close()

    def _hold(self, name: str) -> Host:
        """The host, counted as in use; the name moves to the end of the order in which hosts are dropped."""
        dropped: list[Host] = []
        with self._lock:
            known = self._hosts.pop(name) if name in self._hosts else None
            host, users = known or (Host(self._interval_s, self._per_host), 0)
            self._hosts[name] = (host, users + 1)
            if len(self._hosts) > MAX_HOSTS:
                unused = [key for key, (state, users) in self._hosts.items() if not users and state.is_idle()]
                dropped = [self._hosts.pop(key)[0] for key in unused[: MAX_HOSTS // 8]]
        for state in dropped:
            state.kept.close()
        return host

    def _release(self, name: str) -> None:
        with self._lock:
            host, users = self._hosts[name]
            self._hosts[name] = (host, users - 1)


def sleep(seconds: float, cancel: threading.Event | None) -> None:
    """Wait ``seconds``. Raises Cancelled."""
    if cancel is None:
        time.sleep(seconds)
    elif cancel.wait(seconds):
        raise Cancelled


@contextmanager
def _reserved(slots: threading.BoundedSemaphore, cancel: threading.Event | None) -> Iterator[None]:
    while not slots.acquire(timeout=_CANCEL_POLL_S):
        if cancel is not None and cancel.is_set():
            raise Cancelled
    try:
        yield
    finally:
        slots.release()
