"""``WebPolicy``: rates, limits and permissions of requests; ``Fetched`` and ``Transient``: their results."""

from dataclasses import dataclass, field

from stoker.pipelines.rejected import PASSING, OutcomeClass, Rejected
from stoker.pipelines.web.headers import Headers
from stoker.pipelines.web.validators import NO_VALIDATORS, Validators
from stoker.storage.clock import Clock, utc_now

_MAX_FAULT = 250  # characters, so that what follows fits


class Transient(Rejected):
    """A reject because there was no answer after all attempts; the same request may succeed later."""

    __slots__ = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "outcome_class", OutcomeClass.MOMENT)


def as_final(rejected: Rejected) -> Rejected:
    """The reject for the records of a partition. Of a passing fault it says that nothing asks again once that is done.

    >>> as_final(Transient("timeout", "no byte in time")).detail
    'no byte in time; final once its partition is done'
    """
    if not isinstance(rejected, Transient):
        return rejected
    detail = f"{rejected.detail[:_MAX_FAULT]}; {PASSING}"
    return Rejected(rejected.reason, detail, OutcomeClass.MOMENT)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete response."""

    url: str  # as asked for, in its normal form
    final_url: str  # after redirects
    content: bytes = field(repr=False)  # b"" after a download to a file
    size: int  # bytes
    sha256: str  # of the content, hex
    content_type: str  # the media type, lower case, without parameters
    headers: Headers = field(repr=False)
    fetched_at: str  # ISO 8601, UTC
    validators: Validators = NO_VALIDATORS  # to ask by whether it has changed


@dataclass(frozen=True, slots=True)
class EarlierResponse:
    """A response of before, to ask whether it has changed."""

    validators: Validators
    url: str  # that gave it, after redirects: another one knows nothing of these validators
    sha256: str = ""  # of the content, hex; "": not known


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The content is that of before: the server says so, or sent the same bytes."""

    validators: Validators  # to ask by the next time
    final_url: str  # after redirects
    sha256: str  # of the content, hex; "": not known
    size: int | None  # bytes of the content; None: the server sent none
    fetched_at: str  # ISO 8601, UTC


@dataclass(frozen=True)
class WebPolicy:
    """Rates, limits and permissions of requests."""

    contact: str = ""  # in the User-Agent: a URL or mail address where we can be reached
    allow_private: bool | str = False  # hosts and networks of your own, see ``AllowedPrivate``; True: all
    requests_per_second: float = 2.0  # to one host; 0: as fast as it answers
    connections_per_host: int = 2
    connections: int = 64  # to all hosts
    threads: int = 16  # URLs that one partition fetches at a time
    timeout_s: float = 20.0  # longest wait for the next byte
    deadline_s: float = 90.0  # for one URL, all attempts and redirects, without waits for rate limits and retries
    bytes_per_second: int = 50_000  # a download to a file may take deadline_s plus its size over this
    attempts: int = 4
    backoff_s: float = 0.5  # before the second attempt; doubles, with jitter
    max_wait_s: float = 60.0  # longest Retry-After or Crawl-delay that is obeyed; a longer one rejects the URL
    max_redirects: int = 20  # as browsers follow
    failures_before_down: int = 8  # URLs in a row without any answer, then the host counts as down
    cooldown_s: float = 15.0  # a host that is down gets no request for so long
    robots: bool = True  # ask for and obey robots.txt
    opt_out: bool = True  # obey X-Robots-Tag, TDM-Reservation and meta robots
    now: Clock = utc_now  # of ``fetched_at`` and of dates in Retry-After; that of a Context takes its place

    def __post_init__(self) -> None:
        at_least_one = {
            "connections_per_host": self.connections_per_host,
            "connections": self.connections,
            "threads": self.threads,
            "attempts": self.attempts,
            "failures_before_down": self.failures_before_down,
            "bytes_per_second": self.bytes_per_second,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ValueError(f"web: {name} is {value}, expected at least 1")
