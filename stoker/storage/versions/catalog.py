"""The corpora in a store and their versions, found by listing."""

import difflib
import re
from dataclasses import dataclass

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.deleted import load_deleted

_REFERENCE = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})(?:@([0-9]{1,8}))?")
_MAX_EXAMPLES = 10  # corpora or versions named in a message


def corpora(store: Store) -> list[str]:
    """The corpora that have a version, in order of their names."""
    return list(newest_versions(store))


def newest_versions(store: Store) -> dict[str, int]:
    """The newest version of each corpus that has one, in order of their names."""
    by_name = {name: versions(store, name) for name in store.folders() if _REFERENCE.fullmatch(name)}
    return {name: existing[-1] for name, existing in by_name.items() if existing}


def versions(store: Store, corpus: str) -> list[int]:
    """The versions of a corpus, oldest first, without deleted ones; empty if there is no such corpus."""
    return numbers(store, corpus).existing


@dataclass(frozen=True, slots=True)
class Numbers:
    """The version numbers of a corpus that are in use, or were, each oldest first."""

    existing: list[int]  # of versions that were not deleted
    deleted: list[int]
    manifests: list[int]  # with a manifest: a killed deletion may have left that of a deleted version

    @property
    def last(self) -> int:
        """The highest number that is or was in use; 0 if none is."""
        return max([*self.existing[-1:], *self.deleted[-1:]], default=0)


def numbers(store: Store, corpus: str) -> Numbers:
    """The version numbers of a corpus, by one listing."""
    manifests, deleted = set(), set()
    for stored in store.list(layout.versions(corpus)):
        if (number := layout.version_of(stored.key)) is not None:
            manifests.add(number)
        elif (number := layout.deleted_of(stored.key)) is not None:
            deleted.add(number)
    return Numbers(sorted(manifests - deleted), sorted(deleted), sorted(manifests))


def parse_reference(text: str) -> tuple[str, int | None]:
    """Corpus and version of a reference. Raises NotFound for an invalid one.

    >>> parse_reference("digits@2"), parse_reference("digits")
    (('digits', 2), ('digits', None))
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or match[2] == "0":
        raise NotFound(f"{text[:80]!r} names no corpus; expected a name like 'digits', or 'digits@2' for its version 2")
    return match[1], int(match[2]) if match[2] else None


def is_ingested(store: Store, corpus: str) -> bool:
    """Whether there is anything that an ingest has read, for a version or none yet; not of indexed tars."""
    return next(iter(store.list(layout.raw(corpus))), None) is not None


def has_masks(store: Store, corpus: str) -> bool:
    """Whether a version of the corpus may leave out stored samples."""
    return next(iter(store.list(layout.masks(corpus))), None) is not None


def missing(store: Store, corpus: str, version: int | None = None) -> str:
    """The message for a corpus or version that does not exist: which do, and the nearest name."""
    found = numbers(store, corpus)
    existing = found.existing
    if version in found.deleted:
        return _was_deleted(store, corpus, version, existing)
    if not existing and found.deleted:
        return f"{store.url}: all versions of {corpus} were deleted; the last one was {corpus}@{found.last}"
    if existing and version is not None:
        known = ", ".join(str(number) for number in existing[-_MAX_EXAMPLES:])
        return (
            f"{store.url}: {corpus} has no version {version}; it has {'…, ' * (len(existing) > _MAX_EXAMPLES)}{known}"
        )
    if is_ingested(store, corpus):
        return (
            f"{store.url}: {corpus} has no version yet: an ingest has not ended, or kept too little to publish one. "
            "What was rejected, and why: `stoker check RECIPE --sample 20`"
        )
    names = corpora(store)
    if not names:
        return f"{store.url}: no corpus is called {corpus!r}; the store holds none yet"
    near = difflib.get_close_matches(corpus, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names[:_MAX_EXAMPLES])}"
    return f"{store.url}: no corpus is called {corpus!r}; {hint}"


def _was_deleted(store: Store, corpus: str, version: int, existing: list[int]) -> str:
    """The message for a deleted version: when that was, and its neighbours."""
    try:
        when = f"deleted on {load_deleted(store, corpus, version).deleted_at[:10]}"
    except (NotFound, CorruptShard, StorageRefused):
        when = "deleted"
    before = max((number for number in existing if number < version), default=None)
    after = min((number for number in existing if number > version), default=None)
    near = " and ".join(f"{corpus}@{number}" for number in (before, after) if number is not None)
    return f"{store.url}: {corpus}@{version} was {when}; {f'its neighbours: {near}' if near else 'no other is left'}"
