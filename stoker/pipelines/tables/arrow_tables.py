"""Tables of rows, wherever they lie: Parquet and Arrow files, read in ranges with a bounded part in memory."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.pipelines.errors import SourceBroken

_BATCH = 64  # rows in memory at once
Row = Mapping[str, Any]  # Any: whatever a column holds


@dataclass(frozen=True, slots=True)
class Column:
    """What must be known of a column to use it."""

    kind: str  # "image", "label", "text" or "other"
    names: tuple[str, ...] = ()  # of the classes that the numbers of a label stand for


def columns_of(features: Mapping[str, Any]) -> dict[str, Column]:  # Any: JSON values
    """Columns from the features that the ``datasets`` library writes.

    >>> columns_of({"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}})["label"].names
    ('cat', 'dog')
    """
    found: dict[str, Column] = {}
    for name, feature in features.items():
        kind = feature.get("_type", "") if isinstance(feature, dict) else ""
        if kind == "Image":
            found[name] = Column("image")
        elif kind == "ClassLabel":
            found[name] = Column("label", tuple(map(str, feature.get("names") or ())))
        elif kind == "Value" and str(feature.get("dtype", "")) in ("string", "large_string", "string_view"):
            found[name] = Column("text")
        else:
            found[name] = Column("other")
    return found


def columns(path: Path) -> dict[str, Column]:
    """The columns of a Parquet or Arrow file. Raises SourceBroken."""
    with _schema(path) as schema:
        said = (schema.metadata or {}).get(b"huggingface")
        try:
            features = json.loads(said)["info"]["features"] if said else {}
        except (ValueError, KeyError, TypeError):
            features = {}
        known = columns_of(features) if isinstance(features, dict) else {}
        return {field.name: known.get(field.name) or _guessed(field.type) for field in schema}


def count(path: Path) -> int:
    """How many rows a file has. Raises SourceBroken."""
    with _reading(path):
        if _is_parquet(path):
            return int(pq.read_metadata(path).num_rows)
        return sum(batch.num_rows for batch in _arrow(path))


def rows(path: Path, start: int, stop: int) -> Iterator[Row]:
    """The rows of a range of a file in order. Raises SourceBroken."""
    with _reading(path):
        for first, batch in _batches(path, start, stop):
            yield from batch.slice(max(0, start - first), stop - max(start, first)).to_pylist()


def _batches(path: Path, start: int, stop: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches that hold rows of the range, each with the number of its first row."""
    place = 0
    if not _is_parquet(path):
        for batch in _arrow(path):
            for offset in range(0, batch.num_rows, _BATCH):
                piece = batch.slice(offset, _BATCH)
                if place < stop and place + piece.num_rows > start:
                    yield place, piece
                place += piece.num_rows
            if place >= stop:
                return
        return
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if place < stop and place + size > start:
                inside = place
                for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group]):
                    if inside < stop and inside + batch.num_rows > start:
                        yield inside, batch
                    inside += batch.num_rows
            place += size


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file, or of an Arrow stream as ``datasets`` keeps them."""
    with pa.memory_map(str(path)) as source:
        if _begins(path, b"ARROW1"):
            reader = pa.ipc.open_file(source)
            yield from (reader.get_batch(place) for place in range(reader.num_record_batches))
        else:
            yield from pa.ipc.open_stream(source)


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _is_parquet(path: Path) -> bool:
    return _begins(path, b"PAR1")


@contextmanager
def _schema(path: Path) -> Iterator[pa.Schema]:
    with _reading(path):
        if _is_parquet(path):
            yield pq.read_schema(path)
        else:
            with pa.memory_map(str(path)) as source:
                opened = pa.ipc.open_file if _begins(path, b"ARROW1") else pa.ipc.open_stream
                yield opened(source).schema


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split())[:200]
        raise SourceBroken(f"{path}: neither Parquet nor Arrow that can be read: {what}") from error


def _guessed(kind: pa.DataType) -> Column:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Column("image")
    if pa.types.is_struct(kind) and "bytes" in [field.name for field in kind]:
        return Column("image")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Column("text")
    return Column("other")
