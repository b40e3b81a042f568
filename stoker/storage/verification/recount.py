"""Compares what a manifest says of a version as a whole with what its indexes, its store and its history say."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.blank import blank_rows_of
from stoker.storage.statistics.licences import count_licences
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.content import content_of, content_with_rejects
from stoker.storage.versions.listed.named import Candidates
from stoker.storage.versions.manifest import WITH_LISTS, Manifest, load_manifest
from stoker.storage.versions.memory.withdrawn import load_redirects
from stoker.storage.versions.top_values import with_one_kind, with_top_values

_CLOCKS = timedelta(days=1)  # by which the clocks of machines may differ
# Fields that nothing else in the store tells: only the manifest's own checksum.
_STATED = ("created_at", "stoker", "recipe", "recipe_digest", "parent", "parent_checksum", "content", "tars")


@dataclass
class Recount:
    """Statistics and licences, counted again from indexes."""

    summaries: dict[str, Summary] = field(default_factory=dict)
    licences: Counter[str] = field(default_factory=Counter)
    blank: int = 0  # rows of samples that were purged

    def add(self, split: str, index: pa.Table) -> None:
        """Count the samples of one shard, from its index without those that are masked."""
        self.summaries[split] = self.summaries.get(split, Summary.empty()).merge(summarise(index))
        blank = blank_rows_of(index)
        self.blank += int(blank.sum())
        self.licences.update(count_licences(index.filter(pa.array(~blank))))

    def problems(self, manifest: Manifest, store: Store) -> Iterator[str]:
        """Where the manifest counts otherwise. Call it only when all indexes were added."""
        # The manifest still counts those of samples that were purged.
        lacking = {name: count - self.licences[name] for name, count in manifest.licences.items()}
        is_right = self.licences.keys() <= lacking.keys() and min(lacking.values(), default=0) >= 0
        if not is_right or sum(lacking.values()) != self.blank:
            counted = dict(sorted(self.licences.items()))
            yield f"counts licences {dict(manifest.licences)}, but its indexes {counted}"
        if self.blank and manifest.schema < WITH_LISTS:
            return  # a purge cannot count them again: they stand in the manifest itself
        # As they are published now, and as older releases did.
        published = with_top_values(with_one_kind(self.summaries, manifest.shards, store), manifest.shards, store)
        for split in sorted(manifest.statistics.keys() | self.summaries.keys()):
            stated = manifest.statistics.get(split, Summary.empty().to_json())
            ways = (counted.get(split, Summary.empty()).to_json() for counted in (published, self.summaries))
            where = [next(_differences(stated, counted), None) for counted in ways]
            if None not in where:
                yield f"split {split!r}: its statistics differ from its indexes in {where[0]}"


def _differences(stated: object, counted: object, where: str = "") -> Iterator[str]:
    """Where two statistics differ. What only one release counts is no difference, but for whole columns."""
    if isinstance(stated, Mapping) and isinstance(counted, Mapping):
        names = stated.keys() | counted.keys() if where == "columns" else stated.keys() & counted.keys()
        if stated.get("kind") == "mixed":  # so older releases call numbers beside a part that has none
            names -= {"kind"}
        if where.startswith("columns."):
            names -= {"nested"}  # groups that older releases packed count none
        for name in sorted(names):
            yield from _differences(stated.get(name), counted.get(name), f"{where}.{name}".lstrip("."))
    elif isinstance(stated, float) and isinstance(counted, int | float):
        if not math.isclose(stated, counted, rel_tol=1e-9):  # a mean or a deviation, rounded by another release
            yield where
    elif stated != counted:
        yield where


def manifest_problems(store: Store, manifest: Manifest) -> Iterator[str]:
    """What is wrong with the manifest itself: its place in the history, its times, its content's digest."""
    stored = _stored(store, manifest)
    for name in _STATED if stored is not None else ():
        if getattr(stored, name) != getattr(manifest, name):
            yield f"its {name} is not that of the manifest in the store"
    numbers = catalog.numbers(store, manifest.corpus)
    parent = max((number for number in numbers.existing if number < manifest.version), default=None)
    gone = range((parent or 0) + 1, manifest.version)
    earlier = None if parent is None else _of(store, manifest.corpus, parent)
    if manifest.parent != parent and not (manifest.parent in gone and manifest.parent in numbers.deleted):
        yield f"names {manifest.parent} as the version before it, but that is {parent}"
    elif earlier and manifest.parent == parent and manifest.parent_checksum not in (None, earlier.checksum):
        yield f"was made after another version {parent} than is in the store"
    made = _time(manifest.created_at)
    before = None if earlier is None else _time(earlier.created_at)
    if made is None or made > datetime.now(UTC) + _CLOCKS or (before is not None and made < before - _CLOCKS):
        yield f"was made at {manifest.created_at!r}, which cannot be"
    content = _content(store, manifest)
    if content not in (manifest.content, None) and not _has_content_of(manifest, earlier):
        yield f"says that its content is {manifest.content}, but what it names makes {content}"
    yield from _wrong_totals(manifest)


def _stored(store: Store, manifest: Manifest) -> Manifest | None:
    try:
        return load_manifest(store, manifest.corpus, manifest.version)
    except NotFound:  # one that is not published yet
        return None


def _of(store: Store, corpus: str, version: int) -> Manifest | None:
    """A version's manifest; None if it cannot be read."""
    try:
        return load_manifest(store, corpus, version)
    except (CorruptShard, NotFound):
        return None


def _has_content_of(manifest: Manifest, parent: Manifest | None) -> bool:
    """Whether its content is the one of its parent, which has the same shards and may have counted it otherwise."""
    if parent is None or parent.content != manifest.content:
        return False
    try:
        return parent.shards == manifest.shards
    except (CorruptShard, NotFound):
        return True  # it cannot be told


def _content(store: Store, manifest: Manifest) -> str | None:
    """The digest that its content has; None of external tars, where names and versions of formats count too.

    Also of an earlier release's version whose records or decisions were purged: its digest is of these too.
    """
    if manifest.is_indexed or (manifest.schema < WITH_LISTS and load_redirects(store, manifest.corpus)):
        return None
    if manifest.schema < WITH_LISTS:
        return content_with_rejects(manifest.shards, manifest.parts, manifest.decisions.sha256)
    return content_of(manifest.shards, manifest.masks)


def _wrong_totals(manifest: Manifest) -> Iterator[str]:
    """Totals that its parts do not make; those of its shards were compared when they were read."""
    candidates = Candidates.of(manifest.parts)
    if manifest.candidates != candidates:
        yield f"counts other candidates than its parts: {manifest.candidates}, expected {candidates}"


def _time(text: str) -> datetime | None:
    """A time with its zone; None for other text."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
