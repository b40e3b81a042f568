"""Queries of tables in memory by DuckDB, which is imported here alone, and by the first query.

The database sees the tables that it is given and nothing else: no files, no network, no extensions, no variables of
Python. Its configuration is locked. Price: a database is made for each query, about 15 ms.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from stoker.pipelines.tables.deciding import expressions
from stoker.pipelines.tables.deciding.determined import fault

if TYPE_CHECKING:
    import duckdb

MEMORY = "40%"  # of the machine, or of what its container may use: the process that asks holds tables, too
_MAX_TEXT = 300  # characters of DuckDB's message


class BadQuery(ValueError):
    """DuckDB refuses a query, or it is no single SELECT with an order. The message is one line."""


def select(
    query: str, tables: Mapping[str, pa.Table], values: Mapping[str, object], *, folder: Path, memory: str = MEMORY
) -> pa.Table:
    """The result of a SELECT over tables. Raises BadQuery.

    Args:
        tables: by their names in the query.
        values: of its parameters, by name.
        folder: for what does not fit into memory; it is not written to otherwise.
        memory: the most that DuckDB's own buffers take, as its ``memory_limit`` says it.

    >>> numbers = pa.table({"key": ["b", "a", "c"], "n": [1, 2, 3]})
    >>> select("SELECT key FROM t WHERE n < $n ORDER BY key", {"t": numbers}, {"n": 3}, folder=Path()).to_pylist()
    [{'key': 'a'}, {'key': 'b'}]
    """
    import duckdb  # not with this module: it takes 0.1 s, and few rules ask anything

    try:
        return _answer(query, tables, values, folder, memory)
    except BadQuery as error:
        message = str(error)
    except duckdb.Error as error:
        message = _one_line(str(error))
    # Raised here and from nothing: by the frames of its causes an error would keep DuckDB's objects until Python ends,
    # and the library prints a page about each that is still there then.
    raise BadQuery(message)


def columns_in(expression: str) -> tuple[str, ...]:
    """The columns that an expression over rows reads, in the order of their mention. Raises BadQuery.

    >>> columns_in("width >= 256 and licence like 'CC%'")
    ('width', 'licence')
    """
    import duckdb

    try:
        with _database(Path(), MEMORY) as database:
            return expressions.columns_in(database, expression)
    except ValueError as error:
        message = str(error)
    except duckdb.Error as error:
        message = _one_line(str(error))
    raise BadQuery(message)  # from nothing: see ``select``


def _answer(
    query: str, tables: Mapping[str, pa.Table], values: Mapping[str, object], folder: Path, memory: str
) -> pa.Table:
    """See ``select``. Raises BadQuery, or DuckDB's own errors."""
    import duckdb

    with _database(folder, memory) as database:
        statements = database.extract_statements(query)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise BadQuery(f"expected one SELECT, found {len(statements)} statements: {_one_line(query)}")
        columns = {name for table in tables.values() for name in table.column_names}
        if wrong := fault(database, query, columns):
            raise BadQuery(f"{wrong}: {_one_line(query)}")
        for name, table in tables.items():
            database.register(name, table)
        return database.sql(query, params=dict(values) or None).to_arrow_table()


def _database(folder: Path, memory: str) -> "duckdb.DuckDBPyConnection":
    import duckdb

    config: dict[str, Any] = {  # Any: DuckDB's options are of several types
        "threads": 1,  # the same order of work each time; a task has one processor
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


def _one_line(text: str, most: int = _MAX_TEXT) -> str:
    return " ".join(text.split())[:most]
