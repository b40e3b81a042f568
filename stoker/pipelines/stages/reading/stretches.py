"""Stretches of a partition, see ``Source.stretches``, and the numbers by which each finds its own segments."""

from dataclasses import dataclass

from stoker.storage.versions import layout

_MOST_SEGMENTS = 100_000  # of one stretch


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a partition.

    ``number``: counted from 1. ``digest``: of all that it is, with which its first segment begins.
    """

    number: int
    digest: str

    def segment(self, number: int) -> int:
        """The number of its segment ``number``, counted from 0, among those of the whole partition.

        >>> Stretch(2, "").segment(7), WHOLE.segment(7)
        (200007, 7)
        """
        return self.number * _MOST_SEGMENTS + number

    def owns(self, key: str) -> bool:
        """Whether a segment is one of its own."""
        return (layout.segment_number(key) // _MOST_SEGMENTS if layout.is_segment(key) else 0) == self.number


WHOLE = Stretch(0, "")
