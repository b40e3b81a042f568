"""Purge: the bytes of samples that were taken out go, wherever they lie in the store.

All that holds such a sample is written anew under another key first, with a filler or a blank row in its place; then
the purge is recorded, from which moment on all versions read the new objects; then the old ones are deleted, and with
them what no version needs. A purge that was killed at any point is finished by the same call. Price: the records and
indexes of all versions are read, and each object that holds a sample is copied once.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.pipelines.stages.forgetting.ledger_anew import remove_old_heads, write_head
from stoker.pipelines.stages.forgetting.matching import Forgotten
from stoker.pipelines.stages.forgetting.rewriting import Rewriting
from stoker.pipelines.stages.forgetting.runs_anew import remove_studies, runs_of, write_runs
from stoker.pipelines.stages.raw_part import move_marker
from stoker.pipelines.stages.scratch import folder_in
from stoker.storage.clock import Clock, timestamp, utc_now
from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.shards import records
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, layout, orphans
from stoker.storage.versions.listed.redirected import part_now
from stoker.storage.versions.manifest import Manifest, Part, load_manifest
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.memory.ledger import heads, load_head
from stoker.storage.versions.memory.withdrawn import load_record, load_redirects, record_withdrawn
from stoker.storage.versions.orphans import Orphan, ReferencedKeys
from stoker.storage.versions.tar_store import keys_of_tars
from stoker.storage.versions.work import GcLease, gc_lease

_DEAD_S = 3600.0  # an ingest without a sign of life for so long was killed
_ALWAYS_UNREACHED = (
    "copies on machines that trained, and in checkpoints and logs there",
    "copies of the store, and of its disks, that others made",
    "space that an S3 server frees later, as SeaweedFS does at its next vacuum",
)


@dataclass(frozen=True)
class Purge:
    """What a purge did.

    Args:
        corpus: its name.
        key: of the record in the store, with the receipt; "" if nothing was ever purged.
        new: whether this call found anything to write anew.
        receipt: what was reached, and what was not; as it stands in the record.
    """

    corpus: str
    key: str
    new: bool
    receipt: Mapping[str, Any]  # Any: JSON values


def purge(
    store: Store, corpus: str, *, all_versions: bool = False, scratch: Path | None = None, now: Clock = utc_now
) -> Purge:
    """Remove the bytes of all samples that were ever taken out of a corpus. Goes on with a purge that was killed.

    Raises StorageRefused if nothing was taken out, or the bucket keeps old versions of objects; CorpusBusy during an
    ingest; CorruptShard, StorageError.

    Args:
        store: the store that holds the corpus.
        corpus: its name.
        all_versions: in a bucket that keeps old versions of objects, remove those too, of the whole corpus.
        scratch: for temporary files; None: in the system's folder for them.
        now: the clock.

    >>> from stoker import forget, purge
    >>> from stoker.testing import sample_corpus
    >>> store, _ = sample_corpus(12)
    >>> _ = forget(store, "numbers", [("key", "n0003")])
    >>> purge(store, "numbers").receipt["versions"]
    {'numbers@1': 1}
    """
    forgotten = Forgotten.load(store, corpus)
    if not forgotten:
        raise StorageRefused(f"{store.url}/{corpus}: nothing was taken out of it, so that there is nothing to purge")
    _check_versioning(store, all_versions)
    with (
        gc_lease(store, corpus, older_than_s=_DEAD_S) as lease,
        folder_in(scratch or Path(tempfile.gettempdir()) / "stoker-purge") as folder,
    ):
        rewriting = Rewriting(store, corpus, forgotten, folder)
        manifests = [load_manifest(store, corpus, number).read_lists() for number in catalog.versions(store, corpus)]
        if manifests and not any(map(_is_ours, manifests)):
            raise StorageRefused(
                f"{store.url}/{corpus}: its tars are not Stoker's; take the samples out of them, give the same `stoker "
                "index` command again, and delete the versions before"
            )
        _write_anew(rewriting, manifests, now)
        if rewriting.replaced:
            receipt = _receipt(rewriting, manifests, timestamp(now()))
            record_withdrawn(store, corpus, rewriting.replaced.values(), at=timestamp(now()), receipt=receipt)
        _remove_old(rewriting, lease)
        if all_versions and isinstance(store, S3Store):
            store.delete_old_versions(f"{corpus}/")
    number = max(numbered.numbers(store, layout.withdrawn_folder(corpus)), default=0)
    record = load_record(store, corpus, number) if number else None
    return Purge(
        corpus,
        layout.withdrawn(corpus, number) if record else "",
        bool(rewriting.replaced),
        record.receipt if record else {},
    )


def _check_versioning(store: Store, all_versions: bool) -> None:
    if not all_versions and isinstance(store, S3Store) and store.keeps_versions():
        raise StorageRefused(
            f"{store.url}: its bucket keeps old versions of objects, so that what is purged would stay there; "
            "--versions removes those of this corpus too"
        )


def _write_anew(rewriting: Rewriting, manifests: Iterable[Manifest], now: Clock) -> None:
    """All but the record: new objects, and the memory that names them."""
    manifests = list(manifests)
    ours = [manifest for manifest in manifests if _is_ours(manifest)]
    rewriting.unreached += [
        f"the tars of {manifest.reference}, which Stoker did not write; take the samples out there, index them again, "
        f"and delete {manifest.reference}"
        for manifest in manifests
        if not _is_ours(manifest)
    ]
    parts: list[Part] = [part for manifest in ours for part in manifest.parts]
    redirects = load_redirects(rewriting.store, rewriting.corpus)
    # A purge that was killed before its record may have made the newest: the old parts are in the one before.
    for number in heads(rewriting.store, rewriting.corpus)[-2:]:
        head = load_head(rewriting.store, rewriting.corpus, number)
        parts += (part_now(part, redirects) for part in head.parts)
    rewriting.write(ours, parts)
    for part in {part.records: part for part in parts}.values():
        if (new := part_now(part, rewriting.replaced)) is not part:
            move_marker(rewriting.store, rewriting.corpus, part.as_read(), new)
    sources = {str(manifest.recipe.get("source", {}).get("name", "")) for manifest in ours}
    write_head(rewriting, sources, now=now)
    references = {f"{rewriting.corpus}@{number}" for number in rewriting.versions}
    write_runs(rewriting.store, rewriting.corpus, references, rewriting.keys)
    remove_studies(rewriting.store, rewriting.corpus, rewriting.versions)


def _is_ours(manifest: Manifest) -> bool:
    """Whether the version's tars are the corpus' own, and not others' that were indexed in place."""
    folder = f"{manifest.corpus}/shards/"
    return not manifest.is_indexed or all(shard.key.startswith(folder) for shard in manifest.shards)


def _receipt(rewriting: Rewriting, manifests: Iterable[Manifest], at: str) -> dict[str, Any]:  # Any: JSON values
    references = {f"{rewriting.corpus}@{number}": count for number, count in sorted(rewriting.versions.items())}
    unreached = [*rewriting.unreached, *_ALWAYS_UNREACHED, *_others(rewriting)]
    licences = [manifest.reference for manifest in manifests if manifest.version in rewriting.versions]
    if licences:
        unreached.append(f"names and counts of licences in the manifests of {', '.join(licences)}")
    return {
        "corpus": rewriting.corpus,
        "at": at,
        "tombstones": rewriting.forgotten.tombstones.number,
        "candidates": len(rewriting.keys),
        "versions": references,
        "objects": sorted(rewriting.replaced),
        "runs": sorted(runs_of(rewriting.store, rewriting.corpus, references)),
        "unreached": unreached,
    }


def _others(rewriting: Rewriting) -> Iterator[str]:
    """Other corpora in this store whose tars those of this corpus are: they are gone there too."""
    tars = {old for old in rewriting.replaced if old.startswith(f"{rewriting.corpus}/shards/")}
    for other, newest in catalog.newest_versions(rewriting.store).items():
        if other != rewriting.corpus:
            with suppress(CorruptShard, NotFound, StorageRefused):
                manifest = load_manifest(rewriting.store, other, newest)
                if manifest.is_indexed and not tars.isdisjoint(keys_of_tars(rewriting.store, manifest)):
                    yield f"{manifest.reference}, an index of tars that are gone now: index them again"
    yield "other corpora that hold the same samples"


def _remove_old(rewriting: Rewriting, lease: GcLease) -> None:
    """Remove the old objects of all purges so far, older ledger heads, and what nothing needs."""
    store, corpus = rewriting.store, rewriting.corpus
    gone = set(load_redirects(store, corpus))
    folders = ("raw", "shards", "decisions", "lists")
    present = [stored.key for folder in folders for stored in store.list(f"{corpus}/{folder}/")]
    groups = {layout.folder_of(key) for key in gone if key.startswith(f"{corpus}/shards/")}
    for key in present:
        # A group's marker has the group's statistics.
        if key in gone or (key.endswith("/group.json") and layout.folder_of(key) in groups):
            store.delete(key)
    remove_old_heads(rewriting)
    referenced = ReferencedKeys(store)
    referenced.refresh()
    found = orphans.find(store, corpus, referenced.of(corpus), own_lease=lease.key)
    chosen = [orphan for orphan in found if orphan.kind != orphans.LEASE and not _is_clean_part(rewriting, orphan)]
    for _ in orphans.remove(lease, referenced, chosen):
        pass


def _is_clean_part(rewriting: Rewriting, orphan: Orphan) -> bool:
    """Whether this is a whole raw part without anything that was taken out: the next ingest uses it."""
    tables = [key for key in orphan.keys if key.endswith(".parquet")]
    if orphan.kind != orphans.PART or len(tables) != 1:
        return False
    try:
        return not rewriting.forgotten.rows(records.decode(rewriting.store.read(tables[0]))).any()
    except (CorruptShard, NotFound):
        return False
