"""Splits a stream of MediaWiki export XML into pages by their tags, without parsing: a damaged page harms no other."""

from collections.abc import Iterator
from dataclasses import dataclass

from stoker.pipelines.rejected import Rejected

MAX_PAGE = 64 << 20  # bytes of XML; MediaWiki allows 2 MiB of text in a revision
_OPEN, _CLOSE = b"<page>", b"</page>"
_KEPT_OF_OVERSIZED = 4096  # bytes from the beginning of a page that is too large: they hold its id and title


@dataclass(frozen=True, slots=True)
class RawPage:
    """The XML of a page as it stands in the file. ``fault``: why it cannot be parsed."""

    offset: int  # of its first byte in the uncompressed file, or in the range of it that was read
    xml: bytes
    fault: Rejected | None = None


class PageCutter:
    """Cuts pages out of a stream of XML at ``<page>`` and ``</page>``, which text cannot hold: there they are escaped.

    Holds one page in memory. A page longer than ``max_page`` bytes is skipped, and comes out with its fault.

    >>> cutter = PageCutter()
    >>> [raw.xml for data in (b"<page>a</pa", b"ge> <page>b</page>") for raw in cutter.feed(data)]
    [b'<page>a</page>', b'<page>b</page>']
    """

    def __init__(self, *, max_page: int = MAX_PAGE) -> None:
        self._max_page = max_page
        self._buffer = b""  # the beginning of a page, or of its first tag
        self._offset = 0  # of the buffer's first byte
        self._scanned = 0  # bytes of the buffer that hold no end of the page
        self._oversized = b""  # the beginning of a page that became too large; empty outside of one
        self._oversized_offset = 0
        self.bytes_since_page = 0

    @property
    def open_offset(self) -> int | None:
        """The offset where the unfinished page (or a partial ``<page`` tag) begins; None if no page is open."""
        return self._oversized_offset if self._oversized else self._offset if self._buffer else None

    @property
    def in_page(self) -> bool:
        """Whether the stream so far ends within a page."""
        return bool(self._oversized) or self._buffer.startswith(_OPEN)

    def feed(self, data: bytes) -> Iterator[RawPage]:
        """The pages that end in the next bytes of the stream."""
        buffer = self._buffer + data
        position = 0
        self.bytes_since_page += len(data)
        while True:
            if not self._oversized and not buffer.startswith(_OPEN, position):
                start = buffer.find(_OPEN, position)
                if start < 0:
                    position = len(buffer) - _partial_tag(buffer)
                    break
                position, self._scanned = start, 0
            close = buffer.find(_CLOSE, position + max(0, self._scanned - len(_CLOSE)))
            following = buffer.find(
                _OPEN,
                position if self._oversized else position + len(_OPEN),
                close if close >= 0 else len(buffer),
            )
            stop = following if following >= 0 else close + len(_CLOSE) if close >= 0 else -1
            if stop < 0:
                self._scanned = len(buffer) - position
                if self._scanned > self._max_page:
                    if not self._oversized:
                        self._oversized = buffer[position : position + _KEPT_OF_OVERSIZED]
                        self._oversized_offset = self._offset + position
                    position, self._scanned = len(buffer) - len(_CLOSE), len(_CLOSE)
                break
            yield self._page(buffer[position:stop], self._offset + position, closed=following < 0)
            position, self._scanned, self.bytes_since_page = stop, 0, len(buffer) - stop
        self._buffer = buffer[position:]
        self._offset += position

    def _page(self, xml: bytes, offset: int, *, closed: bool) -> RawPage:
        fault = None
        if self._oversized or len(xml) > self._max_page:
            fault = Rejected("too_large", f"a page of more than {self._max_page >> 20} MiB of XML")
            if self._oversized:
                xml, offset, self._oversized = self._oversized, self._oversized_offset, b""
        elif not closed:
            fault = Rejected("corrupt", f"another page begins before this one ends, near byte {offset}")
        return RawPage(offset, xml, fault)

    def discard(self) -> None:
        """Drop the page that has begun: the next data does not continue it."""
        self._offset += len(self._buffer)
        self._buffer, self._oversized, self._scanned = b"", b"", 0


def _partial_tag(buffer: bytes) -> int:
    """How many of the last bytes may be the beginning of a page's first tag."""
    longest = min(len(_OPEN) - 1, len(buffer))
    return next((size for size in range(longest, 0, -1) if _OPEN.startswith(buffer[-size:])), 0)
