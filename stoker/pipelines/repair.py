"""Repair of a version: what can be derived from its other objects is written again, with the bytes that it names.

Raw tars come from the shards that hold their samples, shards and indexes from raw parts and records, decisions from
records and the recipe, markers from their objects. Records come from nothing else, and a sample that rules dropped lies
in its raw tar alone: where these are damaged the part's marker is removed, so that the next ingest reads the partition
again. What a version names is never written in other bytes.
"""

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.stages.curate import Curation, decided_again, pairs_again, restored
from stoker.pipelines.stages.group import attempts
from stoker.pipelines.stages.pack import group_digest, pack
from stoker.pipelines.stages.raw_part import DamagedParts, heal, kept_records, read_marker
from stoker.pipelines.stages.scratch import folder_in
from stoker.pipelines.tables.deciding.by_group import without_types
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.index import COLUMNS, ShardIndex
from stoker.storage.shards.kinds import PACKED_INDEX
from stoker.storage.shards.row_checksum import CRC32C
from stoker.storage.stores.store import Store
from stoker.storage.verification.repair_masks import packed_version, repair_masks
from stoker.storage.verification.verify_lookups import repair_lookups
from stoker.storage.versions import layout
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.manifest import Manifest, Part
from stoker.storage.versions.measured.pairs import put_pairs
from stoker.storage.versions.verified import verified_sample, verified_table
from stoker.storage.versions.work import ingest_lease

_log = logging.getLogger(__name__)


def repair(recipe: Recipe, manifest: Manifest, damaged: Collection[str], store: Store, scratch: Path) -> list[str]:
    """Write the damaged objects of a version again, as far as they can be derived; what to do about the others.

    A killed repair leaves each object as it was or healed. Raises StorageError, RecipeError.

    Args:
        recipe: the recipe that the version was made by.
        damaged: keys of objects, from ``Verified.damaged``.
    """
    with ingest_lease(store, manifest.corpus):
        advice = [
            f"partition {part.partition!r}: its raw part {layout.folder_of(part.tar)} is damaged, and nothing else has "
            "all that was in it; `stoker ingest` of the recipe reads this partition again"
            for part in manifest.parts
            if not _heal_part(part, manifest, damaged, store, scratch)
        ]
        advice += repair_masks(store, manifest, damaged)
        advice += _heal_groups(recipe, manifest, damaged, store, scratch)
        advice += repair_lookups(store, manifest, damaged)
        return advice + _heal_pairs(manifest, damaged, store)


def _heal_pairs(manifest: Manifest, damaged: Collection[str], store: Store) -> list[str]:
    lost = [file for file in manifest.pairs if file.key in damaged]
    if not lost:
        return []
    again: Sequence[tuple[ListFile, bytes]] = ()
    with suppress(DamagedParts, CorruptShard, NotFound):  # told of already
        again = pairs_again(store, manifest, lost)
    put_pairs(store, again)
    healed = {file.key for file, _ in again}
    return [
        f"{store.url}/{file.key}: near-duplicates are looked for without it, and the next version that is made keeps "
        "their pairs again"
        for file in lost
        if file.key not in healed
    ]


def _heal_part(part: Part, manifest: Manifest, damaged: Collection[str], store: Store, scratch: Path) -> bool:
    """Whether a part is whole, or is now; one that is not loses its marker."""
    for key in set(part.originals).intersection(damaged):
        store.delete(key)  # what needs one of them asks its server
    if part.tar in damaged and part.records not in damaged:
        _tar_from_shards(part, manifest, damaged, store, scratch)
    marker = layout.raw_part(manifest.corpus, part.digest)
    if part.tar in damaged or part.records in damaged or marker in damaged:
        return heal(store, manifest.corpus, part.digest, part.partition, part.shared) == part.as_read()
    # A part of the same digest that was read later has a marker of its own: this version does not need it.
    read_marker(store, manifest.corpus, part.digest, part.partition, part.shared)
    return True


def _tar_from_shards(part: Part, manifest: Manifest, damaged: Collection[str], store: Store, scratch: Path) -> None:
    """Write a raw tar again if its own bytes, with those of the samples in shards over them, are the right ones."""
    rows = kept_records(store, part)
    places = dict(zip(rows["key"].to_pylist(), _spans(rows), strict=True))
    with folder_in(scratch) as folder:
        path = folder / "part.tar"
        with path.open("w+b") as file:
            try:
                for chunk in store.iter_bytes(part.tar):
                    file.write(chunk)
            except NotFound:
                _log.info("%s/%s: it is gone; it is made of shards alone", store.url, part.tar)
            file.truncate(max(0, part.tar_size - 1024))
            file.truncate(part.tar_size)  # it ends with zeros
            for key, payload in _samples(part, manifest, damaged, store):
                start, stop = places[key]
                if stop - start == len(payload):
                    file.seek(start)
                    file.write(payload)
            file.flush()
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() == part.tar_sha256:
                store.write(part.tar, path)


def _samples(
    part: Part, manifest: Manifest, damaged: Collection[str], store: Store
) -> Iterator[tuple[str, memoryview]]:
    """Key and bytes of the part's samples that lie in undamaged shards."""
    for shard in manifest.shards:
        if shard.key in damaged or shard.index in damaged:
            continue
        columns = [*COLUMNS, CRC32C, "part"]
        table = verified_table(store, shard.index, PACKED_INDEX, sha256=shard.index_sha256, columns=columns)
        table = table.filter(pc.equal(table["part"], part.digest))
        index = ShardIndex.of(table, f"{store.url}/{shard.index}")
        for row, key in enumerate(table["key"].to_pylist()):
            try:
                region = verified_sample(store, shard.key, index, row)
            except CorruptShard as error:  # since it was verified
                _log.warning("%s", error)
                continue
            if isinstance(region, memoryview):  # samples of shards lie in one piece
                yield key, region


def _spans(table: pa.Table) -> list[tuple[int, int]]:
    columns = (np.asarray(table[name].to_pylist(), np.int64).tolist() for name in ("start", "stop"))
    return list(zip(*columns, strict=True))


def _heal_groups(
    recipe: Recipe, manifest: Manifest, damaged: Collection[str], store: Store, scratch: Path
) -> Iterator[str]:
    """Decide and pack again; what remains to be done."""
    groups = {shard.group for shard in manifest.shards if shard.key in damaged or shard.index in damaged}
    groups |= {shard.group for shard in manifest.shards if layout.group(manifest.corpus, shard.group) in damaged}
    if not groups and manifest.decisions.key not in damaged:
        return
    again = f"`stoker ingest` of the recipe heals {manifest.corpus}, or makes its next version"
    if not manifest.is_packed:  # its decisions are of later than its tars
        if manifest.decisions.key in damaged:
            yield (
                f"{store.url}/{manifest.decisions.key}: nothing else says what was decided after the tars were packed; "
                f"put back the object whose SHA-256 is {manifest.decisions.sha256}. Streams do not need it"
            )
        if not groups:
            return
        older = packed_version(store, manifest)
        heals = f"`stoker verify --repair {older.reference}`, which has no masks, heals them" if older else again
        yield f"{manifest.reference} has masks over tars that were packed before; {heals}"
        return
    try:
        if manifest.decisions.key in damaged:
            curation = decided_again(recipe, manifest, store, scratch)
        else:
            curation = restored(recipe, manifest.parts, manifest.decisions, store, None)
    except RecipeError as error:  # of a list, say, that is not there any more
        yield f"{manifest.reference} cannot be decided about again: {error}; {again}"
        return
    except DamagedParts as error:
        yield f"decisions and shards are made from records, which are damaged, too ({error}); {again}"
        return
    if curation is None:
        yield f"the rules of this release decide otherwise than those that {manifest.reference} was made by; {again}"
        return
    left = groups - _pack_again(recipe, curation, groups, damaged, store, scratch)
    if left:
        yield (
            f"{len(left)} groups of shards cannot be made again with their old bytes: raw parts are damaged, too, or "
            f"this release packs otherwise; {again}"
        )


def _pack_again(
    recipe: Recipe, curation: Curation, groups: Collection[str], damaged: Collection[str], store: Store, scratch: Path
) -> set[str]:
    """Those of the groups that have their old bytes again."""
    healed: set[str] = set()
    for parts, decided in zip(curation.groups, curation.by_group, strict=True):
        for decisions in dict.fromkeys((decided, without_types(decided))):
            with suppress(DamagedParts):
                names = set(attempts(group_digest(recipe, parts, decisions, store))) & set(groups)
                if names and pack(recipe, parts, decisions, store, scratch, damaged=damaged).group in names:
                    healed |= names
    return healed
