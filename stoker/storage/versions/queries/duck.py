"""Databases of DuckDB that see the tables that they are given, and nothing else.

No files, no network, no extensions, no variables of Python. DuckDB is imported by the first database: it takes 0.1 s.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    import duckdb

MEMORY = "40%"  # of the machine, or of what its container may use: the process that asks holds tables, too
_MAX_TEXT = 300  # characters of DuckDB's message


class BadQuery(StokerError, ValueError):
    """DuckDB refuses a query, or it is not what was expected. The message is one line."""


def open_database(folder: Path, memory: str = MEMORY, *, threads: int = 1) -> "duckdb.DuckDBPyConnection":
    """An empty database, whose configuration is locked.

    Args:
        folder: for what does not fit into memory; it is not written to otherwise.
        memory: the most that DuckDB's own buffers take, as its ``memory_limit`` says it.
        threads: 1: the same order of work each time.
    """
    import duckdb

    config: dict[str, Any] = {  # Any: DuckDB's options are of several types
        "threads": threads,
        "memory_limit": memory,
        "temp_directory": str(folder),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,  # variables of Python are no tables
    }
    database = duckdb.connect(":memory:", config=config)
    # Afterwards: without access to files DuckDB takes no temporary directory, which it still writes to when it has one.
    database.execute(
        "SET TimeZone = 'UTC'; "  # that of the machine would decide what day a time falls on
        "SET enable_progress_bar = false; SET enable_external_access = false; SET lock_configuration = true"
    )
    return database


def parse(database: "duckdb.DuckDBPyConnection", query: str) -> Any:  # Any: DuckDB's JSON
    """What DuckDB's parser makes of a query, as JSON: ``statements``, or ``error`` and what is wrong with it.

    Statements that are no SELECT are errors.
    """
    ((text,),) = database.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    return json.loads(text)


def nodes(tree: Any) -> Iterator[dict[str, Any]]:  # Any: JSON
    """All objects in the JSON of a query, outer ones first."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def one_line(text: str, most: int = _MAX_TEXT) -> str:
    """A message of DuckDB, or a query, in one line that is not too long."""
    return " ".join(text.split())[:most]
