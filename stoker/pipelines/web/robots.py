"""robots.txt rules (RFC 9309), fetched once per origin and cached."""

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


class Robots:
    """The rules of each origin, in a bounded cache shared by all threads."""

    def __init__(self, fetch: FetchRobots) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _CachedRules] = OrderedDict()

    def permission(self, url: str, cancel: threading.Event | None) -> Permission:
        """Whether a URL in normal form may be fetched. One thread fetches the rules, others wait for it."""
        origin = origin_of(url)
        with self._lock:
            entry = self._entries.setdefault(origin, _CachedRules())
            self._entries.move_to_end(origin)
            if len(self._entries) > MAX_ORIGINS:
                self._entries.popitem(last=False)
        with entry.lock:
            if time.monotonic() >= entry.expires:
                entry.rules = _parse(self._fetch(f"{origin}/robots.txt", cancel))
                cache_s = FAILURE_CACHE_S if isinstance(entry.rules, Rejected) else CACHE_S
                entry.expires = time.monotonic() + cache_s
            rules = entry.rules
        if rules is None:
            return Permission()
        if isinstance(rules, Rejected):
            return Permission(rules)
        crawl_delay_s = float(rules.crawl_delay(AGENT) or 0.0)
        if not rules.can_fetch(url, AGENT):
            return Permission(Rejected("robots", f"{origin}/robots.txt"), crawl_delay_s)
        return Permission(None, crawl_delay_s)


def _parse(content: bytes | Rejected | None) -> Protego | Rejected | None:
    if not isinstance(content, bytes):
        return content
    # Cut at the end of a line: half a rule could forbid, or allow, more than was meant.
    text = content if len(content) <= MAX_PARSED else content[: content.rfind(b"\n", 0, MAX_PARSED) + 1]
    return Protego.parse(text.decode("utf-8-sig", "replace"))
