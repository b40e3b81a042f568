"""A dump's XML, cut into pages without parsing it: a damaged page then harms no other."""

from collections.abc import Iterator
from dataclasses import dataclass

from stoker.pipelines.rejected import Rejected

MAX_PAGE = 64 << 20  # bytes of XML; MediaWiki allows 2 MiB of text in a revision
_OPEN, _CLOSE = b"<page>", b"</page>"


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page as it lies in the file. ``fault``: why it cannot be parsed at all."""

    offset: int  # of its first byte in the uncompressed file, or in the part of it that was read
    xml: bytes
    fault: Rejected | None = None


class PageCutter:
    """Cuts a stream of XML into pages by their tags alone; text cannot hold these, there they are escaped.

    Holds one page at a time. A page longer than ``max_page`` is passed over and comes out with its fault.
    """

    def __init__(self, *, max_page: int = MAX_PAGE) -> None:
        self._max = max_page
        self._rest = b""
        self._offset = 0  # of the first byte of the rest
        self._scanned = 0  # how much of the rest was looked through for the page's end
        self._over = b""  # the beginning of a page that became too long
        self._over_offset = 0
        self.between = 0  # bytes since the last page

    @property
    def begun(self) -> int | None:
        """Where the page began that the stream so far ends in (or what may become its first tag), if it does."""
        return self._over_offset if self._over else self._offset if self._rest else None

    @property
    def inside(self) -> bool:
        """Whether the stream so far ends in a page."""
        return bool(self._over) or self._rest.startswith(_OPEN)

    def feed(self, data: bytes) -> Iterator[RawPage]:
        """The pages that end in the next bytes of the stream."""
        rest = self._rest + data
        place = 0
        self.between += len(data)
        while True:
            if not self._over and not rest.startswith(_OPEN, place):
                start = rest.find(_OPEN, place)
                if start < 0:
                    place = len(rest) - _tail(rest)
                    break
                place, self._scanned = start, 0
            close = rest.find(_CLOSE, place + max(0, self._scanned - len(_CLOSE)))
            following = rest.find(
                _OPEN, place + len(_OPEN) if not self._over else place, close if close >= 0 else len(rest)
            )
            stop = following if following >= 0 else close + len(_CLOSE) if close >= 0 else -1
            if stop < 0:
                self._scanned = len(rest) - place
                if self._scanned > self._max:
                    if not self._over:
                        self._over, self._over_offset = rest[place : place + 4096], self._offset + place
                    place, self._scanned = len(rest) - len(_CLOSE), len(_CLOSE)
                break
            yield self._page(rest[place:stop], self._offset + place, closed=following < 0)
            place, self._scanned, self.between = stop, 0, len(rest) - stop
        self._rest = rest[place:]
        self._offset += place

    def _page(self, xml: bytes, offset: int, *, closed: bool) -> RawPage:
        fault = None
        if self._over or len(xml) > self._max:
            fault = Rejected("too_large", f"a page of more than {self._max >> 20} MiB of XML")
            if self._over:
                xml, offset, self._over = self._over, self._over_offset, b""
        elif not closed:
            fault = Rejected("corrupt", f"another page begins before this one ends, near byte {offset}")
        return RawPage(offset, xml, fault)

    def skip(self) -> None:
        """Forget the page that has begun: the stream goes on somewhere else."""
        self._offset += len(self._rest)
        self._rest, self._over, self._scanned = b"", b"", 0


def _tail(rest: bytes) -> int:
    """How many of the last bytes may be the beginning of a page's first tag."""
    return next((size for size in range(min(len(_OPEN) - 1, len(rest)), 0, -1) if _OPEN.startswith(rest[-size:])), 0)
