"""``Web``: fetch a URL under a policy, with attempts, redirects and robots.txt.

``Web`` holds settings only; equal policies in a process share one ``Client``, which holds connections and caches.
"""

import atexit
import logging
import os
import random
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web import robots
from stoker.pipelines.web.http.addresses import Resolver
from stoker.pipelines.web.http.allowed import AllowedPrivate
from stoker.pipelines.web.http.allowed import normalise as normalise_allowed
from stoker.pipelines.web.http.exchange import FetchFailure, FetchRequest, Redirect, RequestSender, Unconfirmed
from stoker.pipelines.web.http.faults import NotWritten
from stoker.pipelines.web.http.hosts import Cancelled, Hosts, sleep
from stoker.pipelines.web.http.sinks import Ended, FileSink, MemorySink, NoSink, Sink
from stoker.pipelines.web.http.wire import Deadline
from stoker.pipelines.web.links import host_of, normalise, redact
from stoker.pipelines.web.policy import EarlierResponse, Fetched, Transient, Unchanged, WebPolicy
from stoker.pipelines.web.robots import Permission, Robots
from stoker.pipelines.web.validators import validators_of
from stoker.release import __version__

_log = logging.getLogger(__name__)

MAX_BACKOFF_S = 30.0
PROGRESS = 1 << 20  # bytes; a download that received so many more starts again with its first attempt


class Client:
    """The state behind a policy, shared by all threads of a process: hosts, connections, DNS and robots.txt caches."""

    def __init__(self, web: WebPolicy) -> None:
        user_agent = f"stoker/{__version__}" + (f" (+{_header_text(web.contact)})" if web.contact else "")
        self._web = web
        self._resolver = Resolver(AllowedPrivate(str(web.allow_private)))
        self._hosts = Hosts(
            requests_per_second=web.requests_per_second,
            connections_per_host=web.connections_per_host,
            connections=web.connections,
        )
        self._sender = RequestSender(web, self._hosts, self._resolver, user_agent)
        self._robots = Robots(self._fetch_robots, max_delay_s=web.max_wait_s)

    def get(self, url: str, *, max_size: int, accept: str, cancel: threading.Event | None) -> Fetched | Rejected:
        """See Web."""
        return _as_fetched(self._fetch(url, MemorySink(max_size), accept, cancel))

    def get_if_changed(
        self, url: str, earlier: EarlierResponse, *, max_size: int, accept: str, cancel: threading.Event | None
    ) -> Fetched | Unchanged | Rejected:
        """See Web."""
        answer = self._fetch(url, MemorySink(max_size), accept, cancel, earlier)
        if isinstance(answer, Fetched) and answer.sha256 == earlier.sha256:
            # Validators of another URL say nothing to the one that is asked by them the next time.
            validators = answer.validators if answer.final_url == earlier.url else earlier.validators
            return Unchanged(validators, answer.final_url, answer.sha256, answer.size, answer.fetched_at)
        return answer

    def has_changed(self, url: str, earlier: EarlierResponse, *, size: int | None, accept: str) -> bool | Rejected:
        """See Web."""
        sink = NoSink()
        answer = self._fetch(url, sink, accept, None, earlier)
        if sink.response is None:
            return answer if isinstance(answer, Rejected) else False
        now = validators_of(sink.response.headers, self._web.now())
        if earlier.validators and now:
            return now != earlier.validators
        return size is None or sink.response.headers.get("content-length", "") != str(size)

    def download(
        self, url: str, path: Path, *, max_size: int, accept: str, cancel: threading.Event | None, outlasts: bool
    ) -> Fetched | Rejected:
        """See Web."""
        sink = FileSink(path, max_size, bytes_per_second=self._web.bytes_per_second, outlasts=outlasts)
        return _as_fetched(self._fetch(url, sink, accept, cancel))

    def is_down(self, url: str) -> bool:
        """See Web."""
        try:
            name = host_of(normalise(url))
        except ValueError:
            return False
        with self._hosts.lookup(name) as host:
            return host.is_down(self._web.failures_before_down, self._web.max_wait_s)

    def robots_digest(self, url: str) -> str:
        """See Web."""
        return self._robots.digest(url) if self._web.robots else "none"

    def close(self) -> None:
        """Close idle connections and end the DNS threads."""
        self._hosts.close()
        self._resolver.close()

    def _fetch(
        self, text: str, sink: Sink, accept: str, cancel: threading.Event | None, earlier: EarlierResponse | None = None
    ) -> Fetched | Unchanged | Rejected:
        """Normalise the text to a URL, fetch it, close the sink."""
        ended = Ended.BROKEN_OFF
        try:
            try:
                url = normalise(text)
            except ValueError as error:
                ended = Ended.REFUSED
                return Rejected("bad_url", f"{error}: {redact(text)[:200]}")
            request = FetchRequest(url, sink, accept, self._deadline(), cancel, earlier=earlier)
            outcome = self._attempt_until_answered(request)
            if not isinstance(outcome, Transient):
                ended = Ended.WHOLE if isinstance(outcome, Fetched) else Ended.REFUSED
            return outcome
        except Cancelled:
            return Transient("unreachable", "no longer wanted")
        except NotWritten as error:
            raise error.error from error
        finally:
            sink.close(ended)

    def _deadline(self) -> Deadline:
        return Deadline(self._web.deadline_s, self._web.timeout_s)

    def _attempt_until_answered(self, request: FetchRequest) -> Fetched | Unchanged | Rejected:
        """Attempts with exponential backoff until there is an answer; only retryable failures are tried again."""
        attempt = 0
        most, begun = request.sink.size, request.sink.begun
        while True:
            outcome = self._attempt(request)
            if not isinstance(outcome, FetchFailure):
                return outcome
            if outcome.goes_on:  # at least a byte came, and there is time for each by its bytes alone
                continue
            attempt += 1
            size = request.sink.size
            if request.sink.begun > begun:  # what comes again is no progress; what follows it is, but not for ever
                most, begun = size, request.sink.begun
            elif size >= most + PROGRESS and begun <= self._web.attempts:
                attempt, most = 1, size
            if outcome.wait_s > self._web.max_wait_s or attempt >= self._web.attempts or not outcome.retryable:
                self._record_failure(outcome)
                attempts = f" ({attempt} attempts)" if attempt > 1 else ""
                return Transient(outcome.reason, f"{outcome.detail}{attempts}")
            backoff_s = min(MAX_BACKOFF_S, self._web.backoff_s * 2 ** (attempt - 1))
            backoff_s *= random.uniform(0.5, 1.5)  # noqa: S311  # jitter spreads the load; nothing to guess
            wait_s = max(outcome.wait_s, backoff_s)
            _log.info(
                "%s: %s; attempt %d of %d in %.1f s",
                request.url,
                outcome.detail or outcome.reason,
                attempt + 1,
                self._web.attempts,
                wait_s,
                extra={"url": request.url, "reason": outcome.reason, "attempt": attempt + 1, "wait_s": wait_s},
            )
            began = time.monotonic()
            sleep(wait_s, request.cancel)
            request.deadline.extend(time.monotonic() - began)

    def _record_failure(self, failure: FetchFailure) -> None:
        if failure.counts_as_outage:
            with self._hosts.lookup(failure.host) as host:
                host.record_failure(self._web.failures_before_down, self._web.cooldown_s)

    def _attempt(self, request: FetchRequest) -> Fetched | Unchanged | Rejected | FetchFailure:
        """One attempt: the URL and its redirects, each checked against robots.txt and for a valid URL."""
        url = request.url
        for _ in range(self._web.max_redirects + 1):
            began = time.monotonic()
            permission = Permission()
            if self._web.robots and not request.is_robots_txt:
                permission = self._robots.permission(url, request.cancel)
                request.deadline.extend(time.monotonic() - began)
            rejected = permission.rejected
            if isinstance(rejected, Transient):
                host = host_of(url)
                return FetchFailure(rejected.reason, rejected.detail, host, retryable=False, counts_as_outage=False)
            if rejected is not None:
                return rejected
            outcome = self._sender.send(request, url, permission.crawl_delay_s)
            if isinstance(outcome, Unconfirmed):
                request = replace(request, earlier=None)  # asked anew, for the whole body
                continue
            if not isinstance(outcome, Redirect):
                return outcome
            try:
                url = normalise(outcome.location, url)
            except ValueError as error:
                return Rejected("redirects", f"to no http(s) URL: {error}")
        return Rejected("redirects", f"more than {self._web.max_redirects}, the last to {url}")

    def _fetch_robots(self, url: str, cancel: threading.Event | None) -> bytes | Rejected | None:
        """See robots.FetchRobots."""
        accept = "text/plain, */*;q=0.5"
        request = FetchRequest(url, MemorySink(robots.MAX_SIZE), accept, self._deadline(), cancel, is_robots_txt=True)
        outcome = _as_fetched(self._attempt_until_answered(request))
        if isinstance(outcome, Fetched):
            return outcome.content
        if outcome.reason in ("gone", "forbidden", "empty", "redirects"):
            return None
        if isinstance(outcome, Transient):
            return Transient(outcome.reason, f"robots.txt: {outcome.detail}; nothing may be fetched for now")
        reason = "robots" if outcome.reason == "too_large" else outcome.reason
        return Rejected(reason, f"robots.txt: {outcome.detail}")


def _as_fetched(outcome: Fetched | Unchanged | Rejected) -> Fetched | Rejected:
    """The outcome of a request that named no earlier response."""
    assert not isinstance(outcome, Unchanged)
    return outcome


def _header_text(text: str) -> str:
    """The characters that a comment in a header may hold, at most 200."""
    return "".join(char for char in text if char.isascii() and char.isprintable() and char not in "()")[:200]


_CLIENTS: dict[WebPolicy, Client] = {}
_LOCK = threading.Lock()


def client(web: WebPolicy) -> Client:
    """The process's client for a policy."""
    with _LOCK:
        if web not in _CLIENTS:
            _CLIENTS[web] = Client(web)
        return _CLIENTS[web]


def close_client(web: WebPolicy) -> None:
    """Close and remove the policy's client, if there is one."""
    with _LOCK:
        removed = _CLIENTS.pop(web, None)
    if removed is not None:
        removed.close()


def _reset_after_fork() -> None:
    """Start a forked child without the connections and locks of its parent."""
    global _LOCK
    _LOCK = threading.Lock()
    _CLIENTS.clear()


os.register_at_fork(after_in_child=_reset_after_fork)


@atexit.register
def _close_all() -> None:
    for web in list(_CLIENTS):
        close_client(web)


@dataclass(frozen=True)
class Web(WebPolicy):
    """Fetches URLs under a policy. Holds settings only: picklable; opens nothing before the first request.

    Equal policies in one process share rates, connections, robots.txt and DNS answers between all threads.

    Raises ValueError for values that cannot work.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "allow_private", normalise_allowed(self.allow_private))

    def get(
        self, url: str, *, max_size: int, accept: str = "*/*", cancel: threading.Event | None = None
    ) -> Fetched | Rejected:
        """The response to a GET, at most ``max_size`` bytes (also decompressed). Never raises for what one URL does."""
        return client(self).get(url, max_size=max_size, accept=accept, cancel=cancel)

    def get_if_changed(
        self,
        url: str,
        earlier: EarlierResponse,
        *,
        max_size: int,
        accept: str = "*/*",
        cancel: threading.Event | None = None,
    ) -> Fetched | Unchanged | Rejected:
        """``get`` of what was fetched before: ``Unchanged`` where the server says so, or sends the same bytes."""
        return client(self).get_if_changed(url, earlier, max_size=max_size, accept=accept, cancel=cancel)

    def has_changed(
        self, url: str, earlier: EarlierResponse, *, size: int | None = None, accept: str = "*/*"
    ) -> bool | Rejected:
        """Whether a URL has another body than before, in one request and without the body.

        Told by ETag and Last-Modified, else by the length: where there is none or none was known, it has changed.
        """
        return client(self).has_changed(url, earlier, size=size, accept=accept)

    def download(
        self,
        url: str,
        path: Path,
        *,
        max_size: int,
        accept: str = "*/*",
        cancel: threading.Event | None = None,
        outlasts: bool = False,
    ) -> Fetched | Rejected:
        """``get`` into a file; a broken transfer is resumed if the server can. No file is left after a reject.

        ``outlasts``: what did not come to its end stays, and the next download to the same path goes on there, if the
        server still has the same. See ``downloads.claim``. Raises OSError if the file cannot be written.
        """
        return client(self).download(url, path, max_size=max_size, accept=accept, cancel=cancel, outlasts=outlasts)

    def is_down(self, url: str) -> bool:
        """Whether the URL's host answered before, and now fails for many URLs in a row."""
        return client(self).is_down(url)

    def robots_digest(self, url: str) -> str:
        """A digest of the robots.txt of a URL's origin, "none" if there is none; "" if that cannot be known now."""
        return client(self).robots_digest(url)

    def close(self) -> None:
        """Close idle connections and drop what is known of hosts; the next request starts anew."""
        close_client(self)
