"""Whether the values that an SQL expression makes are at most so many times as large as its row and its own text.

DuckDB neither counts one value as memory nor interrupts the function that makes it: ``repeat('x', 1000000000)``, or
``replace(text, 'e', text)``, of which 10 KB become 100 MB. Known here are the functions whose value is as large as an
argument says, or as the product of two columns (``damerau_levenshtein`` takes that in between). Others make a few times
of what they get, such as ``hex``: of those only many in each other make much, and they are not counted.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stoker.pipelines.tables.deciding.columns import columns, parameters_of
from stoker.storage.versions.queries.duck import nodes

_MOST = 100_000  # times larger than what it is made of is a value at most
_ENDLESS = _MOST + 1
_FIXED = frozenset({"+", "-", "*", "/", "//", "%", "**", "greatest", "least"})  # make no larger value of two

Arguments = Sequence[Any]  # Any: DuckDB's JSON


def check_sizes(tree: Any) -> None:  # Any: DuckDB's JSON
    """Raise ValueError for functions that make values of any size."""
    times = 1
    for node in nodes(tree):
        name = str(node.get("function_name", "")).lower()
        if node.get("class") != "FUNCTION" or name not in _SIZES:
            continue
        # title.lpad(8, '0'): its arguments stand elsewhere than in main.lpad(title, 8, '0'), which looks alike.
        shifted = len(node["qualified_name"]["path"]) > 1
        times *= max(1, _SIZES[name]([one["expression"] for one in node["arguments"]], shifted))
        if times > _MOST:
            raise ValueError(
                f"it calls {name}, whose value may be of any size; expected sizes that are numbers, replacements that "
                f"are texts, and together {_MOST:,} at most, as in lpad(key, 8, '0'); and functions of elements "
                "(lambda) of nothing but the element"
            )


def _number_at(place: int | None) -> Callable[[Arguments, bool], int]:
    """What a number is; of all arguments for None."""

    def size(arguments: Arguments, shifted: bool) -> int:
        if shifted:
            return _ENDLESS
        times = 1
        for one in arguments if place is None else arguments[place : place + 1]:
            times *= _number(one)
        return times

    return size


def _number(tree: Any) -> int:  # Any: JSON
    """What a number in a query is, or the greatest in a text of it; of anything else a number that is too large."""
    literal = tree.get("literal", {})
    if literal.get("kind") == "INTEGER":
        return max(abs(int(literal["text"].replace("_", ""))), 1)
    if literal.get("kind") == "STRING":
        return max(1, *map(int, re.findall(r"\d+", literal["text"])), 1)
    return _ENDLESS


def _printf(arguments: Arguments, shifted: bool) -> int:
    """The greatest width for each of its fields; ``%*d`` takes a width from the arguments."""
    return _widths(arguments, shifted, escape="%%", opens="%", taken=r"%[^%a-zA-Z]*\*")


def _format(arguments: Arguments, shifted: bool) -> int:
    """The greatest width for each of its fields; ``{:{}}`` takes a width from the arguments."""
    return _widths(arguments, shifted, escape="{{", opens="{", taken=r"\{[^}]*\{")


def _widths(arguments: Arguments, shifted: bool, *, escape: str, opens: str, taken: str) -> int:
    literal = arguments[0].get("literal", {}) if arguments else {}
    if shifted or literal.get("kind") != "STRING":
        return _ENDLESS
    text = literal["text"].replace(escape, "")
    return _ENDLESS if re.search(taken, text) else _number(arguments[0]) * max(1, text.count(opens))


def _text_of(kept: slice, shifted_kept: slice) -> Callable[[Arguments, bool], int]:
    """The length of the texts among some of the arguments."""

    def size(arguments: Arguments, shifted: bool) -> int:
        return sum(map(_length, arguments[shifted_kept if shifted else kept]))

    return size


def _length(tree: Any) -> int:  # Any: JSON
    """The length of a text in a query, or the entries of a list in it; of anything else one that is too large."""
    if tree.get("class") == "CONSTANT":
        return len(str(tree.get("literal", {}).get("text", "")))
    name = str(tree.get("function_name", "")).lower()
    if name == "list_value":
        return len(tree["arguments"])
    return 1 if name == "chr" else _ENDLESS


def _for_each(arguments: Arguments, _: bool) -> int:
    """How often the function of an element names it, and the texts in it; a column of the row would come each time."""
    times = 1
    for function in _lambdas(arguments):
        body = function["expr"]
        if any(columns(body, parameters_of(function["lhs"]))):
            return _ENDLESS
        named = sum(node.get("class") == "COLUMN_REF" for node in nodes(body))
        texts = (node["literal"]["text"] for node in nodes(body) if node.get("literal", {}).get("kind") == "STRING")
        times *= max(1, named + sum(map(len, texts)))
    return times


def _reduced(arguments: Arguments, _: bool) -> int:
    """Whatever grows a little for each element would grow with all of them: only numbers are put together.

    ``a + b`` may be two lists: those that are there are as large together as before, but ``a + a`` is not.
    """
    for function in _lambdas(arguments):
        body = function["expr"]
        called = {node["function_name"].lower() for node in nodes(body) if node.get("class") == "FUNCTION"}
        named = [node["column_names"][0] for node in nodes(body) if node.get("class") == "COLUMN_REF"]
        foreign = any(columns(body, parameters_of(function["lhs"])))
        if not called <= _FIXED or ("+" in called and (foreign or len(named) > len(set(named)))):
            return _ENDLESS
    return 1


def _lambdas(arguments: Arguments) -> Iterator[Any]:  # Any: JSON
    return (one for one in arguments if one.get("class") == "LAMBDA")


def _shortest(arguments: Arguments, _: bool) -> int:
    """The length of the shortest argument that is a text."""
    return min(map(_length, arguments), default=1)


def _any(_: Arguments, __: bool) -> int:
    return _ENDLESS


_LAST = slice(-1, None)
_PARTS = _text_of(slice(2, None), slice(1, None))  # what is behind the list and a function's name
_SIZES: dict[str, Callable[[Arguments, bool], int]] = {  # how many times as large a function's value may be
    "repeat": _number_at(1),
    "lpad": _number_at(1),
    "rpad": _number_at(1),
    "list_resize": _number_at(1),
    "array_resize": _number_at(1),
    "bitstring": _number_at(1),
    "bar": _number_at(3),
    "range": _number_at(None),
    "generate_series": _number_at(None),
    "printf": _printf,
    "format": _format,
    "replace": _text_of(_LAST, _LAST),
    "regexp_replace": _text_of(slice(2, 3), slice(1, None)),
    **dict.fromkeys(("bin", "to_binary"), lambda _, __: 8),
    "damerau_levenshtein": _shortest,
    "json_pretty": _any,  # [[[[ needs more blanks on each line
    **dict.fromkeys(("array_to_string", "array_to_string_comma_default"), _text_of(_LAST, _LAST)),
    **dict.fromkeys(("list_select", "array_select"), _text_of(_LAST, _LAST)),
    **dict.fromkeys(("list_aggr", "list_aggregate", "array_aggr", "array_aggregate", "aggregate"), _PARTS),
    **dict.fromkeys(("list_transform", "list_apply", "array_transform", "array_apply", "apply"), _for_each),
    **dict.fromkeys(("list_reduce", "array_reduce", "reduce"), _reduced),
}
