"""The pages of a byte range of a dump file, and rejects for all that is damaged or missing there."""

import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from xml.sax.saxutils import escape

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.wikipedia.bz2_blocks import Gap
from stoker.pipelines.wikipedia.dump_files import DumpFile, describe, read_xml
from stoker.pipelines.wikipedia.dump_index import find_index, missing_pages, read_index, skipped_pages
from stoker.pipelines.wikipedia.export_xml import find_id_and_title
from stoker.pipelines.wikipedia.page_cutter import PageCutter, RawPage
from stoker.pipelines.wikipedia.site import has_siteinfo, read_siteinfo

_MAX_BYTES_WITHOUT_PAGE = 256 << 20  # of XML: no dump has so many, a decompression bomb does
_MAX_NAMED = 10_000  # pages of one range that an index names one by one; each takes memory
_HEAD = 1 << 12  # bytes of a page, that hold its title


def raw_pages(dump: DumpFile, start: int, stop: int, *, moved: bool = False) -> Iterator[RawPage]:
    """The pages that begin in a byte range of the file; the last may end after it.

    Damage comes out as pages with a fault: ``corrupt`` for a page or bytes between pages, ``lost`` where nobody knows
    how many pages there were. An index beside the dump names them instead. Raises SourceBroken, OSError.

    Args:
        dump: the file.
        start: where a stream begins in bz2, or any byte of plain XML.
        stop: the first byte behind the range.
        moved: the streams are not all where the index says.
    """
    return _RangeReader(dump, start, stop, moved).read()


class _RangeReader:
    """Reads the pages of one range; its fields are what is known so far."""

    def __init__(self, dump: DumpFile, start: int, stop: int, moved: bool) -> None:
        self.dump, self.start, self.stop, self.moved = dump, start, stop, moved
        self.index = find_index(dump.path)
        self.plain = dump.format == "xml" and not dump.utf16
        self.end = start if self.plain else 0  # of the range in the XML
        self.cutter = PageCutter(offset=self.end, inside=start > 0)
        self.owns_end = start == 0  # whether what follows the last page of the range is reported here
        self.read_ids: list[int] = []  # kept if there is an index
        self.last = b""  # the beginning of the last page
        self.gaps: list[Gap] = []  # since the last piece of XML
        self.damaged = False
        self.following: int | None = None  # the id of the first page behind the range, if the streams have moved

    def read(self) -> Iterator[RawPage]:
        """See ``raw_pages``."""
        for piece in read_xml(self.dump, self.start, self.stop):
            if isinstance(piece, Gap):
                self.gaps.append(piece)
                yield from self._noted(self.cutter.gap(f"its end is missing: {describe(piece)}"))
                continue
            yield from self._report_gaps()
            self.end += len(piece)
            yield from self._noted(self.cutter.feed(piece))
            self._check_size()
            self.owns_end |= not self.cutter.skipping
        if self.stop >= self.dump.size:
            yield from self._finish()
        else:
            yield from self._report_gaps()
            if not self.cutter.skipping or self.cutter.tag_is_open or (self.moved and self.read_ids):
                yield from self._read_on()
        if self.index is not None and (self.damaged or self.moved):
            yield from self._missing(self.index)

    def _noted(self, raws: Iterator[RawPage]) -> Iterator[RawPage]:
        """The pages, which are kept in mind; with places that no page of another range has."""
        for raw in raws:
            self.last = raw.xml[:_HEAD]
            if self.index is not None:
                self.read_ids.append(int(find_id_and_title(raw.xml)[0] or -1))
            elsewhere = raw.fault and self.start and not self.plain
            yield replace(raw, place=f"at-{self.start}-{raw.offset}") if elsewhere else raw
        self._check_site()

    def _check_site(self) -> None:
        """Raise SourceBroken where another wiki's dump begins: its pages would get this one's name and language."""
        head, self.cutter.head = self.cutter.head, b""
        if not head or not has_siteinfo(self.dump.head):
            return
        name = self.dump.path.name
        expected, found = (read_siteinfo(one, name).wiki for one in (self.dump.head, head))
        if found != expected:
            raise SourceBroken(f"{name}: it holds the dumps of two wikis, {expected} and {found}; make a file of each")

    def _check_size(self) -> None:
        if self.cutter.bytes_since_page > _MAX_BYTES_WITHOUT_PAGE:
            raise SourceBroken(
                f"{self.dump.path.name}: {_MAX_BYTES_WITHOUT_PAGE >> 20} MiB of XML without a page: no dump"
            )

    def _report_gaps(self) -> Iterator[RawPage]:
        """A loss for each gap, unless an index will name its pages."""
        self.damaged |= bool(self.gaps)
        gaps, self.gaps = self.gaps, []
        for gap in gaps:
            if self.index is None:
                what = f"pages{self._after()} are lost, and how many is not known"
                yield RawPage(gap.offset, b"", Rejected("lost", f"{describe(gap)}: {what}"), f"lost-{gap.offset}")

    def _after(self) -> str:
        title = find_id_and_title(self.last)[1]
        return f" behind {title!r}" if title else ""

    def _finish(self) -> Iterator[RawPage]:
        """The end of the dump: a page that is cut, and a loss if the dump's last tag is not there."""
        gaps = self.gaps
        if gaps and self.cutter.complete and not any(gap.block for gap in gaps):
            return  # bytes behind the end of the XML
        yield from self._report_gaps()
        self.damaged |= not self.cutter.complete
        if not self.owns_end:
            return
        yield from self._noted(self.cutter.finish())
        reported = gaps and self.index is None
        whole = b"<mediawiki" in self.dump.head or self.dump.damage  # else it is an excerpt, which has no last tag
        if not reported and not self.cutter.complete and whole:
            detail = f"the dump ends{self._after()}, before </mediawiki>: it is cut short; download it again"
            yield RawPage(self.dump.size, b"", Rejected("lost", detail), f"lost-{self.dump.size}")

    def _read_on(self) -> Generator[RawPage, None, None]:
        """The rest of the page that begins in the range and ends behind it, and what follows it.

        If the streams have moved, also finds the id of the first page behind the range.
        """
        owns_end = not self.cutter.skipping or self.cutter.tag_is_open
        for piece in read_xml(self.dump, self.stop, self.dump.size):
            if isinstance(piece, Gap):
                raws = self.cutter.gap(f"its end is missing: {describe(piece)}")
            else:
                raws = self.cutter.feed(piece)
            for raw in raws:
                if raw.offset < self.end or (not raw.is_page and owns_end):
                    yield from self._noted(iter((raw,)))
                    continue
                owns_end = False
                page_id = find_id_and_title(raw.xml)[0]
                if page_id and raw.is_page:
                    self.following = int(page_id)
                    return
            owns_end &= not self.cutter.skipping and (self.cutter.page_offset or 0) < self.end
            if not owns_end and not self.moved:
                return
            self._check_size()
        if owns_end:
            yield from self._finish()

    def _missing(self, index: Path) -> Iterator[RawPage]:
        """The pages of an index that should be in the range and were not read."""
        entries = read_index(index)
        if self.moved:
            at_start = self.start == 0
            missing = skipped_pages(entries, self.read_ids, from_start=at_start, following=self.following)
        else:
            stop = sys.maxsize if self.stop >= self.dump.size else self.stop  # also those behind the end of a cut dump
            missing = missing_pages(entries, self.read_ids, self.start, stop)
        for entry in islice(missing, _MAX_NAMED):
            xml = f"<page><title>{escape(entry.title)}</title><id>{entry.page_id}</id><revision>".encode()
            where = f"the bz2 stream at byte {entry.offset:,}"
            fault = Rejected("corrupt", f"the index has it in {where}, but it cannot be read there; download it again")
            yield RawPage(entry.offset, xml, fault)
        if (first := next(missing, None)) is not None:
            more = 1 + sum(1 for _ in missing)
            detail = (
                f"the index has {more:,} more pages, from {first.title!r} on, that cannot be read; download it again"
            )
            yield RawPage(first.offset, b"", Rejected("lost", detail), f"lost-from-{first.page_id}")
