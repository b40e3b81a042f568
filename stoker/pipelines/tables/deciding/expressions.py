"""An SQL expression over the columns of a row: which it reads, and whether it depends on that row alone.

DuckDB's own parser tells. What is refused: subqueries, aggregates and windows, which see other rows; functions that do
not exist, or whose value is another one each time; functions that make a value of any size (``sizes``); and what is no
single expression.
"""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from stoker.pipelines.tables.deciding.columns import TABLE, columns
from stoker.pipelines.tables.deciding.determined import fault
from stoker.pipelines.tables.deciding.sizes import check_sizes
from stoker.storage.versions.queries.duck import nodes, parse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function, whose value depends on other rows",
    "STAR": "*, which stands for several columns",
    "PARAMETER": "a parameter ($ or ?)",
}
_PLACES = ("query_location", "query_location_length")


def columns_in(database: "DuckDBPyConnection", expression: str) -> tuple[str, ...]:
    """See ``sql.columns_in``. Raises ValueError in one line."""
    query = f"SELECT\n{expression}\nFROM {TABLE}"  # only parsed
    node, plain = _parsed(database, query), _parsed(database, f"SELECT 1 FROM {TABLE}")  # noqa: S608
    if len(node["select_list"]) != 1 or _around(node) != _around(plain):
        raise ValueError("expected one SQL expression over the columns of a sample, as in: width >= 256")
    (tree,) = node["select_list"]
    if tree["alias"]:
        raise ValueError("expected an expression without a name of its own")
    for inner in nodes(tree):
        if word := _REFUSED.get(str(inner.get("class"))):
            raise ValueError(f"it holds {word}; expected an expression over the columns of one sample")
    names = tuple(dict.fromkeys(columns(tree, frozenset())))
    _check_functions(database, tree)
    check_sizes(tree)
    if wrong := fault(database, f"{query} ORDER BY 1", names):
        raise ValueError(wrong)
    return names


def _parsed(database: "DuckDBPyConnection", query: str) -> dict[str, Any]:  # Any: DuckDB's JSON
    tree = parse(database, query)
    if tree["error"]:
        raise ValueError(f"no SQL expression: {' '.join(str(tree.get('error_message')).split())}")
    if len(tree["statements"]) != 1 or tree["statements"][0]["node"]["type"] != "SELECT_NODE":
        raise ValueError("expected one SQL expression, found several statements")
    node: dict[str, Any] = tree["statements"][0]["node"]
    return node


def _around(node: dict[str, Any]) -> Any:  # Any: JSON
    """A query without its expression, and without places in its text."""
    return _without_places({name: value for name, value in node.items() if name != "select_list"})


def _without_places(tree: Any) -> Any:  # Any: JSON
    if isinstance(tree, dict):
        return {name: _without_places(value) for name, value in tree.items() if name not in _PLACES}
    return [_without_places(value) for value in tree] if isinstance(tree, list) else tree


def _check_functions(database: "DuckDBPyConnection", tree: Any) -> None:  # Any: JSON
    """Raise ValueError for a function that does not exist, or that sees more than its row."""
    called = {node["function_name"].lower() for node in nodes(tree) if node.get("class") == "FUNCTION"}
    for name in sorted(called):
        kinds = _functions(database).get(name)
        if kinds is None and name not in _OPERATORS:
            near = get_close_matches(name, sorted(_functions(database)), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see the list of functions of DuckDB"
            raise ValueError(f"no function is called {name!r}; {hint}")
        if name == "unnest" or (kinds and kinds.isdisjoint({"scalar", "macro"})):
            raise ValueError(f"it calls {name}, which is no function of one row; expected one that is")


_OPERATORS = frozenset({"!", "@", "between"})  # of the grammar, which DuckDB lists as no functions


def _functions(database: "DuckDBPyConnection") -> dict[str, frozenset[str]]:
    if not _KINDS:
        rows = database.execute(
            "SELECT DISTINCT lower(function_name), function_type FROM duckdb_functions()"
        ).fetchall()
        for name, kind in rows:
            _KINDS[name] = _KINDS.get(name, frozenset()) | {kind}
    return _KINDS


_KINDS: dict[str, frozenset[str]] = {}  # of functions by name, once they are known: that takes 0.1 s
