"""`stoker delete`: a version, or a whole corpus, is gone for all readers; `stoker gc` frees its bytes."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress

from stoker.flows.cli.output import print_json
from stoker.flows.logs import note
from stoker.flows.start import load_settings
from stoker.storage.clock import timestamp, utc_now
from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.deleted import delete_corpus, delete_version
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.work import gc_lease

_DEAD_S = 3600.0  # an ingest without a sign of life for so long was killed
_SHOWN = 8


def delete(arguments: Namespace) -> int:
    """Delete a version or a corpus. Raises StorageRefused where --yes is missing, NotFound, CorpusBusy."""
    store = load_settings(arguments).open_store(reading=not arguments.yes)
    corpus, version = catalog.parse_reference(arguments.corpus)
    numbers = catalog.numbers(store, corpus)
    _check(store, corpus, version, numbers)
    gone = numbers.existing if version is None else [version]
    named = [f"{corpus}@{number}" for number in gone]
    _refuse_named(store, gone, corpus)
    listed = ", ".join(["…"] * (len(named) > _SHOWN) + named[-_SHOWN:]) or f"{corpus}, which has no version left,"
    if not arguments.yes:
        raise StorageRefused(f"{listed} would be deleted for good, nothing was done; --yes does it")
    at = timestamp(utc_now())
    if version is None:
        with gc_lease(store, corpus, older_than_s=_DEAD_S):
            delete_corpus(store, corpus, numbers.manifests, at=at)
    else:
        delete_version(store, corpus, version, at=at)
    if arguments.json:
        print_json({"corpus": corpus, "deleted": gone})
    else:
        print(f"deleted: {listed}")
    note(
        f"its bytes stay until `stoker gc {corpus} --delete`; a copy that training keeps on its own disk is not reached"
    )
    return 0


def _refuse_named(store: Store, versions: Sequence[int], corpus: str) -> None:
    """Raise StorageRefused for a version that the newest version of another corpus was compared with."""
    named = {f"{corpus}@{version}" for version in versions}
    for other, newest in catalog.newest_versions(store).items():
        if other == corpus:
            continue
        with suppress(CorruptShard, NotFound):
            manifest = load_manifest(store, other, newest)
            rules = [rule for rule in manifest.recipe.get("rules", ()) if isinstance(rule, Mapping)]
            if against := named.intersection(str(rule.get("against")) for rule in rules):
                raise StorageRefused(
                    f"{min(against)} is what {manifest.reference} was compared with (`against`); to delete it, make a "
                    f"version of {other} without that rule first, or delete {other}"
                )


def _check(store: Store, corpus: str, version: int | None, numbers: catalog.Numbers) -> None:
    """Raise NotFound for what is not there. What a killed deletion left is there, and is deleted again."""
    if version is None:
        if not numbers.last:
            raise NotFound(catalog.missing(store, corpus))
    elif version not in numbers.manifests:
        raise NotFound(catalog.missing(store, corpus, version))
