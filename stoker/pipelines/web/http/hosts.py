"""What is known of each host, shared by all threads: when the next request may start, on how many connections."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from stoker.pipelines.web.http.wire import Line

MAX_HOSTS = 4096
MAX_IDLE = 64  # open connections that wait for their next request, over all hosts
_GLANCE_S = 0.2  # how soon a waiting thread sees that it is cancelled


class Cancelled(Exception):
    """The caller no longer wants the answer."""


class Waiting(Exception):
    """The host asked to be left alone for longer than we wait."""


class Host:
    """One host's turn-taking, pauses and record of failures. Its interval may grow (Crawl-delay), never shrink."""

    def __init__(self, interval_s: float, connections: int) -> None:
        self.lock = threading.Lock()
        self.slots = threading.BoundedSemaphore(connections)
        self.interval_s = interval_s
        self.idle: dict[str, list[Line]] = {}  # by origin: one host may speak http and https
        self._next = 0.0
        self._paused_until = 0.0
        self._rest_until = 0.0
        self._streak = 0  # URLs in a row without an answer
        self._answered = False

    def turn(self, longest_s: float, cancel: threading.Event | None) -> None:
        """Return when a request may start. Raises Waiting, Cancelled."""
        while True:
            with self.lock:
                now = time.monotonic()
                if self._paused_until - now > longest_s:
                    raise Waiting(f"the host asked to be left alone for {self._paused_until - now:.0f} s more")
                start = max(self._next, self._paused_until)
                if start <= now:
                    self._next = now + self.interval_s
                    return
            sleep(min(start - now, _GLANCE_S), cancel)

    def pause(self, seconds: float) -> None:
        """No request to this host for so long: it said so, and that is an answer."""
        with self.lock:
            self._answered = True
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def slow_down(self, interval_s: float) -> None:
        """At least so long between two requests from now on."""
        with self.lock:
            if interval_s > self.interval_s:
                self.interval_s = interval_s
                self._next = max(self._next, time.monotonic() + interval_s)

    def answered(self) -> None:
        """A URL was answered, whatever the answer."""
        with self.lock:
            self._streak, self._answered = 0, True

    def failed(self, outage: int, rest_s: float) -> None:
        """A URL got no answer after all attempts."""
        with self.lock:
            self._streak += 1
            if self._streak >= outage:
                self._rest_until = time.monotonic() + rest_s

    def rests(self) -> bool:
        """Whether it is down, and not to be tried again yet."""
        with self.lock:
            return time.monotonic() < self._rest_until

    def is_down(self, outage: int, longest_s: float) -> bool:
        """Whether it answered once, and then left ``outage`` URLs in a row without an answer, or sent us away."""
        with self.lock:
            return self._answered and (self._streak >= outage or self._paused_until - time.monotonic() > longest_s)

    def is_idle(self) -> bool:
        """Whether forgetting it changes nothing."""
        with self.lock:
            return time.monotonic() >= max(self._next, self._paused_until, self._rest_until)


class Hosts:
    """All hosts; those not heard of for long are forgotten beyond ``MAX_HOSTS``."""

    def __init__(self, *, requests_per_second: float, connections_per_host: int, connections: int) -> None:
        self._interval_s = 1 / requests_per_second if requests_per_second > 0 else 0.0
        self._per_host = connections_per_host
        self._slots = threading.BoundedSemaphore(connections)
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, tuple[Host, int]] = OrderedDict()  # with the number of its users
        self._idle = 0

    @contextmanager
    def using(self, name: str, cancel: threading.Event | None) -> Iterator[Host]:
        """The host, with one of its connections reserved. Raises Cancelled."""
        host = self._hold(name)
        try:
            with _taken(host.slots, cancel), _taken(self._slots, cancel):
                yield host
        finally:
            self._release(name)

    @contextmanager
    def knowing(self, name: str) -> Iterator[Host]:
        """The host, with nothing reserved."""
        host = self._hold(name)
        try:
            yield host
        finally:
            self._release(name)

    def open_line(self, host: Host, origin: str) -> Line | None:
        """An open connection to the origin that can be used again, if there is one."""
        while True:
            with host.lock:
                lines = host.idle.get(origin)
                line = lines.pop() if lines else None
            if line is None:
                return None
            with self._lock:
                self._idle -= 1
            if line.is_fresh():
                return line
            line.close()

    def keep_line(self, host: Host, origin: str, line: Line) -> None:
        """Keep the connection for the next request to the origin."""
        with self._lock:
            keep = self._idle < MAX_IDLE
            self._idle += keep
        if not keep:
            line.close()
            return
        line.used = time.monotonic()
        with host.lock:
            host.idle.setdefault(origin, []).append(line)

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            held = [host for host, _ in self._hosts.values()]
        for host in held:
            self._close_idle(host)

    def _close_idle(self, host: Host) -> None:
        with host.lock:
            lines = [line for lines in host.idle.values() for line in lines]
            host.idle.clear()
        for line in lines:
            line.close()
        with self._lock:
            self._idle -= len(lines)

    def _hold(self, name: str) -> Host:
        forgotten: list[Host] = []
        with self._lock:
            known = self._hosts.pop(name) if name in self._hosts else None
            host, users = known or (Host(self._interval_s, self._per_host), 0)
            self._hosts[name] = (host, users + 1)
            if len(self._hosts) > MAX_HOSTS:
                old = [one for one, (host_, users) in self._hosts.items() if not users and host_.is_idle()]
                forgotten = [self._hosts.pop(one)[0] for one in old[: MAX_HOSTS // 8]]
        for one in forgotten:
            self._close_idle(one)
        return host

    def _release(self, name: str) -> None:
        with self._lock:
            host, users = self._hosts[name]
            self._hosts[name] = (host, users - 1)


def sleep(seconds: float, cancel: threading.Event | None) -> None:
    """Wait. Raises Cancelled."""
    if cancel is None:
        time.sleep(seconds)
    elif cancel.wait(seconds):
        raise Cancelled


@contextmanager
def _taken(slots: threading.BoundedSemaphore, cancel: threading.Event | None) -> Iterator[None]:
    while not slots.acquire(timeout=_GLANCE_S):
        if cancel is not None and cancel.is_set():
            raise Cancelled
    try:
        yield
    finally:
        slots.release()
