"""Publish: a version exists once its manifest is written, last and never overwritten.

Publishing is a compare-and-swap on the parent: a version follows the one that its decisions were made against, or is
not published. Whoever is not first decides again, against the version that was.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory.known import NOTHING_AGAIN, Again
from stoker.pipelines.recipe import Recipe, Sharding
from stoker.pipelines.rejected import REASONS, UNKNOWN
from stoker.pipelines.source import Context
from stoker.pipelines.stages.curate import Curation, curate
from stoker.pipelines.stages.elders.grouping import with_groups_of
from stoker.pipelines.stages.elders.parent import Parent, decides_alike, manifest_of, parent_of
from stoker.pipelines.stages.forgetting.matching import Forgotten, holds_forgotten
from stoker.pipelines.stages.group import DamagedObjects, Packed
from stoker.pipelines.stages.ingest import IngestStopped, ingest_partition, never_stop, no_progress
from stoker.pipelines.stages.pack import pack
from stoker.pipelines.stages.pinning import pinned
from stoker.pipelines.stages.raw_part import DamagedParts, heal
from stoker.pipelines.stages.remembering.rounds import Rounds
from stoker.pipelines.stages.splits import missed_shares
from stoker.release import __version__
from stoker.storage.clock import Clock, timestamp, utc_now
from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StokerError, StorageUnavailable
from stoker.storage.plural import plural
from stoker.storage.statistics.summary import Summary
from stoker.storage.statistics.types import type_changes
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.content import content_of
from stoker.storage.versions.listed.named import Candidates
from stoker.storage.versions.lookups.building import with_lookups
from stoker.storage.versions.manifest import Manifest, Part, Shard, load_manifest
from stoker.storage.versions.manifest import publish as put
from stoker.storage.versions.memory.outcome_class import VANISHED, OutcomeClass
from stoker.storage.versions.memory.tombstones import newest_number
from stoker.storage.versions.proof import claims, find_damaged
from stoker.storage.versions.top_values import with_one_kind, with_top_values
from stoker.storage.versions.work import ingest_lease

R = TypeVar("R")
_log = logging.getLogger(__name__)

_MAX_ROUNDS = 6  # of the stages: each heals what the one before it met
_MAX_CAUSE = 40  # characters of a value that is told
_MAX_LOST = 20  # versions of other writers that may come first before this one gives up


class ParentMoved(StokerError):
    """Another version was published since these decisions were made: they are to be made again, against that one."""


@dataclass(frozen=True, slots=True)
class Published:
    """The version that holds what was ingested; ``new`` is false if the newest version had the same content already."""

    manifest: Manifest
    new: bool


def publish(
    recipe: Recipe,
    parts: Sequence[Part],
    curation: Curation,
    packed: Sequence[Packed],
    store: Store,
    *,
    now: Clock = utc_now,
) -> Published:
    """Publish the shards as the version after the curation's parent, unless that has the same content and recipe.

    Raises ParentMoved if the parent is not the newest version any more; RecipeError, and publishes nothing, if too much
    was rejected or no sample is left; DamagedParts and DamagedObjects if what the version would name is not all there:
    see ``healed``.
    """
    check_limits(recipe, parts, packed)
    shards = tuple(shard for group in packed for shard in group.shards)
    _prove(recipe, parts, shards, curation, store)
    numbers = catalog.numbers(store, recipe.corpus)
    newest = parent_of(store, recipe.corpus)
    if newest != curation.parent:
        raise ParentMoved(_moved(recipe, newest))
    _check_tombstones(recipe, curation, store)
    latest = _readable(store, recipe.corpus, newest.version) if newest else None
    if latest and _is_same(latest, recipe, parts, shards, curation):
        _log.info("%s holds all this; no version is published", latest.reference)
        return Published(latest, new=False)
    manifest = Manifest(
        corpus=recipe.corpus,
        version=numbers.last + 1,
        created_at=timestamp(now()),
        stoker=__version__,
        recipe=recipe.document,
        recipe_digest=recipe.digest,
        parent=newest.version if newest else None,
        parent_checksum=newest.checksum if newest else None,
        content=latest.content if latest and _same_samples(latest, shards) else content_of(shards),
        parts=tuple(parts),
        shards=shards,
        decisions=curation.decisions,
        statistics=_statistics(recipe, packed, shards, store),
        licences=_licences(packed),
        pairs=curation.pairs or (latest.pairs if latest else ()),
    )
    manifest = with_lookups(store, manifest, latest.lookups if latest else ())
    try:
        put(store, manifest)
    except AlreadyExists as error:
        raise ParentMoved(f"{recipe.corpus}: another ingest took version {manifest.version}") from error
    forgotten = Forgotten.load(store, recipe.corpus)
    if forgotten.tombstones.number != curation.tombstones and holds_forgotten(store, manifest, forgotten):
        raise ParentMoved(f"{manifest.reference}: it holds samples that were taken out while it was published")
    _tell(recipe, manifest, latest)
    return Published(manifest, new=True)


def unchanged_view(recipe: Recipe, parts: Sequence[Part], curation: Curation, store: Store) -> Published | None:
    """The newest version, where it is a view and holds what would be packed: nothing is packed again for its masks."""
    latest = _readable(store, recipe.corpus, curation.parent.version) if curation.parent else None
    if latest is None or latest.is_packed:
        return None
    if not _decided_alike(latest, recipe, parts, curation):
        return None
    if find_damaged(store, recipe.corpus, claims(parts, latest.shards, curation.decisions)):
        return None  # packing heals it
    _check_tombstones(recipe, curation, store)
    _log.info("%s holds all this; no version is published", latest.reference)
    return Published(latest, new=False)


def _check_tombstones(recipe: Recipe, curation: Curation, store: Store) -> None:
    """Raise ParentMoved if samples were taken out of the corpus since the rules decided."""
    if newest_number(store, recipe.corpus) != curation.tombstones:
        raise ParentMoved(f"{recipe.corpus}: samples were taken out since the rules decided")


def _moved(recipe: Recipe, newest: Parent | None) -> str:
    now = f"the newest version is {recipe.corpus}@{newest.version} now" if newest else "no version is left"
    return f"{recipe.corpus}: {now}, which was not so when the rules decided"


def _tell(recipe: Recipe, manifest: Manifest, before: Manifest | None) -> None:
    """Log that a version was published, and what its recipe's author should know."""
    about = {"reference": manifest.reference, "samples": manifest.samples, "size": manifest.size}
    _log.info("%s: published, %d samples", manifest.reference, manifest.samples, extra=about)
    samples = {name: one.samples for name, one in manifest.splits.items()}
    for sentence in missed_shares(recipe.splits, samples, moved=manifest.decisions.moved if before else 0):
        _log.warning("%s: %s", manifest.reference, sentence)
    if before:
        _warn_of_types(before, manifest)


def parts_to_publish(recipe: Recipe, parts: Sequence[Part], store: Store) -> Sequence[Part]:
    """The parts of a corpus in groups, or those of its newest version if they make the same samples.

    So a run that changed no sample publishes nothing, though candidates were rejected once more, or for other reasons.
    """
    newest = max(catalog.versions(store, recipe.corpus), default=None)
    latest = None if newest is None else _readable(store, recipe.corpus, newest)
    if latest and decides_alike(recipe, parts, latest):
        return latest.parts
    before = manifest_of(store, recipe.corpus, parent_of(store, recipe.corpus))
    if (
        before is None
        or before.recipe.get("shards", {}).get("partitions", Sharding.partitions) != recipe.shards.partitions
    ):
        return parts  # all are grouped anew
    return with_groups_of(recipe, parts, before.parts)


def _same_samples(latest: Manifest, shards: Sequence[Shard]) -> bool:
    """Whether a version's samples and splits are those of the shards: its content, then, however it was counted."""
    return latest.is_packed and latest.shards == shards


def _is_same(
    latest: Manifest, recipe: Recipe, parts: Sequence[Part], shards: Sequence[Shard], curation: Curation
) -> bool:
    """Whether a version has all this: samples, splits and rejects.

    Shards by their names too: one that was lost may have been packed again under another name.
    """
    return _decided_alike(latest, recipe, parts, curation) and latest.shards == shards


def _decided_alike(latest: Manifest, recipe: Recipe, parts: Sequence[Part], curation: Curation) -> bool:
    """Whether a version has these decisions about the candidates of these parts."""
    if (latest.recipe_digest, latest.decisions.sha256) != (recipe.digest, curation.decisions.sha256):
        return False
    return _outcomes(latest.parts) == _outcomes(parts)


def _outcomes(parts: Sequence[Part]) -> list[tuple[str, str, dict[str, int]]]:
    """What became of the candidates of each part."""
    return [(part.digest, part.tar_sha256, dict(part.counted.rejected)) for part in parts]


def _warn_of_types(before: Manifest, now: Manifest) -> None:
    """Tell which columns hold values of another type than in the version before; whole and other numbers are one."""
    try:
        older, newer = (
            {split: Summary.from_json(content) for split, content in manifest.statistics.items()}
            for manifest in (before, now)
        )
    except CorruptShard as error:
        _log.warning("%s: types of columns were not compared with %s: %s", now.reference, before.reference, error)
        return
    for change in type_changes(older, newer):
        if not change.is_of_numbers:
            cause = f", such as {change.value[:_MAX_CAUSE]!a}" if change.value else ""
            texts = (now.reference, change.name, before.reference, change.a, change.b, cause)
            _log.warning("%s: column %s was of another type in %s: %s, now %s%s", *texts)


def healed(corpus: str, store: Store, run: Callable[[frozenset[str]], R], *, reads: bool = True) -> R:
    """What a run of the stages returns. It runs again if another writer was first, and after damage that is healed.

    ``run`` is called with the keys of damaged objects of groups, for ``pack``. A raw part whose marker is wrong gets
    another one; one whose bytes are damaged is made again from shards, or loses its marker, so that its partition is
    read again. Raises DamagedParts, DamagedObjects or StorageUnavailable where this does not end, and DamagedParts
    where a partition is to be read again by a run that ``reads`` none.
    """
    damaged: frozenset[str] = frozenset()
    rounds, lost = _MAX_ROUNDS, 0
    while True:
        try:
            return run(damaged)
        except ParentMoved as error:
            lost += 1
            if lost > _MAX_LOST:
                raise StorageUnavailable(
                    f"{store.url}/{corpus}: {lost} other versions were published while this one was made; "
                    "nothing is lost: try again when fewer ingests of this corpus run at once"
                ) from error
            _log.info("%s; it is decided again, against that", error)
        except DamagedParts as error:
            rounds -= 1
            if not rounds:
                raise
            _log.warning("%s; it is healed" if reads else "%s", error)
            found = [heal(store, corpus, part.digest, part.partition, part.shared) for part in error.parts]
            if None in found and not reads:
                partition = error.parts[found.index(None)].partition
                raise DamagedParts(
                    f"{corpus}: the raw part of partition {partition!r} is damaged; `stoker ingest` of the recipe "
                    "reads that again, and then this can be done",
                    error.parts,
                ) from error
        except DamagedObjects as error:
            rounds -= 1
            if not rounds:
                raise
            _log.warning("%s; they are packed again", error)
            damaged |= error.keys


def _prove(recipe: Recipe, parts: Sequence[Part], shards: Sequence[Shard], curation: Curation, store: Store) -> None:
    """Raise DamagedParts or DamagedObjects if what a manifest would name is not all there."""
    damaged = find_damaged(store, recipe.corpus, claims(parts, shards, curation.decisions))
    if not damaged:
        return
    more = f" (and {len(damaged) - 1} more objects)" if len(damaged) > 1 else ""
    key, problem = next(iter(damaged.items()))
    message = f"{store.url}/{key}: {problem}{more}"
    if of_parts := [part for part in parts if part.tar in damaged or part.records in damaged]:
        raise DamagedParts(message, of_parts)
    raise DamagedObjects(message, damaged)


def _readable(store: Store, corpus: str, version: int) -> Manifest | None:
    """A version's manifest with its lists; None if it is damaged: then the next version does not depend on it."""
    try:
        return load_manifest(store, corpus, version).read_lists()
    except (CorruptShard, NotFound) as error:
        _log.warning("%s", error)
        return None


# Without a version there is nothing that `stoker show --rejected` could read.
_LOOK = "`stoker check RECIPE --sample 20` shows what becomes of the first candidates, and why"


def has_too_many_rejects(recipe: Recipe, parts: Sequence[Part]) -> bool:
    """Whether more of the parts' candidates were rejected than the recipe allows."""
    candidates = Candidates.of(parts)
    # What vanished was kept once: it says nothing against the source and the steps.
    vanished = candidates.rejected.get(VANISHED, 0)
    rejected = sum(candidates.rejected.values()) - vanished
    return rejected * 100 > recipe.limits.rejected_percent * (candidates.read - vanished)


def check_limits(recipe: Recipe, parts: Sequence[Part], packed: Sequence[Packed]) -> None:
    """Raise RecipeError for a version that the recipe's limits do not allow."""
    candidates = Candidates.of(parts)
    read, reasons = candidates.read, Counter(candidates.rejected)
    rejected = sum(reasons.values())
    most = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
    if has_too_many_rejects(recipe, parts):
        raise RecipeError(
            f"{recipe.corpus}: {rejected:,} of {plural(read, 'candidate')} rejected ({most}), more than the recipe's "
            f"limits.rejected_percent = {recipe.limits.rejected_percent:g}; nothing was published. {_LOOK}"
            f"{_setting(reasons)}. Fix the source or the steps, or raise the limit"
            + ("; with 100, `stoker show --rejected` lists them all" if rejected < read else "")
        )
    if not any(shard.samples for group in packed for shard in group.shards):
        by_rules = f"by rules {read - rejected}" if read > rejected else ""
        counts = ", ".join(filter(None, (most, by_rules)))
        what = (
            f"of {plural(read, 'candidate')} all were rejected ({counts})"
            if read
            else "the source offered no candidate"
        )
        raise RecipeError(f"{recipe.corpus}: {what}; nothing was published. To see them: {_LOOK}{_setting(reasons)}")


def _setting(reasons: Counter[str]) -> str:
    """What the most frequent reason means, if that depends on a setting: then the recipe is not what to change."""
    for name, _ in reasons.most_common(1):
        reason = REASONS.get(name, UNKNOWN)
        return f"; {name}: {reason.meaning}" if reason.outcome_class == OutcomeClass.SETTING else ""
    return ""


def _statistics(recipe: Recipe, packed: Sequence[Packed], shards: Sequence[Shard], store: Store) -> dict[str, object]:
    merged = {split: Summary.empty() for split in recipe.splits}
    for group in packed:
        for split, summary in group.statistics.items():
            merged[split] = merged[split].merge(Summary.from_json(summary))
    whole = with_top_values(with_one_kind(merged, shards, store), shards, store)
    return {split: summary.to_json() for split, summary in whole.items()}


def _licences(packed: Sequence[Packed]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for group in packed:
        total.update(group.licences)
    return dict(sorted(total.items()))


def ingest(
    recipe: Recipe,
    store: Store,
    context: Context,
    *,
    stop: Callable[[], bool] = never_stop,
    progress: Callable[[int, int], None] = no_progress,
    again: Again = NOTHING_AGAIN,
) -> Published:
    """All stages in this thread, without Prefect: plan, ingest, curate, pack, publish.

    ``stop`` and ``progress`` are those of ``ingest_partition``, ``again`` that of ``Rounds``. Raises IngestStopped,
    RecipeError, SourceError, StorageError.
    """
    recipe = pinned(recipe, context, store)
    with ingest_lease(store, recipe.corpus):
        rounds = Rounds(recipe, context, store, again=again)

        def run(damaged: frozenset[str]) -> Published:
            rounds.restart()
            while (partitions := rounds.next()) is not None:
                reading = replace(context, known=rounds.known)
                ingested = (
                    ingest_partition(recipe, partition, store, reading, stop=stop, progress=progress)
                    for partition in partitions
                )
                rounds.finish([one.part for one in ingested])
            parts = parts_to_publish(recipe, rounds.parts, store)
            curation = curate(recipe, parts, store, context.scratch)
            if (same := unchanged_view(recipe, parts, curation, store)) is not None:
                return same
            packed = []
            for group, decisions in zip(curation.groups, curation.by_group, strict=True):
                if stop():
                    raise IngestStopped("stopped before packing was done; the same command resumes")
                packed.append(pack(recipe, group, decisions, store, context.scratch, damaged=damaged))
            check_limits(recipe, rounds.parts, packed)
            return publish(recipe, parts, curation, packed, store, now=context.now)

        return healed(recipe.corpus, store, run)
