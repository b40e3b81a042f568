"""What purges did: objects that were written anew without the bytes of some samples, under new keys.

The old object is gone. Every version that names it reads the new one in its place: all offsets and rows are the same,
and the rows that were blanked hold nothing. The record of a purge is never changed or removed.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.document import Document
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.sealed import read_sealed, seal
from stoker.storage.versions.verified import second_read

_log = logging.getLogger(__name__)

SCHEMA = 1
_MAX_SIZE = 512 * 2**20  # bytes
_REMEDY = "restore it from a copy: versions do not find what it names otherwise"


@dataclass(frozen=True, slots=True)
class Replaced:
    """An object and the one in its place."""

    old: str  # key
    new: str  # key
    size: int  # bytes of the new one
    sha256: str  # of the new one
    rows: tuple[int, ...]  # of the object's index or records, from 0: those that hold nothing now

    @classmethod
    def from_document(cls, document: Document) -> "Replaced":
        """What stands in a JSON object. Raises CorruptShard."""
        return cls(
            old=document.text("old"),
            new=document.text("new"),
            size=document.whole("size"),
            sha256=document.text("sha256"),
            rows=tuple(document.wholes("rows")),
        )


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What one purge did."""

    corpus: str
    number: int  # from 1
    at: str  # ISO 8601, UTC
    objects: tuple[Replaced, ...]  # also those of all purges before: the newest record alone is needed
    receipt: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values; for people: what it reached

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The record as JSON values; the receipt only where there is one."""
        content = {name: value for name, value in asdict(self).items() if name != "receipt" or value}
        return content | {"schema": SCHEMA}

    @classmethod
    def from_document(cls, document: Document) -> "Withdrawn":
        """Reverses ``to_json``. Raises CorruptShard."""
        return cls(
            corpus=document.text("corpus"),
            number=document.whole("number"),
            at=document.text("at"),
            objects=tuple(Replaced.from_document(one) for one in document.documents("objects")),
            receipt=document.mapping("receipt") if document.has("receipt") else {},
        )


def record_withdrawn(
    store: Store,
    corpus: str,
    objects: Iterable[Replaced],
    *,
    at: str,
    receipt: Mapping[str, Any] = MappingProxyType({}),  # Any: JSON values
) -> Withdrawn:
    """Record a purge under the next free number: before the old objects are deleted. Raises StorageError.

    Args:
        store: the store that holds the corpus.
        corpus: its name.
        objects: what was written anew.
        at: the time, ISO 8601 in UTC.
        receipt: for people.
    """
    listed = tuple(objects)

    def record(number: int) -> Withdrawn:
        """Made when the number is known: another purge may have taken the one before just now."""
        before = [load_record(store, corpus, number - 1)] if number > 1 else []
        merged = redirects([*before, Withdrawn(corpus, number, at, listed)])
        return Withdrawn(corpus, number, at, tuple(merged[old] for old in sorted(merged)), dict(receipt))

    number = numbered.create_next(
        store,
        layout.withdrawn_folder(corpus),
        lambda number: layout.withdrawn(corpus, number),
        lambda number: encode(record(number)),
    )
    return load_record(store, corpus, number)


def load_redirects(store: Store, corpus: str) -> Mapping[str, Replaced]:
    """What to read in the place of each object that is gone, by its key. One listing, and a read if there was a purge.

    A damaged record does not keep anybody from what it does not name: the one before it counts then. StorageError.
    """
    for number in reversed(numbered.numbers(store, layout.withdrawn_folder(corpus))):
        try:
            return {one.old: one for one in load_record(store, corpus, number).objects}
        except (CorruptShard, NotFound) as error:
            _log.warning("%s", error)
    return {}


def load_withdrawn(store: Store, corpus: str) -> list[Withdrawn]:
    """What all purges did, oldest first. Raises CorruptShard, StorageRefused, StorageError."""
    return [load_record(store, corpus, number) for number in numbered.numbers(store, layout.withdrawn_folder(corpus))]


def load_record(store: Store, corpus: str, number: int) -> Withdrawn:
    """What one purge did. Raises NotFound, CorruptShard, StorageRefused."""
    key = layout.withdrawn(corpus, number)
    found = Withdrawn.from_document(
        second_read(lambda: read_sealed(store, key, newest=SCHEMA, remedy=_REMEDY, most=_MAX_SIZE))
    )
    return numbered.in_its_place(found, store, key, corpus, number, remedy=_REMEDY)


def redirects(purges: Iterable[Withdrawn]) -> Mapping[str, Replaced]:
    """What to read in the place of each object that is gone, by its key: the last one where it was purged again."""
    found: dict[str, Replaced] = {}
    origins: dict[str, list[str]] = {}  # the old keys, by the key of what is in their place
    for replaced in (replaced for purge in purges for replaced in purge.objects):
        moved = origins.pop(replaced.old, [])
        for old in moved:
            rows = tuple(sorted({*found[old].rows, *replaced.rows}))
            found[old] = replace(replaced, old=old, rows=rows)
        found[replaced.old] = replaced
        origins.setdefault(replaced.new, []).extend([*moved, replaced.old])
    return found


def encode(withdrawn: Withdrawn) -> bytes:
    """The object of a record."""
    return seal(withdrawn.to_json())
