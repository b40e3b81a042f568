"""Send one request to one host, within its rate limit, and classify the response.

The outcome of a request is a value: ``Fetched``, ``Unchanged``, ``Rejected`` (final), ``FetchFailure`` (another attempt
may help), ``Redirect`` or ``Unconfirmed``. ``client`` decides about attempts and follows redirects.
"""

import email.utils
import re
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from stoker.pipelines.rejected import OutcomeClass, Rejected
from stoker.pipelines.web import opt_out
from stoker.pipelines.web.http.addresses import NoSuchHost, PrivateAddress, Resolver
from stoker.pipelines.web.http.codings import decode_content
from stoker.pipelines.web.http.faults import (
    BodyTooLarge,
    DeadlineExceeded,
    IncompleteResponse,
    PartEnded,
    ProtocolError,
)
from stoker.pipelines.web.http.hosts import Cancelled, Host, Hosts, WaitTooLong
from stoker.pipelines.web.http.kept import stays_silent
from stoker.pipelines.web.http.response import Response
from stoker.pipelines.web.http.sinks import Sink
from stoker.pipelines.web.http.wire import Connection, Deadline, connect, send_get
from stoker.pipelines.web.links import host_of, origin_of
from stoker.pipelines.web.policy import EarlierResponse, Fetched, Unchanged, WebPolicy
from stoker.pipelines.web.validators import validators_of
from stoker.storage.clock import timestamp

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
OVERLOAD_STATUSES = frozenset({429, 502, 503, 504})  # the server, not the page, is in trouble
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+", re.ASCII)
MAX_DRAINED = 1 << 14  # bytes of an unwanted body that are read so that the connection can be kept
MAX_DRAIN_S = 0.1  # for all of them: a new connection costs less than to wait for more


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A URL to fetch, with its limits; the same for all attempts and redirects."""

    url: str  # in normal form
    sink: Sink
    accept: str
    deadline: Deadline
    cancel: threading.Event | None
    is_robots_txt: bool = False  # it fetches robots.txt itself: needs no permission, cannot be opted out
    earlier: EarlierResponse | None = None  # a body is wanted only if it is another one


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """An attempt that ended without a usable response."""

    reason: str
    detail: str
    host: str
    retryable: bool = True  # another attempt now may help
    counts_as_outage: bool = True  # the host itself is in trouble: counts towards failures_before_down
    wait_s: float = 0.0  # Retry-After
    goes_on: bool = False  # nothing failed: the rest is to be asked for


@dataclass(frozen=True, slots=True)
class Redirect:
    """A redirect; its target is not checked yet."""

    location: str


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An answer "not modified" that is about something else than what was asked for."""


Outcome = Fetched | Unchanged | Rejected | FetchFailure | Redirect | Unconfirmed


class RequestSender:
    """Sends requests under one policy, for all threads."""

    def __init__(self, web: WebPolicy, hosts: Hosts, resolver: Resolver, user_agent: str) -> None:
        self._web, self._hosts, self._resolver, self._user_agent = web, hosts, resolver, user_agent

    def send(self, request: FetchRequest, url: str, crawl_delay_s: float) -> Outcome:
        """The outcome of one GET of ``url``: the request's URL, or where it was redirected. Raises Cancelled."""
        began = time.monotonic()
        name = host_of(url)
        with self._hosts.acquire(name, request.cancel) as host:
            if crawl_delay_s:
                host.raise_interval(min(crawl_delay_s, self._web.max_wait_s))
            if host.in_cooldown():
                detail = f"{name} is down: {self._web.failures_before_down} URLs in a row had no answer"
                return FetchFailure("unreachable", detail, name, retryable=False, counts_as_outage=False)
            try:
                host.wait_turn(self._web.max_wait_s, request.cancel)
            except WaitTooLong as error:
                return FetchFailure("unreachable", str(error), name, retryable=False, counts_as_outage=False)
            request.deadline.extend(time.monotonic() - began)
            return self._send_or_fail(request, url, host)

    def _send_or_fail(self, request: FetchRequest, url: str, host: Host) -> Outcome:
        """Send; turn each exception that a request can raise into its outcome."""
        name = host_of(url)
        try:
            return self._send(request, url, host)
        except PrivateAddress as error:
            return Rejected("private_address", str(error))
        except NoSuchHost as error:
            return FetchFailure("unreachable", str(error), name, retryable=False)
        except ssl.SSLCertVerificationError as error:
            return Rejected("unreachable", f"certificate: {error.verify_message}")
        except DeadlineExceeded as error:
            return FetchFailure("timeout", str(error), name, retryable=False)
        except TimeoutError:
            return FetchFailure("timeout", "no byte in time", name)
        except OSError as error:
            return FetchFailure("unreachable", error.strerror or str(error) or type(error).__name__, name)
        except ProtocolError as error:
            request.sink.restart()
            return FetchFailure("corrupt", str(error), name, counts_as_outage=False)
        except IncompleteResponse as error:
            goes_on = isinstance(error, PartEnded)
            return FetchFailure("truncated", str(error), name, counts_as_outage=False, goes_on=goes_on)
        except BodyTooLarge as error:
            return Rejected("too_large", str(error))

    def _send(self, request: FetchRequest, url: str, host: Host) -> Outcome:
        """Send on a kept connection if one may be used, and on a new one if that leaves any doubt."""
        origin = origin_of(url)
        # What a download has received is worth more than a connection.
        kept = None if request.sink.resumes else host.kept.take(origin)
        if kept is not None:
            kept.deadline = request.deadline
            outcome = self._send_on_kept(request, url, host, kept)
            if outcome is not None:
                return outcome
            request.sink.restart()
        connection = connect(url, self._resolver, request.deadline)
        return self._send_on(request, url, host, connection)[0]

    def _send_on_kept(self, request: FetchRequest, url: str, host: Host, connection: Connection) -> Outcome | None:
        """The outcome on a connection that was used before; None if it may be another request's. See ``kept``."""
        began = time.monotonic()
        try:
            outcome, orderly = self._send_on(request, url, host, connection, kept=True)
        except (ConnectionError, ssl.SSLError, ProtocolError, IncompleteResponse, BodyTooLarge):
            return None  # the server may have closed it just now: that is no failed attempt
        request.deadline.extend(min(connection.slowest_s, time.monotonic() - began))
        return outcome if orderly or isinstance(outcome, Fetched) else None

    def _send_on(
        self, request: FetchRequest, url: str, host: Host, connection: Connection, *, kept: bool = False
    ) -> tuple[Outcome, bool]:
        """The outcome of a request on this connection, and whether the connection was kept after it."""
        headers = {"User-Agent": self._user_agent, "Accept": request.accept, **request.sink.headers()}
        earlier = request.earlier if request.earlier and request.earlier.url == url and not request.sink.size else None
        headers |= earlier.validators.headers() if earlier else {}
        orderly = False
        try:
            response = send_get(connection, url, headers)
            outcome = self._classify(request, url, host, response, earlier)
            if not isinstance(outcome, Fetched):
                _drain(response, connection)
            orderly = response.is_orderly()
            if response.has_surplus() or (kept and not stays_silent(connection)):
                orderly = False
                host.kept.distrust()
                if kept:
                    raise ProtocolError("a response that nobody asked for")
            return outcome, orderly
        finally:
            if orderly:
                host.kept.keep(origin_of(url), connection)
                self._hosts.note_kept(host)
            else:
                connection.close()

    def _classify(
        self, request: FetchRequest, url: str, host: Host, response: Response, earlier: EarlierResponse | None
    ) -> Outcome:
        """The outcome by status and headers; the body is read only if it is wanted."""
        status = response.status
        if status in RETRYABLE_STATUSES:
            return self._server_failure(url, host, response)
        host.record_answer()
        if status in REDIRECT_STATUSES:
            return _redirect(response)
        if status == 416 and request.sink.size:
            request.sink.restart()
            return FetchFailure("truncated", "HTTP 416", host_of(url), counts_as_outage=False)
        is_unchanged = status == 304 and earlier is not None and bool(earlier.validators)
        rejected = None if is_unchanged else _rejected_status(status)
        if rejected is not None:
            return rejected
        if self._web.opt_out and not request.is_robots_txt:
            robots_tags, reservations = (response.headers.lines(name) for name in opt_out.HEADERS)
            if directive := opt_out.find_opt_out(robots_tags, reservations):
                return Rejected("opted_out", directive)
        now = self._web.now()
        if earlier is not None and is_unchanged:
            if not earlier.validators.agree_with(response.headers):
                return Unconfirmed()
            return Unchanged(earlier.validators, url, earlier.sha256, None, timestamp(now))
        _receive_body(request, response)
        sink = request.sink
        if not sink.size:
            return Rejected("empty", f"HTTP {status} without a body")
        return Fetched(
            url=request.url,
            final_url=url,
            content=sink.content(),
            size=sink.size,
            sha256=sink.sha256(),
            content_type=_media_type(response.headers.lines("content-type")),
            headers=response.headers,
            fetched_at=timestamp(now),
            validators=validators_of(response.headers, now),
        )

    def _server_failure(self, url: str, host: Host, response: Response) -> FetchFailure:
        """The failure for a retryable status; Retry-After and overload make all threads pause for this host."""
        now = self._web.now()
        wait_s = max((_retry_after(text, now) for text in response.headers.lines("retry-after")), default=0.0)
        overloaded = response.status in OVERLOAD_STATUSES
        if overloaded and (wait_s or response.status == 429):
            # The whole host, not this URL alone: other threads must not go on sending requests to it.
            host.pause(max(wait_s, self._web.backoff_s))
        elif not overloaded:
            host.record_answer()
        detail = f"HTTP {response.status}" + (f", asked to wait {wait_s:.0f} s" if wait_s else "")
        return FetchFailure("unreachable", detail, host_of(url), counts_as_outage=overloaded, wait_s=wait_s)


def _receive_body(request: FetchRequest, response: Response) -> None:
    """Write the body to the sink. Raises Cancelled and what ``decode_content`` raises."""
    sink = request.sink
    sink.begin(response)
    limit = sink.limit - sink.size
    for piece in decode_content(response.body(limit), response.headers.get("content-encoding", ""), limit):
        if request.cancel is not None and request.cancel.is_set():
            raise Cancelled
        sink.write(piece)
        if sink.seconds_per_byte:
            request.deadline.extend(len(piece) * sink.seconds_per_byte)
    sink.finish()


def _redirect(response: Response) -> Redirect | Rejected:
    locations = set(response.headers.lines("location")) - {""}
    if len(locations) != 1:
        which = "with several different ones of" if locations else "without"
        return Rejected("redirects", f"HTTP {response.status} {which} Location")
    # Headers are read as Latin-1; most servers mean UTF-8.
    return Redirect(locations.pop().encode("latin-1").decode("utf-8", "replace"))


def _media_type(lines: Sequence[str]) -> str:
    """The last media type of a Content-Type, as browsers read it; "" if there is none.

    Source: Fetch Standard, "Extracting header values", "extract a MIME type".

    >>> _media_type(["Text/HTML; charset=utf-8"]), _media_type(["text/html", "image/png, */*"]), _media_type(["none"])
    ('text/html', 'image/png', '')
    """
    types = [piece.partition(";")[0].strip().lower() for line in lines for piece in line.split(",")]
    return next((kind for kind in reversed(types) if _MEDIA_TYPE.fullmatch(kind) and kind != "*/*"), "")


def _rejected_status(status: int) -> Rejected | None:
    """The reject for a status that is final; None for one whose body is wanted."""
    if status == 410:  # the server knows that it will not come back
        return Rejected("gone", f"HTTP {status}", OutcomeClass.SLOW_MOMENT)
    if status == 404:
        return Rejected("gone", f"HTTP {status}")
    if 400 <= status < 500:
        return Rejected("forbidden", f"HTTP {status}")
    if status in (204, 205):
        return Rejected("empty", f"HTTP {status}")
    if status not in (200, 203, 206):
        return Rejected("unreachable", f"HTTP {status}")
    return None


def _drain(response: Response, connection: Connection) -> None:
    """Read the rest of a short body that arrives at once, so that the connection can be kept."""
    connection.deadline = Deadline(MAX_DRAIN_S, MAX_DRAIN_S)
    try:
        for _ in response.body(MAX_DRAINED):
            pass
    except (BodyTooLarge, IncompleteResponse, ProtocolError, OSError):
        return


def _retry_after(text: str, now: datetime) -> float:
    """Seconds from now that a Retry-After header asks for (a number or a date), at most a day; 0 if it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now.timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), 86_400.0)
