"""Numbers and untrusted text for people: sizes, ages, bars and sparklines; control characters are replaced."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from stoker.storage.versions.manifest import SplitTotals

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
# Controls, surrogates, line and paragraph separators: a terminal obeys them, and they break a page. "Cf" contains
# joiners that Persian, Hindi and emoji need, so of those only the ones that reverse or hide text are listed.
_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}
_REVERSING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_MAX_URL = 2000
_LONG_NUMBER = 10**21  # from which numbers have an exponent, not a digit for each power of ten


def visible(value: object, *, most: int = 0) -> str:
    """Untrusted text as one line, without characters that a terminal or a browser would obey.

    Each run of white space becomes one space; other controls and reversing marks become the replacement character.

    Args:
        value: any value; converted by ``str``.
        most: the most characters, with an ellipsis where it was cut; 0 is no limit.

    >>> visible("a\\x1b[31mred\\n\\tb\\u202e")
    'a\ufffd[31mred b\ufffd'
    >>> visible("abcdef", most=4)
    'abc…'
    """
    text = value if isinstance(value, str) else str(value)
    if most > 0:
        text = text[: most * 4 + 64]  # white space may shrink; text far beyond the cut is not processed
    text = "".join(_safe(character) for character in text)
    text = " ".join(text.split())
    return text if most <= 0 or len(text) <= most else text[: most - 1].rstrip() + "…"


def paragraphs(text: str) -> str:
    """Untrusted text of several lines, as safe as ``visible``; line ends are kept.

    >>> paragraphs("one\\r\\ntwo\\x00")
    'one\\ntwo\ufffd'
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(character if character in "\n\t" else _safe(character) for character in text)


def _safe(character: str) -> str:
    if character in "\t\n\r\v\f":
        return " "
    if character in _REVERSING or unicodedata.category(character) in _UNSAFE:
        return "\ufffd"
    return character


def web_address(value: object) -> str:
    """The value if it is an http(s) URL that may become a link, else "".

    >>> web_address("https://example.org/a"), web_address("javascript:alert(1)"), web_address("//x"), web_address(7)
    ('https://example.org/a', '', '', '')
    """
    if (
        not isinstance(value, str)
        or len(value) > _MAX_URL
        or any(ord(character) <= 32 or ord(character) == 127 for character in value)
    ):
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return value if parts.scheme in ("http", "https") and parts.hostname else ""


def size_text(size: float) -> str:
    """Bytes in decimal units.

    >>> size_text(999), size_text(1_234_567), size_text(0)
    ('999 B', '1.23 MB', '0 B')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.0f} PB" if abs(size) < _LONG_NUMBER else f"{size:.4g} PB"


def number_text(value: float | None) -> str:
    """A number as short as its size allows.

    >>> number_text(1797), number_text(0.123456), number_text(12345.6), number_text(1e300), number_text(None)
    ('1,797', '0.123', '12,346', '1e+300', '–')
    """
    if value is None or value != value:
        return "–"
    if abs(value) >= _LONG_NUMBER:
        return f"{value:.4g}"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent_text(share: float) -> str:
    """A share of 1 in percent; "0 %" and "100 %" only for exactly 0 and 1.

    >>> percent_text(0.5), percent_text(0.0001), percent_text(0.9999), percent_text(1)
    ('50 %', '<0.1 %', '>99.9 %', '100 %')
    """
    percent = share * 100
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f}".removesuffix(".0") + " %"


def change_text(change: float) -> str:
    """A difference with its sign.

    >>> change_text(3), change_text(-1200), change_text(0)
    ('+3', '-1,200', '±0')
    """
    return "±0" if change == 0 else f"{'+' if change > 0 else '-'}{number_text(abs(change))}"


def time_text(moment: str) -> str:
    """An ISO time to the minute, in UTC; other text is returned as it is.

    >>> time_text("2026-03-04T05:06:07+00:00")
    '2026-03-04 05:06 UTC'
    """
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return visible(moment, most=40)


def age_text(moment: str, now: datetime | None = None) -> str:
    """How long ago an ISO time was, in its largest unit.

    >>> age_text("2026-03-04T05:06:07+00:00", datetime(2026, 3, 4, 8, 0, tzinfo=UTC))
    '2 hours ago'
    """
    try:
        seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return "at an unknown time"
    for unit, long in (("year", 31_557_600), ("month", 2_629_800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= long:
            times = int(seconds // long)
            return f"{times} {unit}{'s' if times > 1 else ''} ago"
    return "just now"


def bar(share: float, width: int) -> str:
    """A bar of block characters, ``width`` cells for a share of 1; at least a thin one for any share above 0.

    >>> bar(0.5, 4), bar(0.0001, 4), bar(0, 4)
    ('██', '▏', '')
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def sparkline(values: Sequence[float]) -> str:
    """A line of columns from 0 to the largest value; a space for 0, at least a low column for any value above 0.

    >>> sparkline([0, 0.1, 2, 4]), sparkline([])
    (' ▁▅█', '')
    """
    top = max(values, default=0)
    return "".join(_HEIGHTS[min(7, round(value / top * 7))] if value > 0 else " " for value in values)


def listed(words: Iterable[str], *, most: int = 3) -> str:
    """The first words, and how many more words there are.

    >>> listed(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
    words = list(words)
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most:,} more"


def splits_text(splits: "Mapping[str, SplitTotals]") -> str:
    """The samples of every split, in one line.

    >>> from stoker.storage.versions.manifest import SplitTotals
    >>> splits_text({"train": SplitTotals(1437, 3, 9), "test": SplitTotals(360, 1, 9)})
    'train 1,437, test 360'
    """
    return ", ".join(f"{name} {split.samples:,}" for name, split in splits.items())
