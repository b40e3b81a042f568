"""One request to one host, in its turn, and what its answer means."""

import email.utils
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web import opt_out
from stoker.pipelines.web.http.addresses import Addresses, NoSuchHost, PrivateAddress
from stoker.pipelines.web.http.hosts import Cancelled, Host, Hosts, Waiting
from stoker.pipelines.web.http.sinks import File, Sink
from stoker.pipelines.web.http.wire import Answer, Cut, Deadline, Garbled, TooLarge, TooSlow, ask, connect, unpacked
from stoker.pipelines.web.links import host_of, origin_of
from stoker.pipelines.web.policy import Fetched, WebPolicy

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BUSY = frozenset({429, 502, 503, 504})  # the server, not the page, is in trouble
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
DRAINED = 1 << 14  # bytes of an unwanted body that are read so that the connection can go on


@dataclass(frozen=True, slots=True)
class Errand:
    """What is wanted of one URL, in normal form."""

    url: str
    sink: Sink
    accept: str
    deadline: Deadline
    cancel: threading.Event | None
    asks_robots: bool = False  # it fetches robots.txt itself: no permission needed, no opt-out possible


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt without an answer."""

    reason: str
    detail: str
    host: str
    again: bool = True  # worth another attempt now
    silent: bool = True  # the host itself is in trouble: it counts towards an outage
    wait_s: float = 0.0  # what the host asked for


@dataclass(frozen=True, slots=True)
class Moved:
    """A redirect to somewhere, not yet checked."""

    to: str


Outcome = Fetched | Rejected | Fault | Moved


class Exchanges:
    """Requests under one policy, from all threads."""

    def __init__(self, web: WebPolicy, hosts: Hosts, addresses: Addresses, agent: str) -> None:
        self._web, self._hosts, self._addresses, self._agent = web, hosts, addresses, agent

    def hop(self, errand: Errand, current: str, delay_s: float) -> Outcome:
        """The outcome of asking for ``current``, the errand's URL or where it was redirected. Raises Cancelled."""
        began = time.monotonic()
        name = host_of(current)
        with self._hosts.using(name, errand.cancel) as host:
            if delay_s:
                host.slow_down(min(delay_s, self._web.max_wait_s))
            if host.rests():
                detail = f"{name} is down: {self._web.outage} URLs in a row had no answer"
                return Fault("unreachable", detail, name, again=False, silent=False)
            try:
                host.turn(self._web.max_wait_s, errand.cancel)
            except Waiting as error:
                return Fault("unreachable", str(error), name, again=False, silent=False)
            errand.deadline.extend(time.monotonic() - began)
            return self._bounded(errand, current, host)

    def _bounded(self, errand: Errand, current: str, host: Host) -> Outcome:
        """Every way in which an exchange can fail, by name."""
        name = host_of(current)
        try:
            return self._exchange(errand, current, host)
        except PrivateAddress as error:
            return Rejected("private_address", str(error))
        except NoSuchHost as error:
            return Fault("unreachable", str(error), name, again=False)
        except ssl.SSLCertVerificationError as error:
            return Rejected("unreachable", f"certificate: {error.verify_message}")
        except TooSlow as error:
            return Fault("timeout", str(error), name, again=False)
        except TimeoutError:
            return Fault("timeout", "no byte in time", name)
        except OSError as error:
            return Fault("unreachable", error.strerror or str(error) or type(error).__name__, name)
        except Garbled as error:
            errand.sink.restart()
            return Fault("corrupt", str(error), name, silent=False)
        except Cut as error:
            return Fault("truncated", str(error), name, silent=False)
        except TooLarge as error:
            return Rejected("too_large", str(error))

    def _exchange(self, errand: Errand, current: str, host: Host) -> Outcome:
        headers = {"User-Agent": self._agent, "Accept": errand.accept, **errand.sink.headers()}
        origin = origin_of(current)
        line = self._hosts.open_line(host, origin)
        answer: Answer | None = None
        reusable = False
        try:
            if line is not None:
                line.deadline = errand.deadline
                try:
                    answer = ask(line, current, headers)
                except (ConnectionError, Garbled):  # the server closed it just now: that is no failed attempt
                    line.close()
            if line is None or answer is None:
                line = connect(current, self._addresses, errand.deadline)
                answer = ask(line, current, headers)
            outcome = self._judge(errand, current, host, answer)
            if not isinstance(outcome, Fetched):
                _drain(answer)
            reusable = answer.is_reusable()
            return outcome
        finally:
            if answer is not None:
                answer.close()
            if line is not None:
                if reusable:
                    self._hosts.keep_line(host, origin, line)
                else:
                    line.close()

    def _judge(self, errand: Errand, current: str, host: Host, answer: Answer) -> Outcome:
        """What an answer's status and headers mean; its body, if it is wanted."""
        status = answer.status
        if status in AGAIN:
            return self._fault(current, host, answer)
        host.answered()
        if status in REDIRECTS:
            # http.client reads headers as Latin-1; most servers mean UTF-8.
            target = answer.headers.get("location", "").encode("latin-1").decode("utf-8", "replace")
            return Moved(target) if target else Rejected("redirects", f"HTTP {status} without Location")
        if status == 416 and errand.sink.size:
            errand.sink.restart()
            return Fault("truncated", "HTTP 416", host_of(current), silent=False)
        refused = _refused(status)
        if refused is not None:
            return refused
        directive = opt_out.refusal(answer.headers) if self._web.opt_out and not errand.asks_robots else ""
        if directive:
            return Rejected("opted_out", directive)
        self._receive(errand, answer)
        sink = errand.sink
        if not sink.size:
            return Rejected("empty", f"HTTP {status} without a body")
        return Fetched(
            url=errand.url,
            final_url=current,
            content=sink.content(),
            size=sink.size,
            sha256=sink.sha256(),
            content_type=answer.headers.get("content-type", "").partition(";")[0].strip().lower(),
            headers=answer.headers,
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _receive(self, errand: Errand, answer: Answer) -> None:
        sink = errand.sink
        sink.begin(answer)
        limit = sink.limit - sink.size
        for piece in unpacked(answer.body(limit), answer.headers.get("content-encoding", ""), limit):
            if errand.cancel is not None and errand.cancel.is_set():
                raise Cancelled
            sink.write(piece)
            if isinstance(sink, File):  # of any size, so its time grows with what has come
                errand.deadline.extend(len(piece) / self._web.bytes_per_second)

    def _fault(self, current: str, host: Host, answer: Answer) -> Fault:
        """An answer that asks to come again, at the time that it names."""
        wait_s = _retry_after(answer.headers.get("retry-after", ""))
        busy = answer.status in BUSY
        if busy and (wait_s or answer.status == 429):
            # The whole host, not this URL alone: other threads must not go on hammering it.
            host.pause(max(wait_s, self._web.backoff_s))
        elif not busy:
            host.answered()
        detail = f"HTTP {answer.status}" + (f", asked to wait {wait_s:.0f} s" if wait_s else "")
        return Fault("unreachable", detail, host_of(current), silent=busy, wait_s=wait_s)


def _refused(status: int) -> Rejected | None:
    if status in (404, 410):
        return Rejected("gone", f"HTTP {status}")
    if 400 <= status < 500:
        return Rejected("forbidden", f"HTTP {status}")
    if status in (204, 205):
        return Rejected("empty", f"HTTP {status}")
    if status not in (200, 203, 206):
        return Rejected("unreachable", f"HTTP {status}")
    return None


def _drain(answer: Answer) -> None:
    try:
        for _ in answer.body(DRAINED):
            pass
    except (TooLarge, Cut, Garbled, OSError):
        return


def _retry_after(text: str) -> float:
    """Seconds from now that a Retry-After asks for, 0 if it says nothing. At most a day."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), 86_400.0)
