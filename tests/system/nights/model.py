"""What the design says of each URL: which requests a night makes of it, and what the corpus holds then.

Written from the rules alone, without a line of the code that it is compared with.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.site import Reply
from tests.system.nights.site_script import Night, Page, Script, moved_path_of, path_of

DAYS = {"moment": (0, 1, 2, 4, 8, 16, 30), "slow": (7, 14, 30)}
REASONS = {404: ("gone", "moment"), 403: ("forbidden", "slow"), 410: ("gone", "slow"), 304: ("unreachable", "moment")}

Asked = Counter[tuple[str, str, str]]  # path, If-None-Match, If-Modified-Since


@dataclass
class Known:
    """What is remembered of a URL."""

    kind: str = ""  # of the newest attempt: "kept", "bytes", "moment", "slow"; "": it was never asked for
    reason: str = ""
    tries: int = 0  # in a row without a definite outcome
    at: datetime = datetime.min
    definite: str = ""  # "kept", "bytes"; "": there is none
    body: bytes = b""  # of the definite outcome
    path: str = ""  # that gave it
    validators: tuple[str, str] = ("", "")  # with the definite outcome
    last: tuple[str, str] = ("", "")  # with the newest time it was seen


@dataclass
class Model:
    """All URLs of a corpus."""

    known: dict[int, Known] = field(default_factory=dict)
    drops: bool = False  # what vanished is no sample

    def night(self, script: Script, night: Night, now: datetime) -> Asked:
        """The requests of a night; what is known is then as it is after it."""
        asked: Asked = Counter()
        for number in script.listed:
            known = self.known.setdefault(number, Known())
            if _is_due(known, night, now):
                _ask(known, script.all[number], night, now, asked)
            elif known.reason == "vanished":
                known.reason, known.at = "known", now
        for number in set(self.known) - set(script.listed):
            _miss(self.known[number], now)
        return asked

    @property
    def kept(self) -> dict[str, bytes]:
        """The bytes of the samples, by path."""
        return {
            path_of(number): one.body
            for number, one in self.known.items()
            if one.definite == "kept" and not (self.drops and _has_vanished(one))
        }


def _has_vanished(known: Known) -> bool:
    return known.reason == "vanished" or (known.reason == "gone" and known.tries >= 2)


def _miss(known: Known, now: datetime) -> None:
    """The list has it no more."""
    if known.definite != "kept" or known.reason == "vanished":
        return
    if known.kind != "kept":
        known.last = known.validators
    known.kind, known.reason, known.at, known.tries = "kept", "vanished", now, 0


def _is_due(known: Known, night: Night, now: datetime) -> bool:
    if not known.kind:
        return True
    if night.retry_failed and known.kind != "kept":
        return True
    if known.kind in ("kept", "bytes"):
        return night.refresh and known.at < now - timedelta(days=night.older_than_days)
    days = DAYS[known.kind]
    return known.at + timedelta(days=days[min(known.tries, len(days)) - 1]) <= now


def _ask(known: Known, page: Page, night: Night, now: datetime, asked: Asked) -> None:
    # A reject that a person wants to be tried again is tried whole.
    compares = known.definite == "kept" or (known.definite == "bytes" and not night.retry_failed)
    etag, date = known.last if known.kind == "kept" else known.validators
    conditions = ("", "") if not compares else (etag, "") if etag else ("", date)
    path = path_of(page.number)
    if page.is_moved:
        asked[(path, *(conditions if known.path == path else ("", "")))] += 1
        path = moved_path_of(page.number)
    sent = conditions if known.path == path else ("", "")
    asked[(path, *sent)] += 1
    reply = page.answer(*sent)
    told = reply.headers.get("ETag", sent[0])
    if reply.status == 304 and sent[0] and told.removeprefix("W/") != sent[0].removeprefix("W/"):
        sent = ("", "")
        asked[(path, *sent)] += 1
        reply = page.answer(*sent)
    _remember(known, reply, path, now, was_asked=sent != ("", ""), compares=compares)


def _remember(known: Known, reply: Reply, path: str, now: datetime, *, was_asked: bool, compares: bool) -> None:
    is_same = (reply.status == 304 and was_asked) or (reply.status == 200 and compares and reply.body == known.body)
    if reply.status != 200 and not is_same:
        known.reason, known.kind = REASONS.get(reply.status, ("unreachable", "moment"))
        known.tries, known.at = known.tries + 1, now
        return
    etag, date = reply.headers.get("ETag", ""), reply.headers.get("Last-Modified", "")
    found = (etag, date if "2100" not in date else "")
    known.tries, known.at = 0, now
    if is_same:
        if known.kind != "kept":
            known.last = known.validators
        if reply.status == 200 and path == known.path and found != ("", ""):
            known.last = found
        known.kind, known.reason = known.definite, "known" if known.definite == "kept" else "not_an_image"
        if known.definite == "bytes":
            known.validators = known.last
        return
    known.definite = known.kind = "bytes" if reply.body.startswith(b"no picture") else "kept"
    known.reason = "not_an_image" if known.kind == "bytes" else ""
    known.body, known.path, known.validators, known.last = reply.body, path, found, found
