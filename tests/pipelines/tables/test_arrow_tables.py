"""Compressed Arrow data is measured before it is unpacked, and sound data is read as ever."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.tables.arrow_tables import check_messages, columns, count_rows, read_rows

WRITERS = (pa.ipc.new_file, pa.ipc.new_stream)
CODECS = ("zstd", "lz4", None)
Writer = Callable[..., Any]  # Any: pyarrow names no type of its writers
ZEROS = 24 << 20  # numbers: 192 MB


def write(path: Path, writer: Writer, codec: str | None, batch: pa.RecordBatch) -> Path:
    with writer(str(path), batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as target:
        for start in range(0, batch.num_rows, max(1, batch.num_rows // 3)):
            target.write_batch(batch.slice(start, max(1, batch.num_rows // 3)))
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_a_batch_that_is_made_to_fill_the_memory_is_refused_and_named(tmp_path: Path, writer: Writer) -> None:
    zeros = pa.Array.from_buffers(pa.int64(), ZEROS, [None, pa.py_buffer(bytes(8 * ZEROS))])
    batch = pa.record_batch({"a": zeros})
    path = tmp_path / "zeros.arrow"
    with writer(str(path), batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as target:
        target.write_batch(batch.slice(0, 10))
        target.write_batch(batch)
    assert path.stat().st_size < 100_000
    expected = re.escape(f"{path}: batch 2 makes {8 * ZEROS} bytes of ")
    before = pa.total_allocated_bytes()
    with pytest.raises(SourceBroken, match=expected):
        count_rows(path)
    with pytest.raises(SourceBroken, match=expected):
        list(read_rows(path, 0, 20, ["a"]))
    assert pa.total_allocated_bytes() - before < 1 << 20


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("codec", CODECS)
def test_sound_batches_are_read_with_their_dictionaries(tmp_path: Path, writer: Writer, codec: str | None) -> None:
    texts = [f"text {number % 7}" for number in range(3000)]
    batch = pa.record_batch(
        {"a": range(3000), "d": pa.array(texts).dictionary_encode(), "n": pa.nulls(3000), "l": [[1, None]] * 3000}
    )
    path = write(tmp_path / "sound.arrow", writer, codec, batch)
    assert count_rows(path) == 3000
    assert list(read_rows(path, 0, 3000, list(columns(path)))) == batch.to_pylist()


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_bytes_there_are_they_are_checked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, writer: Writer, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("arrow")
    batch = pa.record_batch({"a": range(30), "d": pa.array(["x", "y"] * 15).dictionary_encode()})
    payload = bytearray(write(folder / "damaged.arrow", writer, "zstd", batch).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    payload = payload[: data.draw(st.integers(0, len(payload)))] if data.draw(st.booleans()) else payload
    with suppress(ValueError):
        assert len(list(check_messages(memoryview(bytes(payload))))) < 1000
