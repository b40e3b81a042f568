"""The names of columns in an SQL expression that DuckDB's parser took apart, and those that only look like columns."""

from collections.abc import Iterator
from typing import Any

from stoker.storage.versions.queries.duck import nodes

TABLE = "rows"
_NO_PLACE = 2**64 - 1  # DuckDB's place of a name that stands nowhere as a column: the parameter of a lambda


def columns(tree: Any, parameters: frozenset[str]) -> Iterator[str]:  # Any: JSON
    """The names of columns, but for those that are parameters of a lambda around them."""
    if isinstance(tree, list):
        for value in tree:
            yield from columns(value, parameters)
    elif isinstance(tree, dict):
        if tree.get("class") == "COLUMN_REF":
            names = tree["column_names"]
            name = names[1] if len(names) > 1 and names[0] == TABLE else names[0]
            if name not in parameters:
                yield name
        elif tree.get("class") == "LAMBDA" and (own := parameters_of(tree["lhs"])):
            yield from columns(tree["expr"], parameters | own)
        else:
            for value in tree.values():
                yield from columns(value, parameters)


def parameters_of(tree: Any) -> frozenset[str]:  # Any: JSON
    """The parameters of ``lambda x: ...``; none for the arrow of JSON, which DuckDB's parser takes for a lambda too."""
    names = (node for node in nodes(tree) if node.get("class") == "COLUMN_REF")
    return frozenset(node["column_names"][0] for node in names if node["query_location"] == _NO_PLACE)
