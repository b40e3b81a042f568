"""Splits a stream of MediaWiki export XML into pages by their tags, without parsing: a damaged page harms no other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stoker.pipelines.rejected import Rejected

MAX_PAGE = 8 << 20  # bytes of XML; MediaWiki allows 2 MiB of text in a revision
_OPEN, _CLOSE = b"<page", b"</page"
_END = b"</mediawiki"
_TAG = 64  # bytes at the end of the data that may be the beginning of a tag
_KEPT = 4096  # bytes from the beginning of what is too large: they hold a page's id and title
_MAX_BETWEEN = 1 << 20  # bytes between pages that are looked at; siteinfo is far shorter
_MAX_COMMENTS = 64  # and elements siteinfo between two pages: a search for more could take long
# What a dump holds beside pages. Dumps that were put one behind the other have it in the middle, too.
_BESIDE_PAGES = re.compile(
    rb"\xef\xbb\xbf|<\?xml[^<>]*\?>|</?mediawiki(?:\s[^<>]*)?>|<siteinfo>.*?</siteinfo>|<!--.*?-->", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class RawPage:
    """The XML of a page as it stands in the file, or of what stands between pages and is none.

    ``fault``: why it cannot be parsed. ``place``: a name for it, if it may have no id of its own. ``is_page``: whether
    it begins with ``<page>``.
    """

    offset: int  # of its first byte in the uncompressed file, or in the range of it that was read
    xml: bytes
    fault: Rejected | None = None
    place: str = ""
    is_page: bool = True


class PageCutter:
    """Cuts pages out of a stream of XML at ``<page>`` and ``</page>``, which text cannot hold: there they are escaped.

    Holds one page in memory. A page longer than ``max_page`` bytes is dropped as it passes, and comes out with its
    fault; so do bytes between pages that are neither blank nor ``siteinfo``.

    >>> cutter = PageCutter()
    >>> [raw.xml for data in (b"<page>a</pa", b"ge> <page>b</page>") for raw in cutter.feed(data)]
    [b'<page>a</page>', b'<page>b</page>']

    Args:
        max_page: bytes of XML.
        offset: of the first byte that will be fed.
        inside: the stream begins anywhere: what stands before its first page belongs to the stream before it.
    """

    def __init__(self, *, max_page: int = MAX_PAGE, offset: int = 0, inside: bool = False) -> None:
        self._max_page = max_page
        self._buffer = b""
        self._offset = offset  # of the buffer's first byte
        self._index = 0  # in the buffer, of the page that has begun, or of what follows the page before
        self._scanned = 0  # index in the buffer before which there is no tag that is looked for
        self._kept = b""  # the beginning of what has become too large, of which the buffer is the end
        self._kept_offset = 0
        self._in_page = False
        self.skipping = inside  # until the next page begins
        self.head = b""  # the last bytes between pages that hold a siteinfo
        self.complete = False  # after ``gap`` and ``finish``: whether </mediawiki> follows the last page

    @property
    def page_offset(self) -> int | None:
        """The offset of the page that has begun; None between pages."""
        return self._start if self._in_page else None

    @property
    def tag_is_open(self) -> bool:
        """Whether the last bytes between pages may be the beginning of a page's first tag."""
        tail = b"<" + self._buffer[-_TAG:].rpartition(b"<")[2]
        complete = self._in_page or b"<" not in self._buffer[-_TAG:] or b">" in tail
        return not complete and (_OPEN.startswith(tail) or tail[: len(_OPEN)] == _OPEN)

    @property
    def bytes_since_page(self) -> int:
        """How long the page that has begun is so far, or what follows the page before."""
        return self._offset + len(self._buffer) - self._start

    @property
    def _start(self) -> int:
        return self._kept_offset if self._kept else self._offset + self._index

    def feed(self, data: bytes) -> Iterator[RawPage]:
        """The pages that end in the next bytes of the stream, and what else stands between them."""
        self._buffer += data
        while True:
            if self._in_page:
                stop, closed = self._find_page_end()
                if stop < 0:
                    break
                yield self._page(stop, closed=closed)
            else:
                stop = self._find_tag(_OPEN, self._scanned)
                if stop < 0:
                    break
                yield from self._between(stop)
                self._in_page = True
        self._compact()

    def gap(self, message: str) -> Iterator[RawPage]:
        """The stream goes on behind bytes that are missing: the page that has begun, if any; it is lost."""
        if self._in_page:
            self.complete = False
            yield self._page(len(self._buffer), closed=True, fault=Rejected("corrupt", message))
        else:
            self.complete = _END in self._kept + self._buffer[self._index :]
            yield from self._between(len(self._buffer))
        self.skipping = True

    def finish(self) -> Iterator[RawPage]:
        """The stream has ended: the page that has not, or what follows the last page."""
        if self._in_page:
            self.complete = False
            fault = Rejected("corrupt", "the dump ends within the page: it is cut short")
            yield self._page(len(self._buffer), closed=True, fault=fault)
        else:
            rest = (self._kept + self._buffer[self._index :]).strip()
            self.complete = _END in rest
            if not _END.startswith(rest):  # else it is cut there
                yield from self._between(len(self._buffer))

    def _find_page_end(self) -> tuple[int, bool]:
        """Where the page that has begun ends, and whether by its own last tag; -1 if it goes on."""
        close = self._find_tag(_CLOSE, self._scanned)
        first = self._scanned if self._kept else max(self._scanned, self._index + len(_OPEN))
        following = self._find_tag(_OPEN, first, close if close >= 0 else len(self._buffer))
        if following >= 0:
            return following, False
        return (self._buffer.index(b">", close) + 1, True) if close >= 0 else (-1, True)

    def _find_tag(self, tag: bytes, start: int, stop: int | None = None) -> int:
        """Where a tag begins that ends in the buffer; -1 if there is none. ``</page >`` is one, ``<pages>`` is not."""
        while (start := self._buffer.find(tag, start, stop)) >= 0:
            after = self._buffer[start + len(tag) : start + len(tag) + 1]
            if after == b">" or (after.isspace() and self._buffer.find(b">", start, start + _TAG) >= 0):
                return start
            start += 1
        return -1

    def _page(self, stop: int, *, closed: bool, fault: Rejected | None = None) -> RawPage:
        """The page up to ``stop`` in the buffer, which it takes out."""
        offset, size = self._start, self._offset + stop - self._start
        xml = self._kept or self._buffer[self._index : stop]
        if size > self._max_page:
            most = f"{self._max_page / (1 << 20):g}"
            fault = Rejected("too_large", f"a page of {size:,} bytes of XML; at most {most} MiB are read")
            xml = xml[:_KEPT]
        elif not closed:
            fault = Rejected("corrupt", f"another page begins before this one ends, near byte {offset}")
        self._take(stop)
        return RawPage(offset, xml, fault, f"at-{offset}" if fault else "")

    def _between(self, stop: int) -> Iterator[RawPage]:
        """What stands between pages up to ``stop`` in the buffer, if it is more than it may be; takes it out."""
        between, offset, size = self._buffer[self._index : stop], self._start, self._offset + stop - self._start
        kept, skipping = self._kept, self.skipping
        self._take(stop)
        if b"<siteinfo" in between:
            self.head = between
        if skipping or not (kept or between.strip()) or (not kept and _is_beside_pages(between)):
            return
        xml = (kept or between)[:_KEPT]
        begins = " ".join(xml[:60].decode("utf-8", "replace").split())
        detail = f"{size:,} bytes at byte {offset:,} of the XML are in no page: {begins!r}"
        yield RawPage(offset, xml, Rejected("corrupt", detail), f"at-{offset}", is_page=False)

    def _take(self, stop: int) -> None:
        """What comes next begins at ``stop`` in the buffer."""
        self._index = self._scanned = stop
        self._kept, self._in_page, self.skipping = b"", False, False
        if stop > _MAX_BETWEEN:  # a large page: it is not held twice while it is worked on
            self._buffer, self._offset = self._buffer[stop:], self._offset + stop
            self._index = self._scanned = 0

    def _compact(self) -> None:
        """Drop what was taken out of the buffer, and all but the ends of what is too large."""
        size = len(self._buffer) - self._index
        if size > (self._max_page if self._in_page else 0 if self.skipping else _MAX_BETWEEN) + _TAG:
            if not self._kept:
                self._kept_offset, self._kept = self._start, self._buffer[self._index : self._index + _KEPT]
            self._index = len(self._buffer) - _TAG
        self._buffer = self._buffer[self._index :]
        self._offset += self._index
        self._index = 0
        # A tag that lies across this piece and the next begins in the last bytes.
        self._scanned = max(0, len(self._buffer) - _TAG)


def _is_beside_pages(between: bytes) -> bool:
    """Whether bytes between pages are the head or the end of a dump."""
    if between.count(b"<!--") + between.count(b"<siteinfo>") > _MAX_COMMENTS:
        return False
    return not _BESIDE_PAGES.sub(b"", between).strip()
