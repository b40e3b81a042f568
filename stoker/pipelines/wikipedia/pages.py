"""The pages in a part of a dump file, damaged streams included."""

from collections.abc import Iterator

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.wikipedia.dump_files import CorruptStream, DumpFile, chunks, entries, index_beside, streams
from stoker.pipelines.wikipedia.export_xml import find_id_and_title
from stoker.pipelines.wikipedia.page_cutter import PageCutter, RawPage

_MAX_BYTES_WITHOUT_PAGE = 256 << 20  # bytes of XML without a page: no dump looks so, a decompression bomb does


def raw_pages(dump: DumpFile, start: int, stop: int) -> Iterator[RawPage]:
    """The pages that begin in a range of the file; the last may end behind it.

    Raises SourceBroken when pages are lost that nobody can name, OSError.
    """
    cutter = PageCutter()
    size = 0
    for first, last in _streams(dump, start, stop):
        seen: set[int] = set()
        try:
            for chunk in chunks(dump, first, last):
                size += len(chunk)
                for raw in cutter.feed(chunk):
                    seen.add(int(find_id_and_title(raw.xml)[0] or -1))
                    yield raw
                if cutter.between > _MAX_BYTES_WITHOUT_PAGE:
                    raise SourceBroken(
                        f"{dump.path.name}: {_MAX_BYTES_WITHOUT_PAGE >> 20} MiB of XML without a page: no dump"
                    )
        except CorruptStream as error:
            yield from _lost(dump, error, seen)
            cutter.skip()
    if cutter.begun is not None and stop < dump.size:
        yield from _behind(dump, stop, cutter, size)
    if cutter.inside and (cutter.begun or 0) < size:
        raise SourceBroken(f"{dump.path.name}: it ends in the middle of a page: it is cut short; download it again")


def _streams(dump: DumpFile, start: int, stop: int) -> list[tuple[int, int]]:
    """What is uncompressed at once: with an index each stream by itself, as then one may be lost alone."""
    if dump.kind != "bz2" or index_beside(dump.path) is None:
        return [(start, stop)]
    inside = [stream for stream in streams(dump, start, stop) if stream > start]
    return list(zip([start, *inside], [*inside, stop], strict=True))


def _behind(dump: DumpFile, stop: int, cutter: PageCutter, size: int) -> Iterator[RawPage]:
    """The end of a page that began before a range's end."""
    try:
        for chunk in chunks(dump, stop, dump.size):
            for raw in cutter.feed(chunk):
                if raw.offset < size:
                    yield raw
            if cutter.begun is None or cutter.begun >= size:
                return
    except CorruptStream as error:
        raise SourceBroken(f"{dump.path.name}: {error} (stream at byte {error.offset}); download it again") from error


def _lost(dump: DumpFile, error: CorruptStream, seen: set[int]) -> list[RawPage]:
    """The pages of a damaged stream that were not read, as the index knows them. Without one nobody does."""
    index = index_beside(dump.path)
    if index is None:
        raise SourceBroken(f"{dump.path.name}: {error} (stream at byte {error.offset}); download it again") from error
    fault = Rejected("corrupt", f"{error} (stream at byte {error.offset})")
    named = [(page, title) for offset, page, title in entries(index) if offset == error.offset and page not in seen]
    return [RawPage(error.offset, f"<title>{title}</title><id>{page}</id>".encode(), fault) for page, title in named]


def check_index(dump: DumpFile) -> None:
    """Raises SourceBroken if the index beside a surveyed dump names streams that the dump does not hold."""
    index = index_beside(dump.path)
    if index is None:
        return
    begins = frozenset(dump.streams)
    for offset, page, _ in entries(index):
        if offset not in begins:
            raise SourceBroken(
                f"{dump.path.name}: its index says that page {page} is in a stream at byte {offset}, but none begins "
                "there: the dump is cut short, or the index is of another one"
            )
