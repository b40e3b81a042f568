"""One rule's decisions: it is given the rows that it names, and what it returns is checked.

A rule may be a plug-in's. What is wrong with its decisions is told in one line that names the rule.
"""

from collections.abc import Callable, Collection
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import MAX_DETAIL, REASONS
from stoker.pipelines.rule import ALWAYS, DECISIONS, Rule, RuleTools, reasons_given

_NEEDED = ("key", "action", "value")
_ACTIONS = ("drop", "split")
_MANY = 4  # a share of all keys, one in so many, from which on few is not the word
_MEASURED = {  # columns of every sample of a kind: what to do where there is none of that kind
    "image_hash": "which is measured of every image; this corpus has none: leave the rule out, or name image fields "
    "jpg, png or webp",
    "minhash": "which is measured of every text; this corpus has none: leave the rule out, or name text fields txt",
}


def columns_of(rule: Rule) -> tuple[str, ...]:
    """The columns of the records that a rule reads. Raises RecipeError."""
    needed = rule.needed_columns()
    if not isinstance(needed, tuple | list) or not all(isinstance(name, str) for name in needed):
        raise RecipeError(
            f"rule {name_of(rule)!r}: its needed_columns() gives {needed!r:.80}, expected a tuple of names"
        )
    return tuple(name for name in dict.fromkeys((*needed, *rule.optional_columns)) if name not in ALWAYS)


def decide(
    rule: Rule,
    records: pa.Table,
    tools: Callable[[pa.Table], RuleTools],
    splits: Collection[str],
    known: Collection[str] = (),
) -> pa.Table:
    """The decisions of a rule, with the columns of DECISIONS. Raises RecipeError, StorageError.

    Args:
        records: the samples that earlier rules kept, with the columns of ALWAYS and what there is of those it reads.
        tools: what it may use, for these rows.
        splits: names of the recipe's splits.
        known: names of the columns that there are, whether any rule reads them or not, for messages.
    """
    if not records.num_rows:
        return DECISIONS.empty_table()
    rows, name = _rows_for(rule, records, known), name_of(rule)
    try:
        result = rule.decide(rows, tools(rows))
    except KeyError as error:
        if "does not exist in schema" not in str(error):  # Arrow's message about a column
            raise
        raise RecipeError(
            f"rule {name!r} reads a column that it does not name in `columns`: {error.args[0]}"
        ) from error
    decided = _checked(name, result, rows, splits)
    _refuse_undeclared(rule, decided)
    return decided


def rows_of(keys: pa.ChunkedArray, all_keys: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The rows of some keys among all, each of which is there once; -1: it is not.

    >>> rows_of(pa.chunked_array([["c", "x"]]), pa.chunked_array([["a", "b", "c"]]))
    array([ 2, -1])
    """
    if len(keys) > len(all_keys) // _MANY:
        return _places(keys, all_keys)
    # Of all keys a table would be made, which costs more than to look all of them up in one of the few.
    there = np.flatnonzero(pc.is_in(all_keys, value_set=keys).to_numpy())
    found = _places(keys, all_keys.take(pa.array(there)))
    return np.where(found < 0, -1, there[found]) if len(there) else found


def _places(keys: pa.ChunkedArray, among: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = pc.fill_null(pc.index_in(keys, value_set=among), -1).to_numpy().astype(np.int64)
    return found


def _rows_for(rule: Rule, records: pa.Table, known: Collection[str]) -> pa.Table:
    """The rows that a rule is given: of what it reads it needs some columns, others are null where there are none."""
    there, rows = set(records.column_names), records.select(ALWAYS)
    for name in columns_of(rule):
        if name in there:
            rows = rows.append_column(name, records[name])
        elif name in rule.needed_columns():
            what = _MEASURED.get(
                name, "which it reads; name it where the source or a step writes it, or leave the rule out"
            )
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise RecipeError(f"rule {name_of(rule)!r}: the records have no column {name!r}, {what}{hint}")
        else:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))
    return rows


def _checked(rule: str, result: object, rows: pa.Table, splits: Collection[str]) -> pa.Table:
    """The decisions, complete and of the right types. Raises RecipeError for what cannot be carried out."""
    if not isinstance(result, pa.Table):
        raise RecipeError(
            f"rule {rule!r} returned {type(result).__name__}, expected a pyarrow.Table, which "
            "stoker.pipelines.rule.decisions makes of Decision objects"
        )
    decided = _typed(rule, result)
    key, action, value = (decided[name] for name in _NEEDED)
    other = pc.invert(pc.is_in(action, pa.array(_ACTIONS)))
    _refuse(rule, decided, other, "wants to {action!r} {key!r}, expected drop or split")
    unknown = pa.array(rows_of(key, rows["key"]) < 0)
    _refuse(rule, decided, unknown, "decided about {key!r}, which is not among the samples that it was given")
    is_split = pc.equal(action, "split")
    other = pc.and_(is_split, pc.invert(pc.is_in(value, pa.array(list(splits), pa.string()))))
    _refuse(rule, decided, other, "wants a split {value!r}; the recipe has: {splits}", splits=", ".join(splits))
    _refuse(
        rule, decided, pc.equal(decided["witness"], key), "names {key!r} as its own witness; expected another sample"
    )
    measured = pc.fill_null(decided["similarity"], 0.0)
    within = pc.and_(pc.greater_equal(measured, 0.0), pc.less_equal(measured, 1.0))  # false of NaN
    _refuse(rule, decided, pc.invert(within), "gives {key!r} a similarity of {similarity}, expected 0 to 1")
    for name in _ACTIONS:
        counts = key.filter(pc.equal(action, name)).value_counts()
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(repeated):
            twice = repeated[0].as_py()["values"]
            raise RecipeError(
                f"rule {rule!r} decided {len(repeated)} samples twice, such as {twice!r}; expected one {name} each"
            )
    return decided


def _refuse_undeclared(rule: Rule, decided: pa.Table) -> None:
    """Raise RecipeError for a drop whose reason is neither Stoker's nor the rule's: nobody could say what it means."""
    known = pa.array(sorted({*REASONS, *reasons_given(rule)}), pa.string())
    undeclared = pc.and_(pc.equal(decided["action"], "drop"), pc.invert(pc.is_in(decided["value"], known)))
    message = "drops {key!r} for a reason that is not known; declare {value!r} in its `reasons`"
    _refuse(name_of(rule), decided, undeclared, message)


def _typed(rule: str, result: pa.Table) -> pa.Table:
    """The columns of DECISIONS; what a rule may leave out is filled in."""
    names = result.column_names
    missing = [name for name in _NEEDED if name not in names]
    other = [name for name in names if name not in DECISIONS.names or names.count(name) > 1]
    if missing or other:
        fault = f"have no column {missing[0]!r}" if missing else f"have a column {other[0]!r}"
        raise RecipeError(
            f"rule {rule!r}: its decisions {fault}; expected {', '.join(DECISIONS.names)}, the last four if known"
        )
    columns = {}
    for field in DECISIONS:
        if field.name not in names:
            result = result.append_column(field, pa.nulls(result.num_rows, field.type))
        column = result[field.name]
        try:
            columns[field.name] = column.cast(field.type)
        except pa.ArrowException as error:
            raise RecipeError(
                f"rule {rule!r}: column {field.name!r} of its decisions is {column.type}, expected {field.type}"
            ) from error
        if field.name in _NEEDED and column.null_count:
            raise RecipeError(f"rule {rule!r}: a decision has no {field.name}; expected one in each")
    columns["witness"] = pc.fill_null(columns["witness"], "")
    columns["verified"] = pc.fill_null(columns["verified"], False)
    columns["detail"] = pc.utf8_slice_codeunits(pc.fill_null(columns["detail"], ""), 0, MAX_DETAIL)
    return pa.table(columns, schema=DECISIONS)


def _refuse(rule: str, decided: pa.Table, wrong: pa.ChunkedArray, message: str, **more: str) -> None:
    """Raise RecipeError for the first decision that is wrong; the message has its values."""
    first = pc.index(wrong, True).as_py()
    if first >= 0:
        raise RecipeError(f"rule {rule!r} {message.format(**decided.slice(first, 1).to_pylist()[0], **more)}")
