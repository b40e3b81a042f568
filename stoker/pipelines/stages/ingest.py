"""Ingest: one partition of a source becomes one raw part, a tar of kept samples and a record of every candidate.

A part is named by the digest of what determines its content, and exists once its marker is written, last. So a
partition that was ingested before is skipped. Of one that takes long, what is finished is in the store every few
seconds (``segments``): a killed ingest goes on behind that, and ends in the part of one that was not killed.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from stoker.pipelines.errors import NotAlone, RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.images.codec import trim_images
from stoker.pipelines.memory.identity import IDENTITY, STAMP
from stoker.pipelines.memory.originals import ORIGINAL, read_original, tars_in
from stoker.pipelines.partition import Partition, Partitions, digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import LOSS, OUTCOME_CLASS, UNKNOWN, Rejected
from stoker.pipelines.source import FORGOTTEN, Candidate, Context, Done
from stoker.pipelines.stages.forgetting.matching import Forgotten
from stoker.pipelines.stages.measure import measure
from stoker.pipelines.stages.raw_part import read_marker, write_marker
from stoker.pipelines.stages.reading.omitted import PASSED
from stoker.pipelines.stages.reading.originals import Originals
from stoker.pipelines.stages.reading.segments import Reading, Segments
from stoker.pipelines.stages.reading.sharing import identity_of, left_to_read, sharing
from stoker.pipelines.stages.reading.stretches import Stretch
from stoker.pipelines.stages.scratch import folder_in
from stoker.pipelines.stages.trust import check_paths
from stoker.release import __version__
from stoker.storage.errors import AlreadyExists, StokerError, StorageError
from stoker.storage.shards import records
from stoker.storage.shards.row_checksum import CRC32C
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import TarSummary, TarWriter
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.outcome_class import KNOWN
from stoker.storage.versions.verified import put

_log = logging.getLogger(__name__)

_FORMAT = 1  # of raw parts; raise it when the same candidates are written in other bytes than before
_MISSING = (None, "")  # in a record; 0 and false are values
REPEATED = Rejected("duplicate_key", "another sample of this partition has this key")  # by "stoker"


class IngestStopped(StokerError):
    """The ingest was asked to stop. Finished parts stay, and the same command resumes."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """The part of a partition; ``skipped``: it was ingested before, and nothing was read."""

    part: Part
    skipped: bool
    seconds: float


def never_stop() -> bool:
    """The default of ``stop``: false."""
    return False


def no_progress(read: int, kept: int) -> None:
    """The default of ``progress``: does nothing."""


def plan(recipe: Recipe, context: Context, store: Store | None = None) -> Partitions:
    """The partitions of the recipe's source, in order, their names unique.

    With a store the source may ask which ones are ingested already, see ``Context.is_finished``. Raises RecipeError,
    OutsideRecipe among them, SourceError and StorageError.
    """
    check_paths(recipe, context)
    if store is not None:
        is_forgotten = Forgotten.load(store, recipe.corpus).of_record
        context = replace(context, is_finished=_finished_in(store, recipe), is_forgotten=is_forgotten)
    partitions = Partitions(recipe.source.partitions(context))
    if not partitions:
        raise SourceBroken(f"source {name_of(recipe.source)!r}: it is empty; check its options in the recipe")
    check_names(recipe, partitions)
    return partitions


def check_names(recipe: Recipe, partitions: Partitions) -> None:
    """Raise RecipeError for two partitions of one name."""
    repeated = [name for name, times in Counter(partitions.names).items() if times > 1]
    if repeated:
        raise RecipeError(f"source {name_of(recipe.source)!r}: two partitions are called {repeated[0]!r}")


def _finished_in(store: Store, recipe: Recipe) -> Callable[[Partition], bool]:
    """Whether a partition has its part. The parts are listed once, when this is first asked."""

    @cache
    def keys() -> frozenset[str]:
        return frozenset(stored.key for stored in store.list(layout.raw(recipe.corpus)))

    return lambda partition: layout.raw_part(recipe.corpus, part_digest(recipe, partition)) in keys()


def part_digest(recipe: Recipe, partition: Partition) -> str:
    """The name of a partition's raw part: a digest of what determines its content, known before anything is fetched."""
    identity = {"format": _FORMAT, "extraction": recipe.extraction, "partition": identity_of(partition)}
    return digest(identity)[: layout.DIGEST]


def find_part(recipe: Recipe, partition: Partition, store: Store) -> Part | None:
    """The partition's raw part, or None if it is not ingested. A damaged marker is healed, see ``raw_part``."""
    shared = {one.name: part_digest(recipe, one) for one in sharing(partition)}
    return read_marker(store, recipe.corpus, part_digest(recipe, partition), partition.name, shared)


def ingest_partition(
    recipe: Recipe,
    partition: Partition,
    store: Store,
    context: Context,
    *,
    stop: Callable[[], bool] = never_stop,
    progress: Callable[[int, int], None] = no_progress,
    stretches: Sequence[Partition] = (),
) -> Ingested:
    """Read a partition into its raw part, or skip it if the part exists.

    Idempotent: a killed ingest leaves a whole part, or segments that the next one begins with. Of two writers at once,
    both return the part of the first.

    Args:
        stop: asked before every candidate; true ends the ingest with IngestStopped.
        progress: called after every candidate with how many of this partition were read and kept.
        stretches: all of ``Source.stretches`` or NotAtOnce, if ``ingest_stretch`` read them: they are joined, or the
            partition is read as a whole if not all of them are there.

    Raises IngestStopped, SourceError, StorageError; NotAtOnce where the context allows it and nothing was read yet.
    """
    started = time.monotonic()
    existing = find_part(recipe, partition, store)
    if existing is not None:
        _log.info(
            "%s: its part %s is there and is used again", partition.name, existing.digest, extra=_fields(existing)
        )
        recipe.source.release(stretches, context)
        return Ingested(existing, True, time.monotonic() - started)
    name = part_digest(recipe, partition)
    is_forgotten = Forgotten.load(store, recipe.corpus).of_record
    may_cut = context.may_cut and not stretches
    context = replace(context, is_forgotten=is_forgotten, read_original=partial(read_original, store), may_cut=may_cut)
    with folder_in(context.scratch) as folder, Segments(store, recipe.corpus, name, folder) as segments:
        originals = Originals(store, recipe.corpus, name, folder) if recipe.store.originals else None
        context, named = replace(context, scratch=folder), _named(recipe, stretches)
        as_whole = recipe.source.whole(partition, stretches) if stretches else partition
        reading, tar = _read_whole(recipe, as_whole, context, segments, originals, stop, progress, named)
        tar_key = layout.raw_tar(recipe.corpus, name, tar.sha256)
        put(store, tar_key, reading.writer.path, sha256=tar.sha256)
    rejected = Counter(row["reason"] for row in reading.rows if row["reason"] is not None)
    table = records.encode(reading.rows)
    table_sha256 = records.sha256(table)
    table_key = layout.raw_records(recipe.corpus, name, table_sha256)
    put(store, table_key, table, sha256=table_sha256)
    part = Part(
        partition=partition.name,
        digest=name,
        tar=tar_key,
        tar_sha256=tar.sha256,
        tar_size=tar.size,
        records=table_key,
        records_sha256=table_sha256,
        read=len(reading.rows),
        kept=tar.samples,
        rejected=dict(sorted(rejected.items())),
        omitted=reading.omitted.most(),
        originals=tars_in(row.get(ORIGINAL) for row in reading.rows),
        shared=_held(recipe, partition, reading),
    )
    try:
        write_marker(store, recipe.corpus, part)
    except AlreadyExists:
        first = find_part(recipe, partition, store)
        if first is None:
            raise
        part = first
    with suppress(StorageError):  # `stoker gc` removes what stays
        segments.remove()
    recipe.source.release(stretches, context)
    known = f", known {part.known}" if part.known else ""
    _log.info("%s: read %d, kept %d%s", part.partition, part.read, part.kept, known, extra=_fields(part))
    return Ingested(part, False, time.monotonic() - started)


def cut(recipe: Recipe, partition: Partition, store: Store, context: Context) -> Sequence[Partition]:
    """The stretches in which to read a partition, see ``ingest_stretch``; none if it is to be read as a whole.

    One that an ingest has begun as a whole is also finished so. Raises SourceError, StorageError.
    """
    is_cut = recipe.source.cuts_long and not sharing(partition)
    stretches = recipe.source.stretches(partition, context) if is_cut else ()
    if stretches and Segments(store, recipe.corpus, part_digest(recipe, partition), context.scratch).is_begun():
        return ()
    return stretches


def ingest_stretch(
    recipe: Recipe,
    partition: Partition,
    store: Store,
    context: Context,
    *,
    stretches: Sequence[Partition],
    number: int,
    stop: Callable[[], bool] = never_stop,
    progress: Callable[[int, int], None] = no_progress,
) -> bool:
    """Read one of a partition's stretches into segments, unless it was; whether all of it is there to be joined.

    ``number``: counted from 1. For the others see ``ingest_partition``; raises what that does.
    """
    stretch, named = stretches[number - 1], _named(recipe, stretches)[number - 1]
    context = replace(context, is_forgotten=Forgotten.load(store, recipe.corpus).of_record)
    with (
        folder_in(context.scratch) as folder,
        Segments(store, recipe.corpus, part_digest(recipe, partition), folder, stretch=named) as segments,
    ):
        try:
            context = replace(context, scratch=folder)
            _read_whole(recipe, stretch, context, segments, None, stop, progress, is_stretch=True)
        except NotAlone as error:
            _log.info("%s: it is read at once: in stretch %d %s", partition.name, number, error)
            segments.remove()
        return segments.is_whole


def _named(recipe: Recipe, stretches: Sequence[Partition]) -> list[Stretch]:
    return [Stretch(number, part_digest(recipe, stretch)) for number, stretch in enumerate(stretches, start=1)]


def _held(recipe: Recipe, partition: Partition, reading: Reading) -> dict[str, str]:
    """See ``Part.shared``."""
    read = {row["partition"] for row in reading.rows}
    return {one.name: part_digest(recipe, one) for one in sharing(partition) if one.name in read}


def _fields(part: Part) -> dict[str, object]:
    """What a log says of a part."""
    return {"partition": part.partition, "part": part.digest, "read": part.read, "kept": part.kept}


class _ReadOtherwise(Exception):
    """The segments are not what would be read now."""


def _read_whole(
    recipe: Recipe,
    partition: Partition,
    context: Context,
    segments: Segments,
    originals: Originals | None,
    stop: Callable[[], bool],
    progress: Callable[[int, int], None],
    stretches: Sequence[Stretch] = (),
    *,
    is_stretch: bool = False,
) -> tuple[Reading, TarSummary]:
    """All candidates of a partition, those of its segments first, and the tar of the kept ones, in ``scratch``."""
    with TarWriter(context.scratch / "part.tar") as writer, originals or nullcontext():
        reading = Reading(writer, originals=originals)
        try:
            if not stretches:
                segments.restore(reading)
            elif not segments.join(stretches, reading):
                raise _ReadOtherwise("not all of its stretches are there")
            if any(row["reason"] != FORGOTTEN.reason and context.is_forgotten(row) for row in reading.rows):
                raise _ReadOtherwise("a candidate was forgotten since")
            if not reading.is_whole:
                _read(recipe, partition, context, reading, segments, stop, progress)
            if is_stretch:
                reading.is_whole = True
                segments.seal(reading)
            elif originals is not None:
                originals.seal()
        except SourceUnavailable:
            segments.remove_passing()
            raise
        except _ReadOtherwise as error:
            _log.warning("%s: %s; it is read from its beginning", partition.name, error)
        else:
            return reading, writer.close()
    segments.remove()
    return _read_whole(recipe, partition, context, segments, originals, stop, progress, is_stretch=is_stretch)


def _unread(
    recipe: Recipe, partition: Partition, context: Context, done: Sequence[Done], stop: Callable[[], bool]
) -> Iterator[Candidate]:
    """The candidates of a partition behind those that are done. Raises _ReadOtherwise, IngestStopped."""
    source, before = recipe.source, list(done)
    offered = source.resume(partition, context, before) if before else source.read(partition, context)
    for one in before:
        if stop():
            raise _stopped(partition)
        try:
            candidate = next(offered)
        except StopIteration:
            raise _ReadOtherwise(f"{one.identity!r} and what follows is not there any more") from None
        if candidate is not None and not one.is_of(candidate):
            raise _ReadOtherwise(f"{one.identity!r} is not in its place any more")
    for candidate in offered:
        if candidate is None:
            raise TypeError(f"source {name_of(source)!r} gave None in the place of a candidate that was never read")
        yield candidate


def _stopped(partition: Partition) -> IngestStopped:
    return IngestStopped(f"stopped in partition {partition.name!r}; the same command resumes")


def _read(
    recipe: Recipe,
    partition: Partition,
    context: Context,
    reading: Reading,
    segments: Segments,
    stop: Callable[[], bool],
    progress: Callable[[int, int], None],
) -> None:
    """Read the candidates that a reading lacks; the kept samples are added to its writer.

    Of several partitions that share one, those whose source is unavailable are left out, unless all of them are.
    """
    failed: SourceUnavailable | None = None
    if sharing(partition):
        context = replace(context, may_cut=False)  # it would be left out, and a part has the same rows each time
    seen = {row["key"] for row in reading.rows if row["reason"] is None}
    for one, done in left_to_read(partition, reading.rows):
        before = len(reading.rows) - done
        try:
            _read_one(recipe, one, context, reading, segments, stop, progress, seen, done)
        except SourceUnavailable as error:
            if one is partition or len(reading.rows) > before:
                raise
            _log.warning("%s: it is left for later: %s", one.name, error)
            failed = failed or error
    if failed is not None and not reading.rows:
        raise failed


def _read_one(
    recipe: Recipe,
    partition: Partition,
    context: Context,
    reading: Reading,
    segments: Segments,
    stop: Callable[[], bool],
    progress: Callable[[int, int], None],
    seen: set[str],
    done: int,
) -> None:
    """Read the candidates of a partition behind the last ``done`` of a reading; ``seen``: keys of the kept ones."""
    rows, writer, omitted = reading.rows, reading.writer, reading.omitted
    kept = len(seen)
    context = replace(context, may_cut=context.may_cut and not done)  # begun as a whole, it is finished so
    for candidate in _unread(recipe, partition, context, reading.done[len(reading.done) - done :], stop):
        if stop():
            segments.seal(reading)
            raise _stopped(partition)
        segments.seal_if_due(reading)
        reading.done.append(Done.of(candidate))
        omitted.add(candidate.omitted)
        if candidate.is_unchanged:
            rows.append(dict(candidate.sample.measures) | _bare_row(recipe, partition, candidate, KNOWN))
            progress(len(rows), kept)
            continue
        if key := context.known.key_of(candidate.identity or candidate.sample.key):
            candidate = _with_key(candidate, key)
        passed: list[str] = []
        sample, rejected, step = apply_steps(recipe, candidate, passed)
        if rejected == FORGOTTEN or context.is_forgotten(_told(candidate, sample)):
            rows.append(_bare_row(recipe, partition, candidate, FORGOTTEN.reason))
            progress(len(rows), kept)
            continue
        omitted.add(Counter(f"{PASSED}{name}" for name in passed))
        if rejected is None and sample.key in seen:
            rejected, step = REPEATED, "stoker"
        row: dict[str, Any] = {"key": sample.key, "partition": partition.name, CRC32C: None}  # Any: Parquet values
        if candidate.identity not in ("", sample.key):
            row[IDENTITY] = candidate.identity
        if candidate.stamp:
            row[STAMP] = candidate.stamp
        if rejected is None:
            seen.add(sample.key)
            placed = writer.add(sample)
            kept += 1
            members = [
                {"extension": member.extension, "offset": member.offset, "size": member.size}
                for member in placed.members
            ]
            row |= {"reason": None, "start": placed.start, "stop": placed.stop, "members": members}
            row[CRC32C] = placed.crc32c
        else:
            row |= {"reason": rejected.reason, "detail": rejected.detail, "step": step}
            if rejected.outcome_class not in (None, recipe.reasons.get(rejected.reason, UNKNOWN).outcome_class):
                row[OUTCOME_CLASS] = str(rejected.outcome_class)
            if rejected.reason == LOSS:
                _log.warning("%s: %s", partition.name, rejected.detail)
        rows.append(dict(sample.record) | dict(sample.measures) | row)
        if reading.originals is not None:
            reading.originals.add(candidate.sample, rows[-1])
        progress(len(rows), kept)


def _with_key(candidate: Candidate, key: str) -> Candidate:
    """The candidate as a sample that is made anew: it keeps its key."""
    sample = candidate.sample
    return replace(candidate, sample=replace(sample, key=key), identity=candidate.identity or sample.key)


def _bare_row(
    recipe: Recipe, partition: Partition, candidate: Candidate, reason: str
) -> dict[str, Any]:  # Any: Parquet values
    """The record of a candidate of which nothing is written down: it is known, or was taken out of the corpus."""
    row = {"key": candidate.sample.key, "partition": partition.name, "reason": reason, "step": "stoker", CRC32C: None}
    if candidate.identity not in ("", candidate.sample.key):
        row[IDENTITY] = candidate.identity
    return row | _made_by(recipe)


def _told(candidate: Candidate, sample: Sample) -> dict[str, Any]:  # Any: JSON values
    """All that is known of a candidate that was read."""
    told = {**candidate.sample.record, **sample.record, **sample.measures, "key": sample.key}
    return told | ({IDENTITY: candidate.identity} if candidate.identity else {})


def apply_steps(
    recipe: Recipe, candidate: Candidate, passed: list[str] | None = None
) -> tuple[Sample, Rejected | None, str]:
    """The sample after all steps and measures, why it was rejected (None: it was not), and by which of them.

    A rejected sample is returned as it was when it was rejected. ``passed`` gets the names of steps that do not apply.
    """
    sample = replace(candidate.sample, record=_with_provenance(recipe, candidate.sample))
    if candidate.rejected is not None:
        return sample, candidate.rejected, name_of(recipe.source)
    sample = trim_images(sample)
    for step in recipe.steps:
        if not step.applies_to(sample):
            if passed is not None:
                passed.append(name_of(step))
            continue
        result = step(sample)
        if isinstance(result, Rejected):
            return sample, result, name_of(step)
        sample = result
    measures = measure(sample)
    if isinstance(measures, Rejected):
        return sample, measures, "measure"
    return replace(sample, measures=dict(sample.measures) | measures), None, ""


def _with_provenance(recipe: Recipe, sample: Sample) -> Mapping[str, Any]:  # Any: JSON values
    """The sample's record, completed by the recipe's provenance, its group and the names of source, recipe and code."""
    provenance = recipe.provenance
    defaults = {
        "licence": provenance.licence,
        "author": provenance.author,
        "attribution": provenance.attribution,
        **provenance.extra,
    }
    record = dict(sample.record)
    for name, value in defaults.items():
        if value not in _MISSING and record.get(name) in _MISSING:
            record[name] = value
    if record.get("group") in _MISSING:
        record["group"] = sample.key
    return record | _made_by(recipe)


def _made_by(recipe: Recipe) -> dict[str, str]:
    return {"source": name_of(recipe.source), "recipe": recipe.extraction_digest, "code": __version__}
