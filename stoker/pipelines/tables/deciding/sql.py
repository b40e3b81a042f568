"""Queries of tables in memory by DuckDB, which is imported by the first one.

Price: a database is made for each query, about 15 ms.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from stoker.pipelines.tables.deciding import expressions
from stoker.pipelines.tables.deciding.determined import fault
from stoker.storage.versions.queries.duck import MEMORY as MEMORY
from stoker.storage.versions.queries.duck import BadQuery as BadQuery
from stoker.storage.versions.queries.duck import one_line, open_database


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
        message = one_line(str(error))
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
        with open_database(Path(), MEMORY) as database:
            return expressions.columns_in(database, expression)
    except ValueError as error:
        message = str(error)
    except duckdb.Error as error:
        message = one_line(str(error))
    raise BadQuery(message)  # from nothing: see ``select``


def _answer(
    query: str, tables: Mapping[str, pa.Table], values: Mapping[str, object], folder: Path, memory: str
) -> pa.Table:
    """See ``select``. Raises BadQuery, or DuckDB's own errors."""
    import duckdb

    with open_database(folder, memory) as database:
        statements = database.extract_statements(query)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise BadQuery(f"expected one SELECT, found {len(statements)} statements: {one_line(query)}")
        columns = {name for table in tables.values() for name in table.column_names}
        if wrong := fault(database, query, columns):
            raise BadQuery(f"{wrong}: {one_line(query)}")
        for name, table in tables.items():
            database.register(name, table)
        return database.sql(query, params=dict(values) or None).to_arrow_table()
