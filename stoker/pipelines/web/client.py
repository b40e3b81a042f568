"""The client behind a ``Web`` policy: attempts, redirects and robots.txt, one URL at a time in each thread."""

import atexit
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stoker import __version__
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web import robots
from stoker.pipelines.web.http.addresses import Addresses
from stoker.pipelines.web.http.exchange import Errand, Exchanges, Fault, Moved
from stoker.pipelines.web.http.hosts import Cancelled, Hosts, sleep
from stoker.pipelines.web.http.sinks import File, Memory, Sink
from stoker.pipelines.web.http.wire import Deadline
from stoker.pipelines.web.links import host_of, normalise, shown
from stoker.pipelines.web.policy import Fetched, Transient, WebPolicy
from stoker.pipelines.web.robots import Permission, Robots

MAX_BACKOFF_S = 30.0
PROGRESS = 1 << 20  # bytes; a download that came so much further has its attempts anew


class Client:
    """Shared by all threads of a process that use equal policies."""

    def __init__(self, web: WebPolicy) -> None:
        agent = f"stoker/{__version__}" + (f" (+{_plain(web.contact)})" if web.contact else "")
        self._web = web
        self._addresses = Addresses(allow_private=web.allow_private)
        self._hosts = Hosts(
            requests_per_second=web.requests_per_second,
            connections_per_host=web.connections_per_host,
            connections=web.connections,
        )
        self._exchanges = Exchanges(web, self._hosts, self._addresses, agent)
        self._robots = Robots(self._fetch_robots)

    def get(self, url: str, *, max_size: int, accept: str, cancel: threading.Event | None) -> Fetched | Rejected:
        """See Web."""
        return self._fetch(url, Memory(max_size), accept, cancel)

    def download(
        self, url: str, path: Path, *, max_size: int, accept: str, cancel: threading.Event | None
    ) -> Fetched | Rejected:
        """See Web."""
        return self._fetch(url, File(path, max_size), accept, cancel)

    def is_down(self, url: str) -> bool:
        """See Web."""
        try:
            name = host_of(normalise(url))
        except ValueError:
            return False
        with self._hosts.knowing(name) as host:
            return host.is_down(self._web.outage, self._web.max_wait_s)

    def close(self) -> None:
        """Close idle connections and end the resolver threads."""
        self._hosts.close()
        self._addresses.close()

    def _fetch(self, written: str, sink: Sink, accept: str, cancel: threading.Event | None) -> Fetched | Rejected:
        kept = False
        try:
            try:
                url = normalise(written)
            except ValueError as error:
                return Rejected("bad_url", f"{error}: {shown(written)[:200]}")
            outcome = self._attempts(Errand(url, sink, accept, self._deadline(), cancel))
            kept = isinstance(outcome, Fetched)
            return outcome
        except Cancelled:
            return Transient("unreachable", "no longer wanted")
        finally:
            sink.close(keep=kept)

    def _deadline(self) -> Deadline:
        return Deadline(self._web.deadline_s, self._web.timeout_s)

    def _attempts(self, errand: Errand) -> Fetched | Rejected:
        """Attempts until there is an answer; only faults of the server or the network are tried again."""
        attempt = 0
        while True:
            attempt += 1
            before = errand.sink.size
            outcome = self._follow(errand)
            if not isinstance(outcome, Fault):
                return outcome
            if errand.sink.size >= before + PROGRESS:
                attempt = 1
            if outcome.wait_s > self._web.max_wait_s or attempt >= self._web.attempts or not outcome.again:
                self._note(outcome)
                tries = f" ({attempt} attempts)" if attempt > 1 else ""
                return Transient(outcome.reason, f"{outcome.detail}{tries}")
            backoff = min(MAX_BACKOFF_S, self._web.backoff_s * 2 ** (attempt - 1))
            backoff *= random.uniform(0.5, 1.5)  # noqa: S311  # spreads the load; nothing to guess
            began = time.monotonic()
            sleep(max(outcome.wait_s, backoff), errand.cancel)
            errand.deadline.extend(time.monotonic() - began)

    def _note(self, fault: Fault) -> None:
        if fault.silent:
            with self._hosts.knowing(fault.host) as host:
                host.failed(self._web.outage, self._web.rest_s)

    def _follow(self, errand: Errand) -> Fetched | Rejected | Fault:
        """One attempt: the request and its redirects, each checked like a URL of its own."""
        current = errand.url
        for _ in range(self._web.max_redirects + 1):
            began = time.monotonic()
            permission = Permission()
            if self._web.robots and not errand.asks_robots:
                permission = self._robots.permission(current, errand.cancel)
                errand.deadline.extend(time.monotonic() - began)
            refused = permission.refused
            if isinstance(refused, Transient):
                return Fault(refused.reason, refused.detail, host_of(current), again=False, silent=False)
            if refused is not None:
                return refused
            outcome = self._exchanges.hop(errand, current, permission.delay_s)
            if not isinstance(outcome, Moved):
                return outcome
            try:
                current = normalise(outcome.to, current)
            except ValueError as error:
                return Rejected("redirects", f"to no http(s) URL: {error}")
        return Rejected("redirects", f"more than {self._web.max_redirects}, the last to {current}")

    def _fetch_robots(self, url: str, cancel: threading.Event | None) -> bytes | Rejected | None:
        """See robots.Fetch."""
        sink = Memory(robots.MAX_SIZE)
        outcome = self._attempts(Errand(url, sink, "text/plain, */*;q=0.5", self._deadline(), cancel, asks_robots=True))
        if isinstance(outcome, Fetched):
            return outcome.content
        if outcome.reason in ("gone", "forbidden", "empty", "redirects"):
            return None
        if isinstance(outcome, Transient):
            return Transient(outcome.reason, f"robots.txt: {outcome.detail}; nothing may be fetched for now")
        reason = "robots" if outcome.reason == "too_large" else outcome.reason
        return Rejected(reason, f"robots.txt: {outcome.detail}")


def _plain(text: str) -> str:
    """Fit for a header line."""
    return "".join(char for char in text if char.isascii() and char.isprintable() and char not in "()")[:200]


_CLIENTS: dict[WebPolicy, Client] = {}
_LOCK = threading.Lock()


def client(web: WebPolicy) -> Client:
    """The process's client for a policy."""
    with _LOCK:
        if web not in _CLIENTS:
            _CLIENTS[web] = Client(web)
        return _CLIENTS[web]


def forget(web: WebPolicy) -> None:
    """Close the policy's client, if it was ever used."""
    with _LOCK:
        found = _CLIENTS.pop(web, None)
    if found is not None:
        found.close()


def _forked() -> None:
    """A forked child shares no connection and no lock with its parent."""
    global _LOCK
    _LOCK = threading.Lock()
    _CLIENTS.clear()


os.register_at_fork(after_in_child=_forked)


@atexit.register
def _forget_all() -> None:
    for web in list(_CLIENTS):
        forget(web)


@dataclass(frozen=True)
class Web(WebPolicy):
    """The web, asked by a policy. Holds settings only: picklable; opens nothing before the first request.

    Equal policies in one process share their rates, connections, robots.txt and DNS answers, over all threads.
    """

    def get(
        self, url: str, *, max_size: int, accept: str = "*/*", cancel: threading.Event | None = None
    ) -> Fetched | Rejected:
        """The answer to a GET, at most ``max_size`` bytes (also when unpacked). Never raises for what one URL does."""
        return client(self).get(url, max_size=max_size, accept=accept, cancel=cancel)

    def download(
        self, url: str, path: Path, *, max_size: int, accept: str = "*/*", cancel: threading.Event | None = None
    ) -> Fetched | Rejected:
        """The same to a file; what was cut is resumed where the server can. No file is left after a reject."""
        return client(self).download(url, path, max_size=max_size, accept=accept, cancel=cancel)

    def is_down(self, url: str) -> bool:
        """Whether the URL's host answered before and now leaves many URLs in a row without an answer."""
        return client(self).is_down(url)

    def close(self) -> None:
        """Close idle connections and forget what is known of hosts; the next request begins afresh."""
        forget(self)
