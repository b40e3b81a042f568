"""robots.txt as RFC 9309 has it, fetched once per origin and kept for a while."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from protego import Protego

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.links import origin_of
from stoker.pipelines.web.opt_out import AGENT

KEPT_S = 6 * 3600.0  # the RFC allows a day
FAILURE_KEPT_S = 30.0  # an unreachable robots.txt forbids everything, but only for now
MAX_SIZE = 4 << 20  # bytes; more is taken for no robots.txt but a mistake, and forbids everything
PARSED = 512 << 10  # bytes; the RFC asks for at least 500 KiB
MAX_ORIGINS = 4096


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a URL may be fetched: ``refused`` says why not. ``delay_s`` is the Crawl-delay, 0 if none."""

    refused: Rejected | None = None
    delay_s: float = 0.0


# What robots.txt says: its text, or None if there is none (4xx), or why it could not be had.
Fetch = Callable[[str, threading.Event | None], bytes | Rejected | None]


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = 0.0
    rules: Protego | Rejected | None = None


class Robots:
    """The rules of all origins that were asked for, a bounded number of them."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def permission(self, url: str, cancel: threading.Event | None) -> Permission:
        """Whether a URL in normal form may be fetched. One thread asks an origin, the others wait for its answer."""
        origin = origin_of(url)
        with self._lock:
            entry = self._entries.setdefault(origin, _Entry())
            self._entries.move_to_end(origin)
            if len(self._entries) > MAX_ORIGINS:
                self._entries.popitem(last=False)
        with entry.lock:
            if time.monotonic() >= entry.until:
                entry.rules = _parsed(self._fetch(f"{origin}/robots.txt", cancel))
                kept_s = FAILURE_KEPT_S if isinstance(entry.rules, Rejected) else KEPT_S
                entry.until = time.monotonic() + kept_s
            rules = entry.rules
        if rules is None:
            return Permission()
        if isinstance(rules, Rejected):
            return Permission(rules)
        delay_s = float(rules.crawl_delay(AGENT) or 0.0)
        if not rules.can_fetch(url, AGENT):
            return Permission(Rejected("robots", f"{origin}/robots.txt"), delay_s)
        return Permission(None, delay_s)


def _parsed(answer: bytes | Rejected | None) -> Protego | Rejected | None:
    if not isinstance(answer, bytes):
        return answer
    # Cut at a whole line: half a rule could forbid, or allow, more than was meant.
    text = answer if len(answer) <= PARSED else answer[: answer.rfind(b"\n", 0, PARSED) + 1]
    return Protego.parse(text.decode("utf-8-sig", "replace"))
