"""Verifies the lookups of a version against its records and indexes, and writes damaged ones again."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.verification.reread import ObjectChecker
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.lookups.building import files_of, hashes_of_file
from stoker.storage.versions.lookups.table import Entries, Lookup, encode, hashes_in
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.verified import put, verified_bytes


@dataclass
class LookupCheck:
    """What the lookups of a version must say: of each file the count of its values, and the sum of their hashes."""

    facts: dict[str, tuple[int, int]] = field(default_factory=dict)  # by key of the file

    def add(self, key: str, table: pa.Table) -> None:
        """Note the values of records or of an index, as they were read."""
        hashes = hashes_in(table)
        self.facts[key] = len(hashes), int(hashes.sum(dtype=np.uint64))

    def compare(self, objects: ObjectChecker, manifest: Manifest) -> None:
        """Report lookups that are damaged, or say other things of a file than it holds."""
        for file in manifest.lookups:
            try:
                entries = _whole(objects.store, file).entries()
            except NotFound:
                objects.add_problem(file.key, "is missing")
                continue
            except CorruptShard as error:
                objects.add_problem(file.key, str(error).removeprefix(f"{objects.store.url}/{file.key}: "))
                continue
            objects.count(file.size)
            for problem in self._problems(entries):
                objects.add_problem(file.key, problem)

    def _problems(self, entries: Entries) -> Iterator[str]:
        counts = np.bincount(entries.places, minlength=len(entries.files))
        sums = np.zeros(len(entries.files), np.uint64)
        np.add.at(sums, entries.places, entries.hashes)
        for key, count, total in zip(entries.files, counts.tolist(), sums.tolist(), strict=True):
            if self.facts.get(key, (count, total)) != (count, total):
                yield f"says other values of {key} than it has"
                return  # one tells enough


def repair_lookups(store: Store, manifest: Manifest, damaged: Collection[str]) -> list[str]:
    """Write the damaged lookups of a version again, where that gives the old bytes; what to do about the others."""
    return [
        f"{store.url}/{file.key}: it cannot be made again; `stoker why` reads all records of {manifest.reference} "
        "without it, and the next version gets another one"
        for file in manifest.lookups
        if file.key in damaged and not _is_made_again(store, manifest, file)
    ]


def _is_made_again(store: Store, manifest: Manifest, file: ListFile) -> bool:
    sources = files_of(manifest)
    files = sources.keys() - {key for other in manifest.lookups if other != file for key in _files(store, other)}
    try:
        made = Entries.of((key, hashes_of_file(store, key, sources[key])) for key in sorted(files))
    except (CorruptShard, NotFound):  # the objects that it is made of are damaged
        return False
    payload, _ = encode(made)
    if hashlib.sha256(payload).hexdigest() != file.sha256:
        return False
    put(store, file.key, payload, sha256=file.sha256)
    return True


def _files(store: Store, file: ListFile) -> Collection[str]:
    try:
        return _whole(store, file).files
    except (CorruptShard, NotFound):
        return ()


def _whole(store: Store, file: ListFile) -> Lookup:
    """A lookup that was compared with its checksum. Raises CorruptShard, NotFound."""
    payload = verified_bytes(store, file.key, sha256=file.sha256, size=file.size)
    return Lookup(lambda start, stop: payload[start:stop], file, f"{store.url}/{file.key}")
