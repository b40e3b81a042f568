"""One partition of a source becomes one raw part: kept samples in a tar, a record of every candidate beside it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stoker import __version__
from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context
from stoker.pipelines.stages.measure import measure
from stoker.pipelines.stages.scratch import folder_in
from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StokerError
from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import TarWriter
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part

_FORMAT = 1  # of raw parts; raise it when the same candidates are written in other bytes than before
_MARKER_FORMAT = 1


class IngestStopped(StokerError):
    """The work was asked to stop, and did; nothing that was finished is lost."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a partition; ``skipped``: it was done before and nothing was read."""

    part: Part
    skipped: bool
    seconds: float


def never_stop() -> bool:
    """Do not stop."""
    return False


def no_progress(read: int, kept: int) -> None:
    """Show no progress."""


def plan(recipe: Recipe, context: Context) -> list[Partition]:
    """The partitions of the recipe's source, in order, their names unique. Raises RecipeError and SourceError."""
    partitions = list(recipe.source.partitions(context))
    if not partitions:
        raise SourceBroken(f"source {name_of(recipe.source)!r}: it is empty; check its options in the recipe")
    repeated = [name for name, times in Counter(one.name for one in partitions).items() if times > 1]
    if repeated:
        raise RecipeError(f"source {name_of(recipe.source)!r}: two partitions are called {repeated[0]!r}")
    return partitions


def part_digest(recipe: Recipe, partition: Partition) -> str:
    """The name of a partition's raw part: what decides its content before anything is fetched."""
    whole = {"format": _FORMAT, "extraction": recipe.extraction, "partition": asdict(partition)}
    return digest(whole)[: layout.DIGEST]


def find_part(recipe: Recipe, partition: Partition, store: Store) -> Part | None:
    """The partition's raw part, if it is done. Raises CorruptShard when its marker cannot be read."""
    key = layout.raw_part(recipe.corpus, part_digest(recipe, partition))
    try:
        payload = store.read(key)
    except NotFound:
        return None
    try:
        found = json.loads(payload)
        if found.pop("schema") != _MARKER_FORMAT:
            raise ValueError("written by another version of Stoker")
        return Part(**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptShard(f"{store.url}/{key}: not a part's marker ({error}); delete it and ingest again") from error


def ingest_partition(
    recipe: Recipe,
    partition: Partition,
    store: Store,
    context: Context,
    *,
    stop: Callable[[], bool] = never_stop,
    progress: Callable[[int, int], None] = no_progress,
) -> Ingested:
    """Read a partition into its raw part, or find it done.

    Idempotent: whoever is killed at any point leaves either a part or nothing that is ever read, and two writers
    at once end with the part of the first. ``progress`` is called with (read, kept) of this partition so far.
    Raises IngestStopped when ``stop`` says so, SourceError, StorageError.
    """
    started = time.monotonic()
    found = find_part(recipe, partition, store)
    if found is not None:
        return Ingested(found, True, time.monotonic() - started)
    name = part_digest(recipe, partition)
    with folder_in(context.scratch) as folder:
        path = folder / "part.tar"
        own = replace(context, scratch=folder)
        with TarWriter(path) as writer:
            rows = _read(recipe, partition, own, writer, stop, progress)
            tar = writer.close()
        tar_key = layout.raw_tar(recipe.corpus, name, tar.sha256)
        _create_once(store, tar_key, path)
    rejected = Counter(row["reason"] for row in rows if row["reason"] is not None)
    table = records.encode(rows)
    table_sha256 = records.sha256(table)
    table_key = layout.raw_records(recipe.corpus, name, table_sha256)
    _create_once(store, table_key, table)
    part = Part(
        partition=partition.name,
        digest=name,
        tar=tar_key,
        tar_sha256=tar.sha256,
        tar_size=tar.size,
        records=table_key,
        records_sha256=table_sha256,
        read=len(rows),
        kept=tar.samples,
        rejected=dict(sorted(rejected.items())),
    )
    try:
        marker = json.dumps({"schema": _MARKER_FORMAT} | asdict(part), sort_keys=True).encode()
        store.create(layout.raw_part(recipe.corpus, name), marker)
    except AlreadyExists:
        first = find_part(recipe, partition, store)
        if first is None:
            raise
        part = first
    return Ingested(part, False, time.monotonic() - started)


def _create_once(store: Store, key: str, payload: bytes | Path) -> None:
    """Create an object whose key holds its own hash: one that is there already is the same."""
    try:
        store.create(key, payload)
    except AlreadyExists:
        return


def _read(
    recipe: Recipe,
    partition: Partition,
    context: Context,
    writer: TarWriter,
    stop: Callable[[], bool],
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:  # Any: Parquet values
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    kept = 0
    for candidate in recipe.source.read(partition, context):
        if stop():
            raise IngestStopped(f"stopped in partition {partition.name!r}; the same command resumes")
        sample, rejected, step = apply_steps(recipe, candidate)
        if rejected is None and sample.key in seen:
            rejected, step = Rejected("duplicate_key", "another sample of this partition has this key"), "stoker"
        row: dict[str, Any] = {"key": sample.key, "partition": partition.name}  # Any: Parquet values
        if rejected is None:
            seen.add(sample.key)
            placed = writer.add(sample)
            kept += 1
            members = [{"extension": one.extension, "offset": one.offset, "size": one.size} for one in placed.members]
            row |= {"reason": None, "start": placed.start, "stop": placed.stop, "members": members}
        else:
            row |= {"reason": rejected.reason, "detail": rejected.detail, "step": step}
        rows.append(dict(sample.record) | dict(sample.measures) | row)
        progress(len(rows), kept)
    return rows


def apply_steps(recipe: Recipe, candidate: Candidate) -> tuple[Sample, Rejected | None, str]:
    """The sample after all steps and measures, or as far as it came, why it was rejected, and by whom."""
    sample = replace(candidate.sample, record=_provenance(recipe, candidate.sample))
    if candidate.rejected is not None:
        return sample, candidate.rejected, name_of(recipe.source)
    for step in recipe.steps:
        result = step(sample)
        if isinstance(result, Rejected):
            return sample, result, name_of(step)
        sample = result
    measures = measure(sample)
    if isinstance(measures, Rejected):
        return sample, measures, "measure"
    return replace(sample, measures=dict(sample.measures) | measures), None, ""


def _provenance(recipe: Recipe, sample: Sample) -> Mapping[str, Any]:
    """The record, with what the recipe says of every sample where the sample says nothing itself."""
    given = recipe.provenance
    record = dict(sample.record)
    said = {"licence": given.licence, "author": given.author, "attribution": given.attribution, **given.extra}
    for name, value in said.items():
        if value and not record.get(name):
            record[name] = value
    record["group"] = record.get("group") or sample.key
    return record | {
        "source": name_of(recipe.source),
        "recipe": digest(recipe.extraction)[: layout.DIGEST],
        "code": __version__,
    }
