"""Rows of lists that were read before: of which candidate each is, looked up by the hash of the row as it is written.

To normalise a URL and to make the stamp of what a list says of it costs many times what it costs to hash a line. What
a line means depends on nothing but its bytes and how the list is read, so that is kept in a file on this machine:
(hash of the line, hash of the identity, stamp), 24 bytes a row, sorted. It is a cache: without it all rows are read,
and those of settled candidates are passed over then.

Two lines are taken for one if their 64-bit hashes are equal: among 10 million lines once in 400,000 lists.
"""

import os
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Generic, Self, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.known import COLUMNS_OF_INTEREST, Moment, hashes_of_interest
from stoker.pipelines.partition import PackedRows
from stoker.storage.versions.memory.outcomes import hash_of

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
NONE: Hashes = np.zeros(0, np.uint64)
LINES = 1 << 17  # that are looked up at a time: each look reads the whole file
_STAMP = 16  # hex digits
_WAITING = 1 << 14  # rows in memory that are still to be written
_FEW = 1 << 10  # lines, where none is looked up
_COLUMNS = 3
_ROW = 8 * _COLUMNS  # bytes
_SLICE = 1 << 16  # rows of the file that are in memory
FEWEST = 10_000  # lines that are worth a file
_BUCKETS = 64
_SHIFT = np.uint64(58)  # bits of a hash that do not tell its bucket
_MIX_OF_ONE, _ALL_BITS = 0x9E3779B97F4A7C15, 2**64 - 1
_MIX = np.uint64(_MIX_OF_ONE)


def hashes_of_lines(lines: Sequence[bytes], how: int) -> Hashes:
    """64 bits of each line: two checksums of different polynomials. ``how``: hash of how the list is read."""
    first = np.fromiter(map(zlib.crc32, lines), np.uint64, len(lines))
    second = np.fromiter(map(google_crc32c.value, lines), np.uint64, len(lines))
    return ((first << np.uint64(32)) | second) ^ np.uint64(how)


def stamp_code(stamp: str) -> int:
    """A stamp of 16 hex digits as a number; of "" 0."""
    return int(stamp, 16) if stamp else 0


def stamp_codes(stamps: pa.ChunkedArray) -> tuple[Hashes, Flags]:
    """``stamp_code`` of many stamps, and of which of them there is one: not of null, nor of others than these."""
    column = stamps.combine_chunks().cast(pa.binary())
    lengths = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False)
    codes, is_stamp = np.zeros(len(lengths), np.uint64), lengths == _STAMP
    if is_stamp.any():
        of_stamps = pc.filter(column, pa.array(is_stamp)).cast(pa.binary(_STAMP))
        digits = np.frombuffer(of_stamps.buffers()[1], np.uint8, of_stamps.nbytes).reshape(-1, _STAMP)
        values = np.where(digits >= ord("a"), digits - (ord("a") - 10), digits - ord("0"))
        codes[is_stamp] = (values[:, 0::2] << 4 | values[:, 1::2]).copy().view(">u8")[:, 0]
    return codes, is_stamp | (lengths == 0)


def marks_of(ids: Hashes, stamps: Hashes) -> Hashes:
    """One number of each two hashes, such as of a candidate and of what its list says of it."""
    marks: Hashes = ids ^ (stamps * _MIX)
    return marks


@dataclass(frozen=True)
class Settled:
    """Candidates that are not asked for while a list says of them what it said.

    Args:
        source: that they are of.
        marks: of hashes of their identities and of their stamps, sorted.
    """

    source: str
    marks: Hashes

    @classmethod
    def of(
        cls, source: str, outcomes: Callable[[Sequence[str]], Iterable[pa.Table]], moment: Moment, *, most: int
    ) -> "Settled":
        """Those that are not due at a moment, of which one row tells all that is known.

        Args:
            source: that the candidates are of.
            outcomes: gives these columns of all that is known of the source; it is asked twice.
            moment: the moment.
            most: rows of it.
        """
        known, count, unsettled = np.empty(most, np.uint64), 0, [NONE]
        for table in outcomes(COLUMNS_OF_INTEREST):
            known[count : count + table.num_rows] = table["hash"].to_numpy()
            count += table.num_rows
            unsettled.append(hashes_of_interest(table, moment))
        known[:count].sort()
        unsettled.append(known[1:count][known[1:count] == known[: count - 1]] if count else NONE)
        others, marks, count = np.unique(np.concatenate(unsettled)), known, 0  # written over
        for table in outcomes(("hash", "source", "stamp")):
            codes, has_code = stamp_codes(table["stamp"])
            counts = has_code & ~pc.is_in(table["hash"], pa.array(others)).to_numpy()
            some = marks_of(table["hash"].to_numpy()[counts], codes[counts])
            marks[count : count + len(some)] = some
            count += len(some)
        marks[:count].sort()
        return cls(source, marks[:count])

    def has(self, ids: Hashes, stamps: Hashes) -> Flags:
        """Whether each candidate is one of them."""
        return is_among(marks_of(ids, stamps), self.marks)

    def has_one(self, hashed: int, code: int) -> bool:
        """Whether one candidate is one of them."""
        mark = np.uint64(hashed ^ (code * _MIX_OF_ONE & _ALL_BITS))
        place = self.marks.searchsorted(mark)
        return bool(place < len(self.marks) and self.marks[place] == mark)


def is_among(wanted: Hashes, of: Hashes) -> Flags:
    """Whether each value is among sorted ones; quicker than one by one where there are many."""
    if not len(of):
        return np.zeros(len(wanted), np.bool_)
    order = np.argsort(wanted)
    in_order = wanted[order]
    places = np.minimum(np.searchsorted(of, in_order), len(of) - 1)
    result = np.empty(len(wanted), np.bool_)
    result[order] = of[places] == in_order
    return result


T = TypeVar("T")


class RowsRead:
    """The lines of the lists of one recipe: those that were read before, and those that are read now.

    For one reading of all lists. Leaving the ``with`` block without ``write`` forgets what was noted.

    Args:
        path: of the file of lines that were read before; it need not exist.
        source: the name of the source.
        settled: candidates whose lines are passed over; None: all lines are read.
        repeated: hashes of identities whose lines are read in any case, sorted.
    """

    def __init__(self, path: Path, source: str, settled: Settled | None = None, repeated: Hashes = NONE) -> None:
        self._path, self._source, self._settled, self._repeated = path, source, settled, repeated
        self._noted: list[Hashes] = []  # identities, where lines may be passed over
        self._rows = 0  # that were noted and are not in ``_new``
        self._inside: list[int] = []
        self._new = array("Q")  # rows of the file, one behind the other
        self._left = array("Q")  # of them the identities of those that were read and are not passed over
        self._settled_ids = array("Q")  # of them the others
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()

    def of_list(self, how: int) -> "Look":
        """What looks up the lines of one list. ``how``: hash of how it is read."""
        return Look(self, how)

    @property
    def looks_up(self) -> bool:
        """Whether lines may be passed over."""
        return self._settled is not None

    def look_up(self, hashes: Hashes, *, is_first: bool) -> Flags:
        """Which lines are passed over; ``is_first``: but for the first one."""
        passed = np.zeros(len(hashes), np.bool_)
        if self._settled is not None:
            places, rows = _find(self._path, hashes)
            known, ids = self._spool
            known.add(rows)
            passed[places] = self._settled.has(rows[:, 1], rows[:, 2]) & ~is_among(rows[:, 1], self._repeated)
            if is_first and passed.any():
                passed[passed.argmax()] = False
            ids.add(rows[passed[places], 1:2])
        return passed

    def not_passed(self, line: int) -> None:
        """Tell that a line was no row, but part of one."""
        self._inside.append(line)

    def note(self, line: int, identity: str, stamp: str) -> bool:
        """What a row means that was read, if it is none of the list's faults; whether it is passed over.

        Args:
            line: hash of its line; 0: it is not one line.
            identity: of the candidate.
            stamp: of it.
        """
        hashed, code = hash_of(self._source, identity), stamp_code(stamp)
        self._new.extend((line, hashed, code))
        is_settled = self._settled is not None and self._settled.has_one(hashed, code)
        if self._settled is not None:
            (self._settled_ids if is_settled else self._left).append(hashed)
        if len(self._new) >= _WAITING * _COLUMNS:
            self._spool_new()
        return is_settled

    def also_passed(self) -> Hashes:
        """The identities of which a line was passed over and another one was there, sorted.

        A line that was read is among them too: which is the first one that counts is not seen where not all are read.
        """
        self._spool_new()
        noted, found = np.unique(np.concatenate([NONE, *self._noted])), [NONE]
        for rows in self._spool[1].read(1):
            passed = np.sort(rows[:, 0])
            found += [passed[1:][passed[1:] == passed[:-1]], noted[is_among(noted, passed)]]
        return np.unique(np.concatenate(found))

    def passed(self) -> Hashes:
        """The identities of all lines that were passed over, sorted. The marks of settled candidates are gone then.

        They are written over: of ten million candidates each of both takes 80 MB.
        """
        rows, marks = self._spool[1].rows, NONE if self._settled is None else self._settled.marks
        ids, end = marks if rows <= len(marks) else np.empty(rows, np.uint64), 0
        inside = np.unique(_find(self._path, np.array(self._inside, np.uint64))[1][:, 1])
        for of_bucket in self._spool[1].read(1):
            some = np.sort(of_bucket[:, 0])
            some = some[~is_among(some, inside)] if len(inside) else some
            ids[end : end + len(some)] = some
            end += len(some)
        return ids[:end]

    def write(self) -> None:
        """Keep what was noted of all lists, for the next time. Of short lists it is not worth a file."""
        if not self._path.is_file() and len(self._new) // _COLUMNS + self._rows < FEWEST:
            return
        self._spool_new()
        whole = self._folder / "whole"
        with whole.open("wb") as file:
            for rows in self._spool[0].read(_COLUMNS):
                rows = rows[np.argsort(rows[:, 0])]
                rows[np.append(True, rows[1:, 0] != rows[:-1, 0])[: len(rows)]].tofile(file)
        os.replace(whole, self._path)

    def _spool_new(self) -> None:
        rows = np.array(self._new, np.uint64).reshape(-1, _COLUMNS)
        self._new = array("Q")
        self._rows += len(rows)
        self._noted.append(np.array(self._left, np.uint64))
        self._spool[0].add(rows[rows[:, 0] != 0])
        self._spool[1].add(np.array(self._settled_ids, np.uint64).reshape(-1, 1))
        self._left, self._settled_ids = array("Q"), array("Q")

    @cached_property
    def _spool(self) -> tuple["_Buckets", "_Buckets"]:
        """The lines of all lists, and the identities of those that were passed over."""
        lines, ids = (self._files.enter_context(_Buckets(self._folder / name)) for name in ("lines", "ids"))
        return lines, ids

    @cached_property
    def _folder(self) -> Path:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Of this name it is removed by a later run if this one is killed, see ``stages.scratch``.
        prefix = f"stoker-{os.getpid()}-"
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=self._path.parent, ignore_cleanup_errors=True)
        return Path(self._files.enter_context(folder))


class _Buckets:
    """Rows in files, those of hashes that begin alike in one file, so that they can be sorted one file at a time."""

    rows = 0

    def __init__(self, prefix: Path) -> None:
        self._files = [prefix.with_suffix(f".{number}").open("w+b", buffering=0) for number in range(_BUCKETS)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files:
            file.close()

    def add(self, rows: Hashes) -> None:
        """Add rows; the first column is the hash."""
        self.rows += len(rows)
        rows = rows[np.argsort(rows[:, 0])]
        starts = np.searchsorted(rows[:, 0] >> _SHIFT, np.arange(1, _BUCKETS, dtype=np.uint64))
        for file, some in zip(self._files, np.split(rows, starts), strict=True):
            some.tofile(file)

    def read(self, columns: int) -> Iterator[Hashes]:
        """The rows of each file; those of lesser hashes are in files before."""
        for file in self._files:
            file.seek(0)
            yield np.fromfile(file, np.uint64).reshape(-1, columns)


class Look:
    """Looks up the lines of one list, many at a time.

    The first line that would be passed over is not: it may tell what columns there are.
    """

    def __init__(self, rows_read: RowsRead, how: int) -> None:
        self._rows_read, self._how, self._is_first = rows_read, how, True

    @property
    def at_once(self) -> int:
        """How many lines to look up at a time: many where a file of them is read for it."""
        return LINES if self._rows_read.looks_up else _FEW

    def __call__(self, lines: Sequence[bytes]) -> tuple[Hashes, Flags]:
        """The hashes of lines, and which are passed over."""
        hashes = hashes_of_lines(lines, self._how)
        passed = self._rows_read.look_up(hashes, is_first=self._is_first)
        self._is_first = self._is_first and not passed.any()
        return hashes, passed

    def inside(self, line: int) -> None:
        """Tell that a line that was to be passed over is inside a row. ``line``: its hash."""
        self._rows_read.not_passed(line)


@dataclass(frozen=True)
class Unsettled(Generic[T]):
    """What lists name but for settled candidates that are there once.

    Args:
        listed: the others, in order.
        passed: hashes of the identities of those candidates, sorted.
    """

    listed: PackedRows[T]
    passed: Hashes


def read_unsettled(
    read: Callable[[RowsRead], Iterator[T]],
    row: Callable[..., T],
    path: Path,
    source: str,
    settled: Settled,
    *,
    most: int,
) -> Unsettled[T] | None:
    """What ``read`` gives of lists, as named tuples of the class ``row``.

    None where nothing is passed over, there are more than so many others, or little is known and was read before.
    """
    repeated = NONE
    while path.is_file() or len(settled.marks) >= FEWEST:
        with RowsRead(path, source, settled, repeated) as rows_read:
            found = PackedRows(islice(read(rows_read), most + 1), row)
            if len(found) > most:
                return None
            if not len(more := rows_read.also_passed()):
                rows_read.write()
                passed = rows_read.passed()
                return Unsettled(found, passed) if len(passed) else None
            repeated = np.union1d(repeated, more)
    return None


def _find(path: Path, hashes: Hashes) -> tuple[npt.NDArray[np.intp], Hashes]:
    """The places of those hashes that the file has, and its rows of them."""
    places, rows, begin = [np.zeros(0, np.intp)], [np.zeros((0, _COLUMNS), np.uint64)], 0
    if not len(hashes) or not path.is_file():
        return places[0], rows[0]
    order = np.argsort(hashes)
    wanted = hashes[order]
    into = np.empty((_SLICE, _COLUMNS), np.uint64)  # of each slice: new memory costs as much as reading
    with path.open("rb") as file:
        while begin < len(wanted) and (count := file.readinto(into.data) // _ROW):
            some = into[:count]
            here = np.ascontiguousarray(some[:, 0])
            end = int(np.searchsorted(wanted, here[-1], side="right"))
            at = np.minimum(np.searchsorted(here, wanted[begin:end]), len(here) - 1)  # a damaged file may be unsorted
            found = here[at] == wanted[begin:end]
            places.append(order[begin:end][found])
            rows.append(some[at[found]])
            begin = end
    return np.concatenate(places), np.concatenate(rows)
