"""Witnesses of what was taken out: beside each file of tombstones, which files there are and their checksums.

A file that was lost, or replaced by another one, is told by the newest witness. Of files of earlier releases there is
none until something more is taken out. A witness also says why it was done, as the owner put it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.document import Document
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.sealed import read_sealed, seal
from stoker.storage.versions.verified import second_read

SCHEMA = 1
_MAX_SIZE = 16 * 2**20  # bytes
_REMEDY = "restore it from a copy; if there is none, and no file of tombstones beside it was lost, remove it"


@dataclass(frozen=True, slots=True)
class Witness:
    """What is known of the files of tombstones up to a number."""

    corpus: str
    number: int
    reason: str = ""  # why the values of the last file were taken out; "": not told
    files: Mapping[int, str] = field(default_factory=dict)  # SHA-256 by number

    @classmethod
    def from_document(cls, document: Document) -> "Witness":
        """Reverses ``encode``. Raises CorruptShard."""
        files = {one.whole("number"): one.text("sha256") for one in document.documents("files")}
        return cls(document.text("corpus"), document.whole("number"), document.text("reason"), files)


def write_witness(store: Store, corpus: str, number: int, *, reason: str = "") -> None:
    """Write the witness of a file of tombstones that is there, and of all before it. Raises StorageError."""
    before = newest_witness(store, corpus, number - 1)
    known = before.files if before else {}
    files = {one: known.get(one) or _sha256(store, corpus, one) for one in range(1, number + 1)}
    store.write(layout.witness(corpus, number), encode(Witness(corpus, number, reason, files)))


def newest_witness(store: Store, corpus: str, last: int) -> Witness | None:
    """The newest witness up to a number; None: there is none. Raises CorruptShard, StorageRefused, StorageError."""
    keys = {stored.key for stored in store.list(layout.tombstones_folder(corpus))}
    for number in range(last, 0, -1):
        if layout.witness(corpus, number) in keys:
            return load_witness(store, corpus, number)
    return None


def load_witness(store: Store, corpus: str, number: int) -> Witness:
    """A witness. Raises NotFound, CorruptShard, StorageRefused for one of a newer Stoker."""
    key = layout.witness(corpus, number)
    found = Witness.from_document(
        second_read(lambda: read_sealed(store, key, newest=SCHEMA, remedy=_REMEDY, most=_MAX_SIZE))
    )
    return numbered.in_its_place(found, store, key, corpus, number, remedy=_REMEDY)


def encode(witness: Witness) -> bytes:
    """The object of a witness."""
    files = [{"number": number, "sha256": sha256} for number, sha256 in sorted(witness.files.items())]
    return seal(
        {
            "corpus": witness.corpus,
            "number": witness.number,
            "reason": witness.reason,
            "files": files,
            "schema": SCHEMA,
        }
    )


def _sha256(store: Store, corpus: str, number: int) -> str:
    return hashlib.sha256(store.read(layout.tombstones(corpus, number))).hexdigest()
