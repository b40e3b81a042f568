"""Whether a query's result depends on its tables alone, and comes in an order of its own: asked of DuckDB's parser.

What is refused: functions that DuckDB does not call consistent (``random()``, ``now()``), what only stands for them
(``current_date``, ``ago()``), samples of a table, and a query whose last step has no ORDER BY.
"""

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from stoker.storage.versions.queries.duck import nodes, parse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Called without parentheses, so that they look like columns.
_BARE = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
_BARE |= {"current_user", "current_role", "session_user", "user"}
_WORD = re.compile(r"\w+")
_CHANGING: list[frozenset[str]] = []  # once they are known: that takes 0.1 s; ``cache`` would keep the connection


def fault(database: "DuckDBPyConnection", query: str, columns: Collection[str]) -> str:
    """Why the result of a SELECT is not determined by its tables; "" if it is.

    Args:
        database: a connection, for its parser and its list of functions.
        query: one SELECT.
        columns: names of the tables' columns, which stand before functions that are called without parentheses.
    """
    tree: Any = parse(database, query)  # Any: DuckDB's JSON
    if tree["error"]:  # its syntax is right; some statements that count as SELECT are none
        return f"its functions cannot be looked at ({tree.get('error_message')}); expected a plain SELECT"
    names = {name.lower() for name in columns}
    refused = _changing(database)
    for name in _called(tree):
        if name in refused and not (name in names and name in _BARE):
            return f"it calls {name}, whose value is another one each time; a rule's decisions depend on its rows alone"
    if any(node.get("sample") for node in nodes(tree)):
        return "it takes a sample of rows, another one each time; a rule's decisions depend on its rows alone"
    modifiers = tree["statements"][0]["node"].get("modifiers") or []
    if not any(one["type"] == "ORDER_MODIFIER" for one in modifiers):
        return (
            "it has no ORDER BY at its end, so that its rows may come in any order; let it end in that of a unique key"
        )
    return ""


def _called(tree: Any) -> Iterator[str]:  # Any: JSON
    """The names of functions, and of columns, which may be functions without parentheses."""
    for node in nodes(tree):
        if node.get("class") == "FUNCTION":
            yield node["function_name"].lower()
        elif node.get("class") == "COLUMN_REF" and node["column_names"][0].lower() in _BARE:
            yield node["column_names"][0].lower()


def _changing(database: "DuckDBPyConnection") -> frozenset[str]:
    """The functions whose value does not depend on their arguments alone, and the macros that call them."""
    if _CHANGING:
        return _CHANGING[0]
    rows = database.execute("SELECT function_name, stability, macro_definition FROM duckdb_functions()").fetchall()
    names = {name for name, stability, _ in rows if stability not in (None, "CONSISTENT")} - {"error"}
    names |= _BARE
    more = {name for name, _, macro in rows if macro and not names.isdisjoint(_WORD.findall(macro))}
    _CHANGING.append(frozenset(names | more))
    return _CHANGING[0]
