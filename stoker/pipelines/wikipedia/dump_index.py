"""The index of a multistream dump: which pages there are, and in which bz2 streams."""

import bz2
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.wikipedia.dump_files import DumpFile
from stoker.storage.plain_file import open_plain

_MAX_MISSING = 0.1  # share of an index's streams that are not in the dump, and of a dump's that are not in the index;
# where both are more, it is the index of another dump
_LAST_STREAMS = 4  # of a dump, among which the last of the index is looked for


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A line of an index."""

    offset: int  # of the bz2 stream that holds the page
    page_id: int
    title: str


def find_index(path: Path) -> Path | None:
    """The index of a multistream dump, if a file with the name that Wikimedia gives it is in the same folder.

    >>> find_index(Path("enwiki-pages-articles.xml.bz2")) is None
    True
    """
    if "multistream" not in path.name:
        return None
    name = path.name.replace("multistream", "multistream-index", 1).replace(".xml", ".txt", 1)
    for candidate in (path.with_name(name), path.with_name(name.removesuffix(".bz2"))):
        if candidate != path and candidate.is_file():
            return candidate
    return None


def read_index(index: Path) -> Iterator[IndexEntry]:
    """The lines of an index, in the order of the dump. Raises SourceBroken."""
    number = 0
    try:
        with open_plain(index) as plain, bz2.open(plain) if index.name.endswith(".bz2") else plain as file:
            while line := file.readline(4096):
                number += 1
                offset, page_id, title = line.decode("utf-8", "replace").rstrip("\n").split(":", 2)
                yield IndexEntry(int(offset), int(page_id), title)
    except (OSError, EOFError, ValueError) as error:
        raise SourceBroken(
            f"{index.name}: near line {number}: expected offset:page:title ({error}); download the index again, "
            "or remove it: the dump can be read without"
        ) from error


def check_index(dump: DumpFile) -> bool:
    """Whether all streams of the index beside a scanned dump are where it says; true if there is no index.

    True also for a dump that is cut short where the index says that a stream goes on. False: some are missing or
    moved, as by a damage in the middle of the dump. Raises SourceBroken if the index is not that of this dump.
    """
    index = find_index(dump.path)
    if index is None:
        return True
    first_pages: dict[int, int] = {}  # by offset of the stream
    for entry in read_index(index):
        first_pages.setdefault(entry.offset, entry.page_id)
    streams = frozenset(dump.streams)
    missing = [offset for offset in first_pages if offset not in streams]
    if not any(offset < dump.size for offset in missing):
        return True
    # Bytes that were lost or inserted move all streams behind them by the same distance.
    distances = [stream - max(first_pages) for stream in dump.streams[-_LAST_STREAMS:]]
    not_found = min(sum(offset + distance not in streams for offset in missing) for distance in distances)
    others = [stream for stream in dump.streams[1:] if stream not in first_pages]  # of no page, by their offsets
    not_named = min(sum(stream - distance not in first_pages for stream in others) for distance in distances)
    # Of a dump that lost many streams, those that are left must be in the index.
    if not_found > 1 + _MAX_MISSING * len(first_pages) and not_named > 1 + _MAX_MISSING * len(streams):
        raise SourceBroken(
            f"{dump.path.name}: its index says that page {first_pages[missing[0]]} is in a stream at byte "
            f"{missing[0]}, but none begins there: the index is of another dump; download both again, or remove the "
            "index: the dump can be read without"
        )
    return False


def missing_pages(entries: Iterable[IndexEntry], read: Sequence[int], start: int, stop: int) -> Iterator[IndexEntry]:
    """The pages of an index whose streams begin in a range of the dump, but for those whose ids were read."""
    known = frozenset(read)
    for entry in entries:
        if start <= entry.offset < stop and entry.page_id not in known:
            yield entry


def skipped_pages(
    entries: Iterable[IndexEntry], read: Sequence[int], *, from_start: bool, following: int | None
) -> Iterator[IndexEntry]:
    """The pages that an index has between those that were read, by their order alone: its offsets may be wrong.

    Args:
        entries: of the index, in its order.
        read: ids in the order of the dump.
        from_start: also those before the first that was read.
        following: the id of the first page behind the range that was read; None: the range ends with the dump.
    """
    known = frozenset(read)
    inside = from_start
    for entry in entries:
        if entry.page_id == following:
            return
        if entry.page_id in known:
            inside = True
        elif inside:
            yield entry
