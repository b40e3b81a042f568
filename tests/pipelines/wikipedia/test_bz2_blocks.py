"""bz2 read block by block: one damage costs one block at most, and what is returned is always what was packed."""

import bz2
import io
import random
import time
import tracemalloc

import pytest

from stoker.pipelines.wikipedia.bz2_blocks import Gap, read_bz2

_RANDOM = random.Random(7)
RAW = "".join(_RANDOM.choices("abcdefghijklmnopqrstuvwxyz \n<>/", k=430_000)).encode()
SINGLE = bz2.compress(RAW, 1)  # five blocks
MULTI = b"".join(bz2.compress(RAW[start : start + 60_000], 1) for start in range(0, len(RAW), 60_000))
BLOCK = 100_000  # bytes of data


def read(content: bytes) -> tuple[list[bytes], list[Gap]]:
    """The runs of data between gaps, and the gaps."""
    runs, gaps = [b""], []
    for piece in read_bz2(io.BytesIO(content), 0, len(content)):
        if isinstance(piece, Gap):
            gaps.append(piece)
            runs.append(b"")
        else:
            runs[-1] += piece
    return [run for run in runs if run], gaps


@pytest.mark.parametrize("content", [SINGLE, MULTI, SINGLE + MULTI, bz2.compress(b"") + SINGLE + bz2.compress(b"")])
def test_sound_streams_give_their_data(content: bytes) -> None:
    whole = RAW if len(content) < 1.5 * len(SINGLE) else RAW + RAW
    assert read(content) == ([whole], [])


@pytest.mark.parametrize("content", [SINGLE, MULTI], ids=["single", "multi"])
def test_one_flipped_bit_costs_at_most_one_block_which_is_named(content: bytes) -> None:
    for _ in range(25):
        damaged = bytearray(content)
        bit = _RANDOM.randrange(8 * len(content))
        damaged[bit // 8] ^= 1 << bit % 8
        runs, gaps = read(bytes(damaged))
        lost = len(RAW) - sum(map(len, runs))
        assert lost <= BLOCK
        assert len(gaps) == (1 if lost else 0)
        assert all(run in RAW for run in runs)
        assert all(gap.offset <= bit // 8 <= gap.offset + gap.size for gap in gaps)


@pytest.mark.parametrize("end", [0, 5, len(SINGLE) - 1])
def test_the_first_bits_of_streams_and_blocks_may_be_damaged(end: int) -> None:
    damaged = bytearray(SINGLE)
    damaged[end] ^= 0x10
    runs, gaps = read(bytes(damaged))
    assert len(RAW) - sum(map(len, runs)) <= (BLOCK if end == 5 else 0)
    assert len(gaps) == (1 if end == 5 else 0)


def test_the_level_of_a_stream_may_be_damaged() -> None:
    content = bytearray(bz2.compress(RAW, 9))
    content[3] = ord("1")
    assert read(bytes(content)) == ([RAW], [])


def test_streams_are_found_behind_bytes_that_are_none() -> None:
    for junk in (b"x", b"BZh", b"\0" * 700, bytes(range(256)) * 300):
        runs, gaps = read(MULTI + junk + SINGLE)
        assert b"".join(runs) == RAW + RAW
        assert [gap.block for gap in gaps] == ([False] if len(junk) > 20 else [])
        assert [gap.size for gap in read(SINGLE + junk)[1]] == [len(junk)]


def test_a_cut_costs_the_last_block() -> None:
    runs, gaps = read(SINGLE[: len(SINGLE) * 6 // 10])
    assert len(runs) == 1
    assert RAW.startswith(runs[0])
    assert len(runs[0]) >= 0.6 * len(RAW) - BLOCK
    assert "cut short" in gaps[0].message


def test_what_is_no_bz2_at_all_is_one_gap() -> None:
    assert [gap.size for gap in read(b"BZh9junk")[1]] == [8]
    assert [gap.size for gap in read(bytes(100_000))[1]] == [100_000]
    assert read(b"") == ([], [])


def test_blocks_that_hold_far_more_than_they_take_are_read_in_bounded_memory() -> None:
    content = bz2.compress(b" " * (60 << 20))
    tracemalloc.start()
    size = sum(len(piece) for piece in read_bz2(io.BytesIO(content), 0, len(content)) if isinstance(piece, bytes))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 60 << 20
    assert peak < 40 << 20


@pytest.mark.nightly
def test_any_damage_is_found_in_bounded_time() -> None:
    for _ in range(3000):
        content = bytearray(_RANDOM.choice([SINGLE, MULTI]))
        start = _RANDOM.randrange(len(content))
        stop = min(len(content), start + _RANDOM.choice([1, 9, 500, 40_000]))
        kind = _RANDOM.choice(["flip", "cut", "insert", "double"])
        if kind == "flip":
            content[start] ^= 1 << _RANDOM.randrange(8)
        elif kind == "cut":
            del content[start:stop]
        else:
            content[start:start] = content[start:stop] if kind == "double" else _RANDOM.randbytes(stop - start)
        began = time.process_time()
        runs, gaps = read(bytes(content))
        assert time.process_time() - began < 2
        if kind != "double":
            assert all(run in RAW for run in runs)
            assert gaps or b"".join(runs) == RAW
