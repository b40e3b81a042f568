"""SQL over a version: DuckDB answers, from tables of what the query names.

The views are ``samples`` (records of the samples in the version), ``rejected`` (what was not taken, by source, step or
rule) and ``outcomes`` (what the corpus remembers of each candidate, in all runs). Price: memory holds the columns that
the query names, of the views that it names.
"""

import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.shards import records
from stoker.storage.shards.kinds import DECISIONS, RECORDS
from stoker.storage.stores.store import Store
from stoker.storage.versions.listed.vanished import tell_vanished
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import newest_head
from stoker.storage.versions.memory.outcome_class import KNOWN
from stoker.storage.versions.queries.duck import BadQuery, nodes, one_line, open_database, parse
from stoker.storage.versions.verified import verified_table

_REJECTED = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "reason", "detail", "by", "witness")),
        ("similarity", pa.float64()),
        *((name, pa.string()) for name in ("url", "page_url", "partition")),
    ]
)


class Asked(Protocol):
    """What is asked of a ``Version``."""

    @property
    def store(self) -> Store:
        """Of its corpus."""

    @property
    def manifest(self) -> Manifest:
        """Its own."""

    @property
    def columns(self) -> list[str]:
        """All columns of records."""

    def records(self, columns: Sequence[str] | None = None, /) -> pa.RecordBatchReader:
        """Its records, with these columns; None: those that mean something to a person."""


def query(version: Asked, text: str) -> pa.Table:
    """The result of one SELECT; of columns with one name the second has a number.

    Raises BadQuery in one line; StorageError, CorruptShard.
    """
    import duckdb  # not with this module, which all that opens a version imports

    try:
        with tempfile.TemporaryDirectory(prefix="stoker-") as folder:
            return _answer(version, text, Path(folder))
    except duckdb.Error as error:
        message = re.sub(r"^\w+ Error: ", "", one_line(str(error)))
    # From nothing: by the frames of its causes an error would keep DuckDB's objects until Python ends.
    raise BadQuery(f"{version.manifest.reference}: {message}")


def _answer(version: Asked, text: str, folder: Path) -> pa.Table:
    with open_database(folder, threads=os.cpu_count() or 1) as database:
        tree = parse(database, text.strip().rstrip(";"))
        if tree["error"] or len(tree["statements"]) != 1:
            why = tree.get("error_message") or f"{len(tree.get('statements', []))} statements"
            if tree.get("error_type") == "not implemented":  # DuckDB's words are about JSON
                why = f"found {text.split()[0].upper()[:20]}, and nothing is changed by a query"
            expected = "expected one SELECT over samples, rejected or outcomes"
            raise BadQuery(f"{version.manifest.reference}: {expected}: {why}")
        names = {node["table_name"].lower() for node in nodes(tree) if node.get("type") == "BASE_TABLE"}
        names |= set(_VIEWS) if _asks_again(tree) else set()
        empty = {"samples": version.records(version.columns).schema, "rejected": _REJECTED, "outcomes": outcomes.SCHEMA}
        for name, schema in empty.items():
            database.register(name, schema.empty_table())
        database.sql(text)  # what is wrong with it is told before anything is read, with all columns that there are
        for name, read in _VIEWS.items():
            if name in names:
                database.register(name, read(version, tree))
        table = database.sql(text).to_arrow_table()
        return table.rename_columns(_told_apart(table.column_names))


def _told_apart(names: Sequence[str]) -> list[str]:
    """The names, each once: a row as a dictionary would have but the last of several columns of one name.

    >>> _told_apart(["key", "key", "Key", "key_2"])
    ['key', 'key_3', 'Key_4', 'key_2']
    """
    taken = {name.lower() for name in names}
    seen: set[str] = set()
    found = []
    for name in names:
        chosen = name
        if name.lower() in seen:
            chosen = next(other for n in itertools.count(2) if (other := f"{name}_{n}").lower() not in taken)
        seen.add(name.lower())
        taken.add(chosen.lower())
        found.append(chosen)
    return found


def _samples(version: Asked, tree: Any) -> pa.Table:  # Any: DuckDB's JSON
    whole = version.records()
    names = whole.schema.names if _takes_all(tree) else ["key"]
    hidden = [name for name in version.columns if name not in whole.schema.names]
    named = set(_texts(tree))
    columns = [name for name in (*whole.schema.names, *hidden) if name in names or name.lower() in named]
    return version.records(columns).read_all()


def _takes_all(tree: Any) -> bool:  # Any: JSON
    """Whether a query may take columns that it does not name."""
    found = list(nodes(tree))
    tables = {
        str(node.get(name, "")).lower() for node in found if "table_name" in node for name in ("table_name", "alias")
    }
    rows = (node["column_names"] for node in found if node.get("class") == "COLUMN_REF")
    return (
        _asks_again(tree)
        or any(node.get("class") in ("STAR", "POSITIONAL_REFERENCE") for node in found)
        or any(node.get("ref_type") == "NATURAL" for node in found)
        or any(names[-1].lower() in tables for names in rows)  # all columns of a row as one value
    )


def _asks_again(tree: Any) -> bool:  # Any: JSON
    """Whether a query holds another as a text, whose tables are not known."""
    return any(str(node.get("function_name", "")).lower() in ("query", "query_table") for node in nodes(tree))


def _texts(tree: Any) -> Iterator[str]:  # Any: JSON
    """All that stands in a query, names of columns among it, in lower case as DuckDB compares names."""
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for value in values:
        if isinstance(value, str):
            yield value.lower()
        else:
            yield from _texts(value)


def _rejected(version: Asked, tree: Any) -> pa.Table:  # Any: DuckDB's JSON
    store, manifest = version.store, version.manifest
    tables = [_typed(table) for table in _rejected_at_ingest(store, manifest)]
    if not manifest.is_indexed:
        stored = manifest.decisions
        decided = verified_table(store, stored.key, DECISIONS, sha256=stored.sha256)
        dropped = decided.filter(pc.equal(decided["action"], "drop"))
        tables.append(_typed(_renamed(dropped, {"value": "reason", "rule": "by"})))
    return pa.concat_tables(tables) if tables else _REJECTED.empty_table()


def _rejected_at_ingest(store: Store, manifest: Manifest) -> Iterator[pa.Table]:
    columns = ["key", "reason", "detail", "step", "source", "url", "page_url", "partition"]
    for part in manifest.parts:
        if not part.counted.rejected:
            continue
        table = tell_vanished(
            verified_table(store, part.records, RECORDS, sha256=part.records_sha256, columns=columns), part
        )
        gone = pa.array(sorted(part.not_counted), pa.int64())
        counts = pc.invert(pc.is_in(pa.array(range(table.num_rows), pa.int64()), value_set=gone))
        rejected = pc.fill_null(pc.not_equal(table["reason"], KNOWN), False)  # null: kept
        yield _renamed(table.filter(pc.and_(counts, rejected)), {"step": "by"})


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _typed(table: pa.Table) -> pa.Table:
    """The columns of ``rejected``, null where there is none of a name."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in _REJECTED
    ]
    return pa.table(columns, schema=_REJECTED)


def _outcomes(version: Asked, tree: Any) -> pa.Table:  # Any: DuckDB's JSON
    store, corpus = version.store, version.manifest.corpus
    head = newest_head(store, corpus)
    tables = []
    for stored in head.outcomes if head else ():
        scanned = list(outcomes.open_outcomes(store, stored).scan())
        tables.append(records.join(scanned) if scanned else outcomes.SCHEMA.empty_table())
    return outcomes.merge(*tables) if tables else outcomes.SCHEMA.empty_table()


_VIEWS: Mapping[str, Callable[[Asked, Any], pa.Table]] = {  # Any: DuckDB's JSON
    "samples": _samples,
    "rejected": _rejected,
    "outcomes": _outcomes,
}
