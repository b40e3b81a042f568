"""The pages of a byte range of a dump file, and what becomes of the pages in damaged bz2 streams."""

from collections.abc import Iterator

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.wikipedia.dump_files import (
    CorruptStream,
    DumpFile,
    find_index,
    find_streams,
    read_index,
    read_xml,
)
from stoker.pipelines.wikipedia.export_xml import find_id_and_title
from stoker.pipelines.wikipedia.page_cutter import PageCutter, RawPage

_MAX_BYTES_WITHOUT_PAGE = 256 << 20  # of XML: no dump has so many, a decompression bomb does


def raw_pages(dump: DumpFile, start: int, stop: int) -> Iterator[RawPage]:
    """The pages that begin in a byte range of the file; the last may end after it.

    A damaged stream's pages come out with a fault if an index names them. Raises SourceBroken when pages are lost
    whose ids are not known, OSError.
    """
    cutter = PageCutter()
    size = 0  # bytes of XML in the range
    for stream_start, stream_stop in _ranges_to_read(dump, start, stop):
        read_ids: set[int] = set()
        try:
            for chunk in read_xml(dump, stream_start, stream_stop):
                size += len(chunk)
                for raw in cutter.feed(chunk):
                    read_ids.add(int(find_id_and_title(raw.xml)[0] or -1))
                    yield raw
                if cutter.bytes_since_page > _MAX_BYTES_WITHOUT_PAGE:
                    raise SourceBroken(
                        f"{dump.path.name}: {_MAX_BYTES_WITHOUT_PAGE >> 20} MiB of XML without a page: no dump"
                    )
        except CorruptStream as error:
            yield from _lost_pages(dump, error, read_ids)
            cutter.discard()
    if cutter.open_offset is not None and stop < dump.size:
        yield from _finish_last_page(dump, stop, cutter, size)
    if cutter.in_page and (cutter.open_offset or 0) < size:
        raise SourceBroken(f"{dump.path.name}: it ends in the middle of a page: it is cut short; download it again")


def _ranges_to_read(dump: DumpFile, start: int, stop: int) -> list[tuple[int, int]]:
    """The ranges that are decompressed one by one: single streams if an index tells which pages a lost one held."""
    if dump.format != "bz2" or find_index(dump.path) is None:
        return [(start, stop)]
    starts = [stream for stream in find_streams(dump, start, stop) if stream > start]
    return list(zip([start, *starts], [*starts, stop], strict=True))


def _finish_last_page(dump: DumpFile, stop: int, cutter: PageCutter, size: int) -> Iterator[RawPage]:
    """The page that begins before a range's end and ends after it. ``size``: bytes of XML in the range."""
    try:
        for chunk in read_xml(dump, stop, dump.size):
            for raw in cutter.feed(chunk):
                if raw.offset < size:
                    yield raw
            if cutter.open_offset is None or cutter.open_offset >= size:
                return
    except CorruptStream as error:
        raise SourceBroken(f"{dump.path.name}: {error} (stream at byte {error.offset}); download it again") from error


def _lost_pages(dump: DumpFile, error: CorruptStream, read_ids: set[int]) -> list[RawPage]:
    """The pages of a damaged stream that were not read, from the index. Raises SourceBroken without an index."""
    index = find_index(dump.path)
    if index is None:
        raise SourceBroken(f"{dump.path.name}: {error} (stream at byte {error.offset}); download it again") from error
    fault = Rejected("corrupt", f"{error} (stream at byte {error.offset})")
    return [
        RawPage(error.offset, f"<title>{title}</title><id>{page_id}</id>".encode(), fault)
        for offset, page_id, title in read_index(index)
        if offset == error.offset and page_id not in read_ids
    ]


def check_index(dump: DumpFile) -> None:
    """Raises SourceBroken if the index beside a scanned dump names streams that the dump does not hold."""
    index = find_index(dump.path)
    if index is None:
        return
    stream_offsets = frozenset(dump.streams)
    for offset, page_id, _ in read_index(index):
        if offset not in stream_offsets:
            raise SourceBroken(
                f"{dump.path.name}: its index says that page {page_id} is in a stream at byte {offset}, but none "
                "begins there: the dump is cut short, or the index is of another one"
            )
