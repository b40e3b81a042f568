"""Tables of other software, whose checksums are right and whose columns are not: each reader names them in a line."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from stoker.flows.report.difference import difference
from stoker.flows.report.refusals import all_refusals
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.stages.raw_part import heal, kept_records
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.masks.view import with_masks
from tests.storage.published import make_version

RECORDS = ("key", "reason", "start", "stop", "members")
INDEX = ("key", "start", "stop", "members", "split", "part")
DECISIONS = ("key", "part", "action", "value", "rule")
OBJECTS = {"records": RECORDS, "index": INDEX, "decisions": DECISIONS}


def missing(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name])


def of_another_type(table: pa.Table, name: str) -> pa.Table:
    values = pa.array([[1.5]] * table.num_rows)
    return table.set_column(table.column_names.index(name), name, values)


def twice(table: pa.Table, name: str) -> pa.Table:
    return table.append_column(name, table[name])


def no_utf8(table: pa.Table, name: str) -> pa.Table:
    if table.schema.field(name).type != pa.string():
        return missing(table, name)
    values = pa.array([b"\xff"] * table.num_rows).view(pa.string())
    return table.set_column(table.column_names.index(name), name, values)


def no_values(table: pa.Table, name: str) -> pa.Table:
    kind = table.schema.field(name).type
    values = [[None]] * table.num_rows if pa.types.is_list(kind) else [None] * table.num_rows
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind))


HARM = (missing, of_another_type, twice, no_utf8)


def harmed(store: MemoryStore, which: str, harm: Callable[[pa.Table], pa.Table]) -> tuple[Manifest, str]:
    """The version with another table in the place of one of its own, and the key of that."""
    manifest = make_version(store)
    part, shard, decided = manifest.parts[0], manifest.shards[0], manifest.decisions
    key = {"records": part.records, "index": shard.index, "decisions": decided.key}[which]
    payload = records.encode(harm(records.decode(store.read(key))))
    store.write(key, payload)
    sha256, size = records.sha256(payload), len(payload)
    return replace(
        manifest,
        parts=(replace(part, records_sha256=sha256), *manifest.parts[1:]) if which == "records" else manifest.parts,
        shards=(replace(shard, index_sha256=sha256, index_size=size), *manifest.shards[1:])
        if which == "index"
        else manifest.shards,
        decisions=replace(decided, sha256=sha256, size=size) if which == "decisions" else decided,
    ), key


def readings(store: MemoryStore, manifest: Manifest) -> Iterator[Callable[[], object]]:
    """What commands and the page do with a version."""
    reader = SampleReader(store)
    yield lambda: list(all_refusals(reader, manifest))
    yield lambda: [find_lineages(store, manifest, f"s-{number:03d}") for number in range(12)]
    yield lambda: reader.page(manifest, size=20)
    yield lambda: reader.find(manifest, "s-000")
    yield lambda: difference(make_version(MemoryStore()), manifest, store)
    yield lambda: with_masks(store, manifest, ["s-000"], reason="forgotten")
    yield lambda: [kept_records(store, part) for part in manifest.parts]


CASES = [(which, harm, name) for which, names in OBJECTS.items() for name in names for harm in HARM]


def errors(store: MemoryStore, manifest: Manifest) -> Iterator[str]:
    """What those say that meet the table; anything but an error for users is raised."""
    for reading in readings(store, manifest):
        try:
            reading()
        except CorruptShard as error:
            yield str(error)


@pytest.mark.parametrize(("which", "harm", "name"), CASES)
def test_every_reader_names_a_table_of_other_columns(
    which: str, harm: Callable[[pa.Table, str], pa.Table], name: str
) -> None:
    store = MemoryStore()
    manifest, key = harmed(store, which, lambda table: harm(table, name))
    told = list(errors(store, manifest))
    assert told
    assert all(f"{store.url}/{key}: " in error and "\n" not in error for error in told)
    found = verify(store, manifest).problems
    assert [problem.partition(": ")[0] for problem in found if problem.startswith(key)] == [key]
    assert not any("\n" in problem for problem in found)


@pytest.mark.parametrize(
    ("which", "name"), [(which, name) for which, names in OBJECTS.items() for name in names if name != "reason"]
)
def test_values_that_are_missing_are_told_too(which: str, name: str) -> None:
    store = MemoryStore()
    manifest, key = harmed(store, which, lambda table: no_values(table, name))
    assert all(f"{store.url}/{key}: " in error for error in errors(store, manifest))
    assert any(problem.startswith(f"{key}: ") for problem in verify(store, manifest).problems)


def test_a_raw_part_of_other_columns_is_read_again() -> None:
    store = MemoryStore()
    manifest, _ = harmed(store, "records", lambda table: missing(table, "reason"))
    part = manifest.parts[0]
    assert heal(store, manifest.corpus, part.digest, part.partition) is None
