"""The clock: what time it is, given to whatever writes a time down, and the one form in which times are written."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # UTC


def utc_now() -> datetime:
    """The time of this machine, the default of every clock."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """A time as records and manifests hold it: ISO 8601, UTC, whole seconds.

    >>> timestamp(datetime(2026, 3, 1, 12, 30, 5, 999, tzinfo=UTC))
    '2026-03-01T12:30:05+00:00'
    """
    return moment.astimezone(UTC).isoformat(timespec="seconds")
