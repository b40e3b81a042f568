"""Objects as they lie in stores: these bytes are read by this and every later code."""

import io
from pathlib import Path

import pyarrow.parquet as pq

FOLDER = Path(__file__).parents[1] / "golden" / "memory"


def golden(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def is_written_as(payload: bytes, name: str) -> bool:
    """Whether the bytes are the golden ones; of Parquet only where the same release of its library wrote both."""
    expected = golden(name)
    if name.endswith(".json"):
        return payload == expected
    writers = [pq.read_metadata(io.BytesIO(one)).created_by for one in (payload, expected)]
    return payload == expected if writers[0] == writers[1] else True
