"""The times of a schedule: a cron line in a time zone, or a fixed interval. Imports nothing heavy.

Cron lines are those of crontab(5): five fields of numbers or names, ranges, lists and steps. Libraries take more
(seconds in a sixth field, @daily, L, #), and read it differently; here it is refused.
"""

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from stoker.pipelines.errors import RecipeError

_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)")
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_INTERVAL_S = 366 * 86400
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # with 29 February, which comes
_FIELDS = (  # name, least, most; 7 is Sunday too
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
)
_PART = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(0*[1-9]\d?))?", re.ASCII)
_EXPECTED = "expected five fields (minute hour day month weekday), for example '0 3 * * *'"


@dataclass(frozen=True, slots=True)
class Timetable:
    """When runs start: ``cron`` in ``timezone``, or every ``interval_s`` seconds."""

    cron: str = ""
    interval_s: float = 0.0
    timezone: str = "UTC"

    def __str__(self) -> str:
        if self.cron:
            return f"{self.cron} ({self.timezone})"
        unit = next(unit for unit in ("d", "h", "m", "s") if self.interval_s % _UNIT_SECONDS[unit] == 0 or unit == "s")
        return f"every {self.interval_s / _UNIT_SECONDS[unit]:g} {unit}"


def parse_timetable(*, cron: str = "", interval: str = "", timezone: str = "UTC") -> Timetable:
    """The start times of runs: a cron line in a time zone, or an interval. Raises RecipeError.

    >>> str(parse_timetable(cron="0 3 * * *", timezone="Europe/Berlin")), str(parse_timetable(interval="90m"))
    ('0 3 * * * (Europe/Berlin)', 'every 90 m')
    """
    check_timezone(timezone)
    if interval:
        return Timetable(interval_s=parse_interval(interval), timezone=timezone)
    check_cron(cron)
    return Timetable(cron=" ".join(cron.split()), timezone=timezone)


def parse_interval(text: str) -> float:
    """A time span in seconds. Raises RecipeError.

    >>> parse_interval("90s"), parse_interval("6h")
    (90.0, 21600.0)
    """
    match = _INTERVAL.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not 1 <= seconds <= _MAX_INTERVAL_S:
        raise RecipeError(f"interval {text!r}: expected 1s to 366d, for example 90s, 15m, 6h, 1d")
    return seconds


def check_timezone(name: str) -> None:
    """Raise RecipeError unless a time zone of this name is known."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise RecipeError(f"timezone {name!r}: unknown; expected a name such as Europe/Berlin") from None


def check_cron(cron: str) -> None:
    """Raise RecipeError for a line that is not of five fields, has a value out of range, or never fires."""
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        found = f"{len(fields)} fields" if len(fields) != 1 else "one field"
        raise RecipeError(f"cron {cron!r}: found {found}, {_EXPECTED}")
    values = [_values(cron, text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
    _, _, days, months, _ = values
    # Where days of the month and weekdays are both limited, either of them is enough: then a weekday always comes.
    if fields[4].startswith("*") and not any(min(days) <= _MONTH_DAYS[month - 1] for month in months):
        raise RecipeError(f"cron {cron!r}: never comes: no month {fields[3]} has a day {fields[2]}")


def _values(cron: str, text: str, field: str, least: int, most: int) -> set[int]:
    """The numbers that a field stands for. Raises RecipeError."""
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match[4] and not (match[1] or match[3])):
            raise RecipeError(f"cron {cron!r}: {field} {part!r}: expected *, a number, 1-5, or */15; {_EXPECTED}")
        if match[1]:
            first, last = least, most
        else:
            first = _number(cron, match[2], field, least, most)
            last = _number(cron, match[3], field, least, most) if match[3] else first
        if first > last:
            raise RecipeError(f"cron {cron!r}: {field} {part!r}: the range ends before it begins")
        values.update(range(first, last + 1, int(match[4] or 1)))
    return values


def _number(cron: str, text: str, field: str, least: int, most: int) -> int:
    names = {"month": _MONTHS, "weekday": _WEEKDAYS}.get(field, ())
    if text.lower() in names:
        return names.index(text.lower()) + least
    if not text.isdigit() or len(text) > 2 or not least <= int(text) <= most:
        also = f" or {names[0]} to {names[-1]}" if names else ""
        raise RecipeError(f"cron {cron!r}: {field} {text!r}: expected {least} to {most}{also}; {_EXPECTED}")
    return int(text)
