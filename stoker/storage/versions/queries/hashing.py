"""SHA-256 of the texts of a column: of many by DuckDB, as a loop of Python's holds up all other threads."""

import hashlib
import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.versions.queries.duck import open_database

_MANY = 100_000  # from which on DuckDB's start is worth it
_PIECE = 1 << 16  # texts that are Python's at a time
_HASHED = "SELECT ('0x' || sha256($before || encode(text))[:16])::UBIGINT AS hash FROM texts"


def short_hashes(before: bytes, texts: pa.ChunkedArray, *, many: int = _MANY) -> npt.NDArray[np.uint64]:
    """Of each text the first 8 bytes of the SHA-256 of ``before`` and the text, as a number; in their order.

    >>> short_hashes(b"split", pa.chunked_array([["a", ""]])).tolist()
    [892288288156699934, 12473392092734468943]
    """
    if len(texts) >= many:
        with open_database(Path(tempfile.gettempdir())) as database:  # where it writes nothing for this
            database.register("texts", pa.table({"text": texts}))
            table = database.sql(_HASHED, params={"before": before}).to_arrow_table()
        found: npt.NDArray[np.uint64] = table["hash"].to_numpy()
        return found
    pieces = (texts.slice(start, _PIECE).to_pylist() for start in range(0, len(texts), _PIECE))
    return short_hashes_of(before, chain.from_iterable(pieces))


def short_hashes_of(before: bytes, texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """The same of texts of Python's, in one thread; they may have surrogates, as names of files do."""
    begun, digests = hashlib.sha256(before), bytearray()
    for text in texts:
        digest = begun.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        digests += digest.digest()[:8]
    return np.frombuffer(bytes(digests), ">u8").astype(np.uint64)
