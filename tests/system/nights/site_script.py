"""A site whose pictures heal, break, change, move and vanish by a script, night by night; some of its servers lie."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

from tests.site import Reply, Request
from tests.system.old_store.inputs import picture

# How a page answers when asked whether it has changed.
HONEST = ("etag", "weak", "date", "none")
LYING = ("constant", "always", "other", "future")
FAULTS = {"gone": 404, "forbidden": 403, "gone for good": 410, "error": 500, "busy": 429}
CHANGES = ("heals", "breaks", "changes", "moves", "returns", "spoils", "validates")


@cache
def body_of(number: int, revision: int) -> bytes:
    """The bytes of a page; a negative revision is no picture."""
    return picture(1000 * number + revision) if revision >= 0 else b"no picture %d %d" % (number, revision)


@dataclass
class Page:
    """A page as it is tonight."""

    number: int
    mode: str = "etag"
    revision: int = 0
    fault: str = ""
    is_moved: bool = False

    @property
    def body(self) -> bytes:
        return body_of(self.number, self.revision)

    @property
    def etag(self) -> str:
        """What the header says; "" without one."""
        texts = {"etag": f'"r{self.revision}"', "weak": f'W/"r{self.revision}"', "constant": '"same"', "other": '"a"'}
        return texts.get(self.mode, "")

    @property
    def last_modified(self) -> str:
        if self.mode == "future":
            return "Fri, 01 Jan 2100 00:00:00 GMT"
        # A day for each revision, all of them before the first night.
        return f"Sun, {1 + self.revision % 28:02d} Feb 2026 00:00:00 GMT" if self.mode == "date" else ""

    def answer(self, etag: str, date: str) -> Reply:
        """The answer to a request with these conditions."""
        if self.fault:
            headers = {"Retry-After": "0"} if self.fault == "busy" else {}
            return Reply(b"no", FAULTS[self.fault], headers)
        if self.mode == "always" or (self.mode == "future" and date):
            return Reply(b"", 304)
        if self.mode == "other" and etag:
            return Reply(b"", 304, {"ETag": '"another"'})
        if (etag and etag == self.etag) or (not etag and date and date == self.last_modified):
            return Reply(b"", 304, {"ETag": self.etag} if self.etag else {})
        headers = {"ETag": self.etag, "Last-Modified": self.last_modified}
        return Reply(self.body, headers={name: text for name, text in headers.items() if text})


@dataclass
class Night:
    """What an ingest of a night does."""

    refresh: bool
    older_than_days: int
    retry_failed: bool


@dataclass
class Script:
    """The pages of a site, and what becomes of them; the same for the same seed."""

    pages: int
    seed: int
    modes: tuple[str, ...] = HONEST + LYING
    all: list[Page] = field(default_factory=list)
    listed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        for number in range(self.pages):
            self.all.append(Page(number, self._random.choice(self.modes)))
            self.all[-1].fault = self._random.choice(["", "", "", "", *FAULTS])
            # A server that always says "not modified" gives nothing the first time.
            if self.all[-1].mode == "always":
                self.all[-1].mode = "etag"
        self.all[0] = Page(0, "etag")
        self.listed = list(range(self.pages * 3 // 4))

    def next_night(self) -> Night:
        """Change the site and the list; what the ingest after it does."""
        for page in self.all[1:]:
            if self._random.random() < 0.12:
                self._change(page)
        unlisted = sorted(set(range(self.pages)) - set(self.listed))
        self.listed += self._random.sample(unlisted, min(len(unlisted), self.pages // 50))
        for number in self._random.sample(self.listed[1:], self.pages // 100):
            self.listed.remove(number)
        rest = self.listed[1:]
        self._random.shuffle(rest)
        self.listed = [0, *rest]
        refresh, retry = self._random.random() < 0.6, self._random.random() < 0.2
        return Night(refresh, self._random.choice([0, 0, 3, 7]), retry)

    def _change(self, page: Page) -> None:
        change = self._random.choice(CHANGES)
        if change == "heals":
            page.fault = ""
        elif change == "breaks":
            page.fault = self._random.choice(list(FAULTS))
        elif change == "changes":
            page.revision = abs(page.revision) + 1
        elif change == "moves":
            page.is_moved = True
        elif change == "returns":
            page.is_moved = False
        elif change == "spoils":
            page.revision = -abs(page.revision) - 1
        else:
            page.mode = self._random.choice(self.modes)

    def handlers(self) -> dict[str, Callable[[Request], Reply]]:
        """The pages of a ``Site``."""
        found: dict[str, Callable[[Request], Reply]] = {}
        for page in self.all:
            found |= {path_of(page.number): _answers(page), moved_path_of(page.number): _answers(page, is_moved=True)}
        return found


def path_of(number: int) -> str:
    return f"/{number}.jpg"


def moved_path_of(number: int) -> str:
    return f"/moved/{number}.jpg"


def conditions_of(request: Request) -> tuple[str, str]:
    """If-None-Match and If-Modified-Since; "" where there is none."""
    return request.headers.get("if-none-match", ""), request.headers.get("if-modified-since", "")


def _answers(page: Page, *, is_moved: bool = False) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        if page.is_moved and not is_moved:
            return Reply(b"", 301, {"Location": moved_path_of(page.number)})
        return replace(page.answer(*conditions_of(request)))

    return answer
