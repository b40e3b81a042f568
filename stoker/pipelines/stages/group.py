"""Groups of shards and their markers, which say what was packed, with a checksum of what they say.

The objects of a group have fixed names. Where one is lost, and a newer library would write other bytes than the version
that names it has, the group is packed under other names (``attempts``): a version never changes.
"""

import json
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stoker.pipelines.partition import digest
from stoker.storage.errors import AlreadyExists, CorruptObject, CorruptShard, NotFound
from stoker.storage.shards.kinds import INDEX
from stoker.storage.statistics.licences import count_licences
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Shard, load_manifest
from stoker.storage.versions.verified import checksum, verified_table

_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
_SCHEMA = 1
_CHECKSUM = "checksum"  # SHA-256 of the marker's content without it; older markers have none


class OtherBytes(CorruptShard):
    """A version names other bytes under a name than were packed now."""


class DamagedObjects(CorruptShard):
    """Objects of groups that are gone, or not what was written: their groups are packed again."""

    def __init__(self, message: str, keys: Collection[str]) -> None:
        super().__init__(message)
        self.keys = frozenset(keys)

    def __reduce__(self) -> tuple[type["DamagedObjects"], tuple[str, frozenset[str]]]:
        return type(self), (str(self), self.keys)  # raised in Prefect's tasks


@dataclass(frozen=True, slots=True)
class Packed:
    """The shards of one group, their statistics and licences; ``skipped``: they existed already."""

    group: str
    shards: tuple[Shard, ...]
    statistics: Mapping[str, Mapping[str, Any]]  # Any: JSON of a Summary, by split
    licences: Mapping[str, int]
    skipped: bool

    @property
    def keys(self) -> set[str]:
        """The keys of its tars and indexes."""
        return {key for shard in self.shards for key in (shard.key, shard.index)}


def attempts(group: str) -> Iterator[str]:
    """The digests under which a group may be packed: its own first."""
    for _ in range(MAX_ATTEMPTS):
        yield group
        group = digest([group, "packed again"])[: layout.DIGEST]


def read_marker(store: Store, corpus: str, group: str) -> Packed | None:
    """The group's shards from its marker; None if there is none, or it is damaged: then the group is packed again."""
    key = layout.group(corpus, group)
    try:
        payload = store.read(key)
    except NotFound:
        return None
    try:
        content = json.loads(payload)
        stated = content.pop(_CHECKSUM, None)
        if stated not in (None, digest(content)):
            raise ValueError("its checksum differs")
        packed = _packed(content, corpus, group)
        return _recounted(store, corpus, group, packed) if stated is None else packed
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, CorruptObject, NotFound) as error:
        _log.warning("%s/%s: not the marker of its group (%s); it is packed again", store.url, key, error)
        return None


def write_marker(store: Store, corpus: str, group: str, packed: Packed) -> None:
    """Write the marker of a group, in place of a damaged one; and where it was packed under another name, there too."""
    content: dict[str, Any] = {  # Any: JSON values
        "schema": _SCHEMA,
        "shards": [shard.to_json() for shard in packed.shards],
        "statistics": packed.statistics,
        "licences": packed.licences,
    }
    for name in dict.fromkeys((packed.group, group)):
        named = content | {"group": name}
        payload = json.dumps(named | {_CHECKSUM: digest(named)}, sort_keys=True).encode()
        key = layout.group(corpus, name)
        try:
            store.create(key, payload)
        except AlreadyExists:  # another run packed the same group at the same time, or this heals it
            if store.read(key) != payload:
                store.write(key, payload)


def named_checksums(store: Store, corpus: str, group: str) -> dict[str, set[str]]:
    """The checksums that the versions of a corpus give to the objects of a group, by key. Reads all manifests."""
    named: dict[str, set[str]] = {}
    folder = layout.group_folder(corpus, group)
    for number in catalog.versions(store, corpus):
        with suppress(CorruptShard, NotFound):  # what a damaged manifest names cannot be kept anyway
            for shard in load_manifest(store, corpus, number).shards:
                for key, sha256 in ((shard.key, shard.sha256), (shard.index, shard.index_sha256)):
                    if key.startswith(folder):
                        named.setdefault(key, set()).add(sha256)
    return named


def _packed(content: Mapping[str, Any], corpus: str, group: str) -> Packed:  # Any: JSON values
    """What a marker says. Raises ValueError, TypeError, KeyError or AttributeError for what cannot be right."""
    shards = tuple(Shard(**shard) for shard in content["shards"])
    names = {shard.group for shard in shards} or {group}
    numbers = Counter[str]()
    for shard in shards:
        number = numbers[shard.split]
        tar = layout.shard(corpus, shard.group, shard.split, number)
        index = layout.index(corpus, shard.group, shard.split, number)
        if (shard.key, shard.index) != (tar, index):
            raise ValueError("it names other objects")
        numbers[shard.split] += 1
    if content["group"] != group or len(names) != 1 or names.isdisjoint(attempts(group)):
        raise ValueError("it is of another group")
    return Packed(names.pop(), shards, content["statistics"], content["licences"], skipped=True)


def _recounted(store: Store, corpus: str, group: str, packed: Packed) -> Packed:
    """The same from a marker without a checksum, compared with the shards; the marker gets its checksum.

    Raises ValueError, CorruptObject or NotFound where a shard is not what it says.
    """
    named = named_checksums(store, corpus, packed.group)
    summaries: dict[str, Summary] = {}
    licences: Counter[str] = Counter()
    for shard in packed.shards:
        index = verified_table(store, shard.index, INDEX, sha256=shard.index_sha256)
        if named.get(shard.key) != {shard.sha256} and checksum(store, shard.key) != shard.sha256:
            raise ValueError(f"{shard.key} has another checksum")
        if (index.num_rows, len(store.read(shard.index)), store.size(shard.key)) != (
            shard.rows,
            shard.index_size,
            shard.size,
        ):
            raise ValueError(f"{shard.key} has another size")
        summaries[shard.split] = summaries.get(shard.split, Summary.empty()).merge(summarise(index))
        licences.update(count_licences(index))
    statistics = {split: Summary.empty().to_json() for split in packed.statistics if isinstance(split, str)}
    statistics |= {split: summary.to_json() for split, summary in summaries.items()}
    found = Packed(packed.group, packed.shards, statistics, dict(sorted(licences.items())), skipped=True)
    write_marker(store, corpus, group, found)
    return found
