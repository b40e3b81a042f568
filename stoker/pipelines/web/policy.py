"""How to behave on the web, and what an answer is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.pipelines.rejected import Rejected


class Transient(Rejected):
    """A reject for want of an answer: the same request may succeed later, and retrying here did not help."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whole."""

    url: str  # as asked for, in its normal form
    final_url: str  # after redirects
    content: bytes = field(repr=False)  # b"" after a download to a file
    size: int  # bytes
    sha256: str  # of the content, hex
    content_type: str  # the media type, lower case, without parameters
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    fetched_at: str  # ISO 8601, UTC


@dataclass(frozen=True)
class WebPolicy:
    """Rates, limits and permissions of requests."""

    contact: str = ""  # in the User-Agent: a URL or mail address where we can be reached
    allow_private: bool = False  # loopback, private and link-local addresses
    requests_per_second: float = 2.0  # to one host; 0: as fast as it answers
    connections_per_host: int = 2
    connections: int = 64  # to all hosts
    threads: int = 16  # URLs that one partition has in flight
    timeout_s: float = 20.0  # without a single byte
    deadline_s: float = 90.0  # on the wire for one URL, all attempts and redirects; waiting in politeness not counted
    bytes_per_second: int = 50_000  # a download to a file may take deadline_s plus its size over this
    attempts: int = 4
    backoff_s: float = 0.5  # before the second attempt; doubles, with jitter
    max_wait_s: float = 60.0  # longest Retry-After or Crawl-delay that is waited for
    max_redirects: int = 5
    outage: int = 8  # URLs in a row without any answer: the host counts as down
    rest_s: float = 15.0  # a host that is down is left alone for so long
    robots: bool = True  # ask for and obey robots.txt
    opt_out: bool = True  # obey X-Robots-Tag, TDM-Reservation and their like

    def __post_init__(self) -> None:
        for name in ("connections_per_host", "connections", "threads", "attempts", "outage", "bytes_per_second"):
            if getattr(self, name) < 1:
                raise ValueError(f"web: {name} is {getattr(self, name)}, expected at least 1")
