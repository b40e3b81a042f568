"""robots.txt rules (RFC 9309), fetched once per origin and cached."""

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from protego import Protego

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.links import origin_of
from stoker.pipelines.web.opt_out import AGENT

CACHE_S = 6 * 3600.0  # the RFC allows a day
FAILURE_CACHE_S = 30.0  # an unreachable robots.txt forbids everything, but only for now
MAX_SIZE = 4 << 20  # bytes; a larger file is taken for a mistake, and forbids everything
MAX_PARSED = 512 << 10  # bytes; the RFC asks for at least 500 KiB
MAX_ORIGINS = 4096
DIGEST = 16  # hex digits
_USER_AGENT = re.compile(r"^[ \t]*user-?agent[ \t]*:([^\r\n#]*)", re.IGNORECASE | re.MULTILINE)
_TOKEN = re.compile(r"[A-Za-z_*-]+")


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a URL may be fetched; ``rejected`` says why not."""

    rejected: Rejected | None = None
    crawl_delay_s: float = 0.0  # 0: none


# The content of robots.txt at a URL; None if there is none (4xx); a reject if it could not be fetched.
FetchRobots = Callable[[str, threading.Event | None], bytes | Rejected | None]


@dataclass
class _CachedRules:
    lock: threading.Lock = field(default_factory=threading.Lock)
    expires: float = 0.0  # time.monotonic()
    rules: Protego | Rejected | None = None
    digest: str = ""  # of what was fetched


class Robots:
    """The rules of each origin, in a bounded cache shared by all threads."""

    def __init__(self, fetch: FetchRobots, *, max_delay_s: float) -> None:
        self._fetch = fetch
        self._max_delay_s = max_delay_s  # a longer Crawl-delay is a refusal
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _CachedRules] = OrderedDict()

    def digest(self, url: str) -> str:
        """A digest of the robots.txt of a URL's origin, "none" if there is none; "" if that cannot be known now."""
        return self._entry(origin_of(url), None).digest

    def permission(self, url: str, cancel: threading.Event | None) -> Permission:
        """Whether a URL in normal form may be fetched."""
        origin = origin_of(url)
        rules = self._entry(origin, cancel).rules
        if rules is None:
            return Permission()
        if isinstance(rules, Rejected):
            return Permission(rules)
        crawl_delay_s = float(rules.crawl_delay(AGENT) or 0.0)
        if not rules.can_fetch(url, AGENT):
            return Permission(Rejected("robots", f"{origin}/robots.txt"), crawl_delay_s)
        if crawl_delay_s > self._max_delay_s:
            detail = f"{origin}/robots.txt asks for {crawl_delay_s:g} s between requests, at most {self._max_delay_s:g}"
            return Permission(Rejected("robots", f"{detail} are waited for"))
        return Permission(None, crawl_delay_s)

    def _entry(self, origin: str, cancel: threading.Event | None) -> _CachedRules:
        """The rules of an origin as they are now. One thread fetches them, others wait for it."""
        with self._lock:
            entry = self._entries.setdefault(origin, _CachedRules())
            self._entries.move_to_end(origin)
            if len(self._entries) > MAX_ORIGINS:
                self._entries.popitem(last=False)
        with entry.lock:
            if time.monotonic() >= entry.expires:
                content = self._fetch(f"{origin}/robots.txt", cancel)
                entry.rules = _parse(content)
                entry.digest = _digest(content)
                cache_s = FAILURE_CACHE_S if isinstance(entry.rules, Rejected) else CACHE_S
                entry.expires = time.monotonic() + cache_s
            return entry


def _digest(content: bytes | Rejected | None) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:DIGEST]
    return "none" if content is None else ""


def _parse(content: bytes | Rejected | None) -> Protego | Rejected | None:
    if not isinstance(content, bytes):
        return content
    # Cut at the end of a line: half a rule could forbid, or allow, more than was meant.
    text = content if len(content) <= MAX_PARSED else content[: content.rfind(b"\n", 0, MAX_PARSED) + 1]
    return Protego.parse(_USER_AGENT.sub(_product_tokens, text.decode("utf-8-sig", "replace")))


def _product_tokens(line: re.Match[str]) -> str:
    """A line for each robot that is named, without its version: "Stoker/1.0 (+url), other" means two (RFC 9309, 2.2.1).

    >>> _USER_AGENT.sub(_product_tokens, "User-agent: Stoker/1.0")
    'User-agent: Stoker'
    """
    tokens = [_TOKEN.match(name.strip()) for name in line[1].split(",")]
    return "\n".join(f"User-agent: {token[0]}" for token in tokens if token is not None) or line[0]
