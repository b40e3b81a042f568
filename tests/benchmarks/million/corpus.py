"""A corpus of many images, as ingests and a publish would leave it, made from tables: records, indexes, decisions.

Its tars are empty: nothing that is measured with it reads one. A tenth of the candidates was refused, a twentieth are
near copies of older ones, and rules drop them and small pictures.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.stages.curate import Curation, decide_against
from stoker.pipelines.stages.group import Packed, write_marker
from stoker.pipelines.stages.splits import split_of
from stoker.release import __version__
from stoker.storage.shards import records
from stoker.storage.shards.kinds import RECORDS
from stoker.storage.statistics.licences import count_licences
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.content import content_of
from stoker.storage.versions.lookups.building import with_lookups
from stoker.storage.versions.manifest import Manifest, Part, Shard, publish
from stoker.storage.versions.verified import put, verified_table

CORPUS = "big"
IN_PART = 2500
SIZE = 40_960  # bytes of a sample in a tar
AT = "2026-01-01T00:00:00+00:00"
MIN_WIDTH = 256
_EMPTY = hashlib.sha256(b"").hexdigest()


def url(number: int) -> str:
    return f"https://host{number % 1000}.example.org/photos/{number % 977}/picture-{number:09d}.jpg"


def document(rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # Any: TOML
    return {
        "corpus": CORPUS,
        "source": {"name": "image_urls", "lists": "list.txt"},
        "splits": {"train": 90, "test": 10},
        "rules": list(rules),
    }


def rules(distance: int = 31, width: int = MIN_WIDTH, *, near: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": "where", "where": f"width >= {width}"}]
    return [*found, {"name": "near_duplicate_images", "distance": distance}] if near else found


def make(store: Store, folder: Path, count: int, *, near: bool = False, distance: int = 31) -> Manifest:
    """Publish the corpus. ``near``: look for near copies, which takes minutes of a million."""
    recipe = parse(document(rules(distance, near=near)), root=folder)
    manifest = _manifest(recipe, store, folder, 1, (), (), 0, count)
    publish(store, manifest)
    return manifest


def grown(store: Store, folder: Path, before: Manifest, start: int, more: int) -> Manifest:
    """The next version, with more candidates; it has lookups if the one before has."""
    recipe = parse(dict(before.recipe), root=folder)
    made = _manifest(recipe, store, folder, before.version + 1, before.parts, before.shards, start, start + more)
    made = with_lookups(store, made, before.lookups) if before.lookups else made
    publish(store, made)
    return made


def _manifest(
    recipe: Recipe,
    store: Store,
    folder: Path,
    version: int,
    parts: Sequence[Part],
    shards: Sequence[Shard],
    start: int,
    stop: int,
) -> Manifest:
    """A version with these parts and shards, and the candidates from ``start`` to ``stop``."""
    new = [_part(store, first, min(first + IN_PART, stop)) for first in range(start, stop, IN_PART)]
    curation = decide_against(recipe, new, None, None, store, folder / "scratch")
    packed = [_packed(recipe, store, group, drops) for group, drops in _groups(curation, store)]
    shards = (*shards, *(shard for one in packed for shard in one.shards))
    summaries = {split: Summary.empty() for split in recipe.splits}
    for one in packed:
        for split, summary in one.statistics.items():
            summaries[split] = summaries[split].merge(Summary.from_json(summary))
    return Manifest(
        corpus=CORPUS,
        version=version,
        created_at=AT,
        stoker=__version__,
        recipe=recipe.document,
        recipe_digest=recipe.digest,
        parent=version - 1 or None,
        content=content_of(shards),
        parts=(*parts, *new),
        shards=shards,
        decisions=curation.decisions,
        statistics={split: summary.to_json() for split, summary in summaries.items()},
        licences={"CC0-1.0": sum(shard.samples for shard in shards)},
        pairs=curation.pairs,
    )


def indexed(store: Store, manifest: Manifest) -> Manifest:
    """The next version, which has lookups."""
    made = with_lookups(store, replace(manifest, version=manifest.version + 1, parent=manifest.version), ())
    publish(store, made)
    return made


def _candidates(start: int, stop: int) -> pa.Table:
    numbers = np.arange(start, stop)
    random = np.random.default_rng(start)
    words = random.integers(0, 2**63, (len(numbers), 4), dtype=np.uint64)
    copies = (numbers % 20 == 19) & (numbers > start)
    # Those of the first part are less alike, so that there are distances between which one group alone changes.
    words[copies] = words[np.flatnonzero(copies) - 1] ^ np.uint64(0b1011 if start else 0b11111)
    widths = random.integers(224, 4096, len(numbers))
    widths[copies] = widths[np.flatnonzero(copies) - 1]  # so that a rule for small ones drops no copy's witness alone
    texts = [f"{one:064x}" for one in random.integers(0, 2**63, len(numbers))]
    kept = pa.array(numbers % 10 != 3)
    place = pa.array((numbers - start) * SIZE)
    members = pa.array([[{"extension": "jpg", "offset": 512, "size": SIZE - 1024}]] * len(numbers), records.MEMBERS)
    columns = {
        "key": [f"host{number % 1000}-{number:020x}" for number in numbers],
        "reason": pc.if_else(kept, pa.scalar(None, pa.string()), "gone"),
        "detail": pc.if_else(kept, pa.scalar(None, pa.string()), "404"),
        "start": pc.if_else(kept, place, pa.scalar(None, pa.int64())),
        "stop": pc.if_else(kept, pc.add(place, SIZE), pa.scalar(None, pa.int64())),
        "members": pc.if_else(kept, members, pa.nulls(len(numbers), records.MEMBERS)),
        "crc32c": pc.if_else(kept, pa.array(numbers.astype(np.uint32)), pa.scalar(None, pa.uint32())),
        "url": list(map(url, numbers.tolist())),
        "line": [f"list.txt:{number + 1}" for number in numbers],
        "sha256": texts,
        "content_sha256": texts,
        "licence": pa.repeat("CC0-1.0", len(numbers)),
        "width": widths,
        "height": random.integers(224, 4096, len(numbers)),
        "image_hash": [row.tobytes().hex() for row in words],
        "image_hash_quality": np.full(len(numbers), 90),
    }
    return pa.table(columns).append_column("group", pa.array(columns["key"]))


def _part(store: Store, start: int, stop: int) -> Part:
    table = _candidates(start, stop)
    digest = f"{start + 1:032x}"
    payload = records.encode(table)
    sha256 = records.sha256(payload)
    kept = table["reason"].null_count
    tar, key = layout.raw_tar(CORPUS, digest, _EMPTY), layout.raw_records(CORPUS, digest, sha256)
    put(store, key, payload, sha256=sha256)
    put(store, tar, b"", sha256=_EMPTY)
    size = kept * SIZE
    return Part(
        f"p{start:09d}", digest, tar, _EMPTY, size, key, sha256, stop - start, kept, {"gone": stop - start - kept}
    )


def _groups(curation: Curation, store: Store) -> Iterator[tuple[tuple[Part, ...], pa.Table]]:
    for parts, payload in zip(curation.groups, curation.by_group, strict=True):
        decided = records.decode(payload)
        yield parts, decided.filter(pc.equal(decided["action"], "drop"))


def _packed(recipe: Recipe, store: Store, parts: Sequence[Part], drops: pa.Table) -> Packed:
    tables = [
        verified_table(store, part.records, RECORDS, sha256=part.records_sha256).append_column(
            "part", pa.repeat(part.digest, part.read)
        )
        for part in parts
    ]
    table = pa.concat_tables(tables)
    dropped = pc.is_in(table["key"], value_set=drops["key"].combine_chunks())
    table = table.filter(pc.and_(pc.is_null(table["reason"]), pc.invert(dropped)))
    table = table.drop_columns(["reason", "detail"])
    splits = pa.array([split_of(group, recipe.splits) for group in table["group"].to_pylist()])
    table = table.append_column("split", splits)
    group = hashlib.sha256(parts[0].digest.encode()).hexdigest()[: layout.DIGEST]
    shards: list[Shard] = []
    statistics: dict[str, Any] = {}
    for split in recipe.splits:
        index = table.filter(pc.equal(table["split"], split))
        payload = records.encode(index)
        key, tar = layout.index(CORPUS, group, split, 0), layout.shard(CORPUS, group, split, 0)
        sha256 = records.sha256(payload)
        put(store, key, payload, sha256=sha256)
        put(store, tar, b"", sha256=_EMPTY)
        rows, size = index.num_rows, index.num_rows * SIZE
        shards.append(Shard(tar, split, rows, size, _EMPTY, key, len(payload), sha256, group))
        statistics[split] = summarise(index).to_json()
    packed = Packed(group, tuple(shards), statistics, count_licences(table), skipped=False)
    write_marker(store, CORPUS, group, packed)
    return packed
