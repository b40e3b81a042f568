"""What became of a candidate: from its key, URL, page or hash to its story."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.shards import records
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, Part

_ASKED = ("key", "url", "page_url", "sha256", "content_sha256")
_PLACES = ("start", "stop", "members", "minhash", "image_hash")


@dataclass(frozen=True, slots=True)
class Story:
    """The life of one candidate in a version. ``state`` "dropped" means: kept at ingest, left out by a rule."""

    key: str
    state: Literal["kept", "rejected", "dropped"]
    reason: str  # "" if kept
    detail: str
    by: str  # the source, step or rule that decided; "" if kept
    partition: str
    part: str  # digest of the raw part
    split: str  # "" unless kept
    shard: str  # key of the tar; "" unless kept
    witness: str  # key of the sample kept in its place; "" if none
    similarity: float | None  # to the witness, in [0, 1]
    record: Mapping[str, Any]  # Any: every column of its Parquet record that a person can read


def why(store: Store, manifest: Manifest, text: str, *, most: int = 100) -> list[Story]:
    """The stories of all candidates whose key, URL, page's URL or SHA-256 is the text; at most ``most`` of them.

    An empty list means that the version's sources never offered it. Raises StorageError.
    """
    decisions = {
        (row["part"], row["key"]): row
        for row in records.decode(store.read(manifest.decisions.key)).to_pylist()
        if row["action"] == "drop"
    }
    stories: list[Story] = []
    for part in manifest.parts:
        for row in _matches(records.decode(store.read(part.records)), text):
            stories.append(_story(store, manifest, part, row, decisions.get((part.digest, row["key"]))))
            if len(stories) >= most:
                return stories
    return stories


def _matches(table: pa.Table, text: str) -> Iterator[dict[str, Any]]:
    hit: pa.ChunkedArray | None = None
    for column in _ASKED:
        if column in table.column_names and pa.types.is_string(table.schema.field(column).type):
            equal = pc.fill_null(pc.equal(table[column], text), False)
            hit = equal if hit is None else pc.or_(hit, equal)
    if hit is not None:
        yield from table.filter(hit).to_pylist()


def _story(
    store: Store, manifest: Manifest, part: Part, row: Mapping[str, Any], dropped: Mapping[str, Any] | None
) -> Story:
    shown = {name: value for name, value in row.items() if name not in _PLACES and value is not None}
    state: Literal["kept", "rejected", "dropped"] = "kept"
    reason, detail, by, split, shard = "", "", "", "", ""
    if row["reason"] is not None:
        state, reason, detail, by = "rejected", row["reason"], row["detail"] or "", row["step"] or ""
    elif dropped is not None:
        state, reason, by = "dropped", dropped["value"], dropped["rule"]
    else:
        split, shard = _place(store, manifest, part, row["key"])
    return Story(
        key=row["key"],
        state=state,
        reason=reason,
        detail=detail,
        by=by,
        partition=part.partition,
        part=part.digest,
        split=split,
        shard=shard,
        witness=dropped["witness"] if dropped else "",
        similarity=dropped["similarity"] if dropped else None,
        record=shown,
    )


def _place(store: Store, manifest: Manifest, part: Part, key: str) -> tuple[str, str]:
    """The split and tar of a kept sample: found in the indexes of the shards made of its part."""
    for shard in manifest.shards:
        index = records.decode(store.read(shard.index), columns=["key", "part"])
        if pc.any(pc.and_(pc.equal(index["key"], key), pc.equal(index["part"], part.digest))).as_py():
            return shard.split, shard.key
    return "", ""
