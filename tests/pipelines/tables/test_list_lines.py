"""Lines of lists: each has its number and its text or fault, whatever ends it and wherever it is read in pieces."""

import codecs
import io
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stoker.pipelines.memory.rows_read import Flags, Hashes, Look, RowsRead, Settled, hashes_of_lines
from stoker.pipelines.tables.list_lines import MAX_LINE, Line, read_lines
from stoker.storage.versions.memory.outcomes import hashes_of

_LINE_END = re.compile(r"\r*\n|\r")
ENDS = ("\n", "\r\n", "\r", "\r\r\n")


class Dribbling(io.BytesIO):
    """A file that gives a few bytes at each read, so that each place is once the border of two reads."""

    def __init__(self, content: bytes, seed: int) -> None:
        super().__init__(content)
        self._random = random.Random(seed)

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(2 * self._random.randint(2, 4))  # a byte order mark is never cut


def expected(text: str) -> list[str]:
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def encoded(text: str, encoding: str) -> bytes:
    return codecs.BOM_UTF16_LE + text.encode("utf-16-le") if encoding == "utf-16" else text.encode(encoding)


def lines_of(file: io.BytesIO) -> Iterator[Line]:
    return read_lines(file, encoding="utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("seed", range(100))
def test_lines_are_the_same_wherever_a_read_ends(encoding: str, seed: int) -> None:
    chance = random.Random(seed)
    text = "x" + "".join(chance.choice((*ENDS, "a", "bc", "é", " ")) for _ in range(60))
    lines = list(lines_of(Dribbling(encoded(text, encoding), seed)))
    assert [line.text for line in lines] == expected(text)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert not any(line.fault for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("ends", [("\n",), ("\r\n",), ("\r",), ENDS])
def test_no_line_of_a_large_file_is_lost(encoding: str, ends: tuple[str, ...]) -> None:
    """Several MiB: beyond the longest line, and over the borders of many reads."""
    chance = random.Random(len(ends))
    texts = [f"{number} {'x' * chance.randrange(200_000)}" for number in range(40)]
    content = encoded("".join(text + chance.choice(ends) for text in texts), encoding)
    assert len(content) > 3 * MAX_LINE
    assert [line.text for line in lines_of(io.BytesIO(content))] == texts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("end", ENDS)
def test_a_line_that_is_too_long_costs_itself_alone(encoding: str, end: str) -> None:
    for length in (MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE + 12_345):
        content = encoded(end.join(["first", "x" * length, "third", "y" * length]), encoding)
        lines = list(lines_of(io.BytesIO(content)))
        assert [line.text for line in lines if not line.fault][:1] == ["first"]
        assert [bool(line.fault) for line in lines] == [False, length > MAX_LINE, False, length > MAX_LINE]
        assert [line.number for line in lines] == [1, 2, 3, 4]
        assert lines[2].text == "third"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_line_ends_alone_are_empty_lines_and_are_read_in_linear_time(encoding: str) -> None:
    for count in (1, 2, 65_535, 65_536, MAX_LINE + 100_000):
        began = time.process_time()
        for before in ("", "x"):
            content = encoded(before + "\r" * count, encoding)
            assert sum(1 for line in lines_of(io.BytesIO(content)) if not line.fault) == count
        assert time.process_time() - began < 60  # some 2 s for 2 MiB; quadratic would be hours


def test_lines_that_are_looked_up_are_those_that_are_read_but_for_known_ones(tmp_path: Path) -> None:
    lines = [b"known", b"a", b"x" * (MAX_LINE + 70_000) + b"known", b"", b"known", b"\xff", b"b", b"known"]
    with RowsRead(tmp_path / "lines", "s", Settled("s", hashes_of("s", ["known"]))) as rows_read:
        rows_read.note(int(hashes_of_lines([b"known"], 7)[0]), "known", "")
        (tmp_path / "lines").write_bytes(b"")  # short lists leave no file, but where there was one
        rows_read.write()
    read = list(read_lines(io.BytesIO(b"\n".join(lines)), encoding="utf-8"))
    for keeps_known in (False, True):
        with RowsRead(tmp_path / "lines", "s", Settled("s", hashes_of("s", ["known"]))) as rows_read:
            look, file = rows_read.of_list(7), io.BytesIO(b"\n".join(lines))
            looked_up = list(read_lines(file, encoding="utf-8", look=look, keeps_known=keeps_known))
        known = [line.number for line in read if line.text == "known"][1:]  # the first may tell the columns
        assert [line.number for line in looked_up if line.is_known] == (known if keeps_known else [])
        left = [line for line in read if keeps_known or line.number not in known]
        assert [line._replace(written=0, is_known=False) for line in looked_up] == left


def test_lines_that_are_looked_up_together_are_bounded_however_long_each_is(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Measuring(Look):
        def __call__(self, lines: Sequence[bytes]) -> tuple[Hashes, Flags]:
            sizes.append(sum(map(len, lines)))
            return super().__call__(lines)

    content = b"".join(b"%d" % (number % 10) * MAX_LINE + b"\n" for number in range(40))
    with RowsRead(tmp_path / "lines", "s", Settled("s", hashes_of("s", ["known"]))) as rows_read:
        look = Measuring(rows_read, 7)
        read = [len(line.text) for line in read_lines(io.BytesIO(content), encoding="utf-8", look=look)]
    assert read == [MAX_LINE] * 40
    assert sum(sizes) == 40 * MAX_LINE
    assert max(sizes) <= (16 << 20) + MAX_LINE
