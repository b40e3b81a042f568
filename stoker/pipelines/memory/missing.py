"""Kept candidates that a source has no more: known once it was listed, or read, to its end."""

from dataclasses import dataclass

from stoker.storage.versions.memory.outcome_class import GONE

LASTING = 2  # attempts in a row, the last of them answered with GONE, after which a candidate counts as vanished
_SINCE = "missing since "


@dataclass(frozen=True, slots=True)
class Missing:
    """Identities of kept candidates of a source.

    Args:
        new: it has them no more, and had them when it was listed before.
        returned: it has them again.
        before: it had them no more before, either, or their server has said so LASTING times.
    """

    new: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    @property
    def has_changed(self) -> bool:
        """Whether there is anything to remember."""
        return bool(self.new or self.returned)


def with_day(detail: str, before: str, day: str) -> str:
    """The detail of an attempt that met GONE, with the day of the first one of a row of them.

    >>> with_day("HTTP 404", "", "2026-03-02")
    'HTTP 404; missing since 2026-03-02'
    >>> with_day("HTTP 410", "HTTP 404; missing since 2026-03-02", "2026-03-09")
    'HTTP 410; missing since 2026-03-02'
    """
    _, since, first = before.rpartition(_SINCE)
    return f"{detail}; {_SINCE}{first if since else day}"


def lasts(reason: str | None, tries: int) -> bool:
    """Whether a kept candidate counts as vanished after its last attempt."""
    return reason == GONE and tries >= LASTING
