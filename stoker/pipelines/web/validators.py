"""Validators: what a server gave with a response to ask later whether it has changed (RFC 9110, 8.8 and 13.1)."""

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stoker.pipelines.web.headers import Headers

MAX_ETAG = 200  # characters; a longer one is taken for a mistake
# Printable ASCII: other bytes would come back to the server in another encoding, or end the header's line.
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_DATE = re.compile(r"[A-Za-z]{3}, \d{2} [A-Za-z]{3} \d{4} \d{2}:\d{2}:\d{2} GMT")
# What was changed within this time may be changed again without another date (RFC 9110, 8.8.2.2). Clocks differ, so a
# minute, as RFC 7232 had it, and not a second.
_SETTLED = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Validators:
    """What identifies a response to its server; "" where that gave nothing sound."""

    etag: str = ""
    last_modified: str = ""

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)

    def headers(self) -> Mapping[str, str]:
        """The headers of a request for a body only if it has changed; beside an ETag a server ignores the date.

        >>> Validators('W/"1"', "Mon, 02 Mar 2026 01:00:00 GMT").headers()
        {'If-None-Match': 'W/"1"'}
        """
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}

    def agree_with(self, headers: Headers) -> bool:
        """Whether a response without a body ("not modified") may be about these: it says nothing else."""
        etags = {text.removeprefix("W/") for text in headers.lines("etag")}
        return not self.etag or etags <= {self.etag.removeprefix("W/")}


NO_VALIDATORS = Validators()


def validators_of(headers: Headers, now: datetime) -> Validators:
    """The sound validators of a response that came at ``now``.

    >>> march = datetime(2026, 3, 2, tzinfo=UTC)
    >>> validators_of(Headers({"etag": ['"a"'], "last-modified": ["Tue, 03 Mar 2026 00:00:00 GMT"]}), march)
    Validators(etag='"a"', last_modified='')
    """
    etag = headers.single("etag").strip()
    return Validators(
        etag if len(etag) <= MAX_ETAG and _ETAG.fullmatch(etag) else "",
        _settled_date(headers.single("last-modified").strip(), now),
    )


def _settled_date(text: str, now: datetime) -> str:
    """The text, if it is a date before ``now`` by more than ``_SETTLED``; else ""."""
    if not _DATE.fullmatch(text):
        return ""
    try:
        date = email.utils.parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return ""
    return text if date < now - _SETTLED else ""
