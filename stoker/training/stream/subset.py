"""Parts of a split: a share that is held out of training, and the samples that have what a model needs.

A part is a Manifest whose shards stand for some of their samples, so whatever streams a version streams a part. Price:
the columns of all indexes that decide are read when it is made.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.plural import plural
from stoker.storage.shards import records
from stoker.storage.shards.blank import blank_rows_of
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions.manifest import TAR, Manifest, Shard
from stoker.storage.versions.masks.mask import Masks
from stoker.training.errors import TrainingError
from stoker.training.reading.cache import CacheOptions
from stoker.training.reading.partial import index_bytes, is_whole, masks_of, part_of, rows_of
from stoker.training.reading.threads import ThreadPool
from stoker.training.stream.stream import split_shards, version_of

HELD_OUT = "held_out"  # the split that ``hold_out`` makes
LABEL = "label"
UNKNOWN_CLASS = "a class that the model does not know"
_AT_ONCE = 16  # indexes that are read at the same time
_SHOWN_KEYS = 5
_MIN_QUALITY = 50  # of image hashes: below, equal ones prove little
_IDENTIFYING = ("key", "group", "image_hash", "image_hash_quality", "minhash", "content_sha256")

Mask = npt.NDArray[np.bool_]
Labels = list[str | None]


def hold_out(
    store: Store, version: Manifest | str, share: float | str, *, split: str = "train", cache: Path | str | None = None
) -> Manifest:
    """The version with a share of a split's samples in a split of their own, ``held_out``: for streams alone.

    A sample's place follows from its record, so it is the same next time, with other ranks, in later versions, and a
    larger share holds a smaller one. Samples of one ``group`` (a video, a page) stay together, and samples that name no
    other group than themselves stay together if their image hashes (of a quality of 50 or more), signatures of their
    texts, or contents are equal. Of indexed tars counts the value ``group`` in a sample's .json, else its key as it is
    in the tar, and nothing else: copies with other keys are not recognised there. A tar that was indexed by an older
    Stoker has no groups until ``stoker index`` reads it again.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import hold_out
    >>> store, manifest = sample_corpus(100)
    >>> manifest = hold_out(store, manifest, "10%")
    >>> {name: totals.samples for name, totals in manifest.splits.items()}
    {'train': 87, 'held_out': 13}

    Args:
        store: where the version is.
        version: its manifest, or a reference such as "digits@2".
        share: "10%" or 0.1.
        split: that is divided.
        cache: folder for indexes; None: one below the system's folder for temporary files.

    Raises TrainingError, if nothing is held out or nothing is left too; CorruptShard, StorageError.
    """
    manifest, part = version_of(store, version), share_of(share)
    shards = split_shards(manifest, split)
    if HELD_OUT in manifest.splits:
        raise TrainingError(f"{manifest.reference} has a split {HELD_OUT!r} already; evaluate on it: eval_split")
    both: list[Shard] = []
    masks = _masks(store, cache)
    for shard, table in _tables(store, shards, _IDENTIFYING, cache, masks):
        identities = _external_identities(shard, table) if _is_external(manifest) else _identities(table)
        held = _is_held_out(identities, part)
        both += [part_of(shard, ~held, masks), part_of(shard, held, masks, HELD_OUT)]
    kept = [shard for shard in both if shard.samples]
    if len({shard.split for shard in kept}) < 2:
        where = "holds out all" if kept and kept[0].split == HELD_OUT else "holds out none"
        raise TrainingError(
            f"{manifest.reference}: hold_out {part:.4%} {where} of the {sum(shard.samples for shard in shards):,} "
            f"samples of split {split!r}, whose groups stay together; choose another share"
        )
    others = [shard for shard in manifest.shards if shard.split != split]
    kept.sort(key=lambda shard: shard.split == HELD_OUT)
    # A stream's state names the content: that of another share is refused.
    content = f"{manifest.content} without {part:.6%} of {split}"
    return replace(manifest, shards=(*others, *kept), content=content)


def share_of(share: float | str) -> float:
    """A share above 0 and below 1, from a number or a percentage. Raises TrainingError.

    >>> share_of("12.5%"), share_of(0.1)
    (0.125, 0.1)
    """
    text = str(share).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise TrainingError(f"hold_out {share!r}: expected a share above 0 and below 1, such as 10% or 0.1")
    return value


@dataclass(frozen=True)
class Needs:
    """What a model needs of a sample: one of some fields, and perhaps a label."""

    fields: tuple[str, ...]
    what: str  # the fields, in words: "image"
    label: bool = False
    labels: frozenset[str] | None = None  # the only ones that can be used; None: all


@dataclass
class Survey:
    """The samples of a version as a model may use them.

    Args:
        labels: that occur among samples that can be used.
        usable: samples of each split that can be used.
        left_out: JSON values: for each split and reason ``samples`` and the first ``keys``.
        unknown: samples by their label, where it is none of those that can be used.
    """

    labels: set[str] = field(default_factory=set)
    unknown: Counter[str] = field(default_factory=Counter)
    usable: dict[str, int] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)  # Any: JSON values

    def add(self, split: str, reason: str, keys: Sequence[str]) -> None:
        """Count samples that cannot be used."""
        if not keys:
            return
        entry = next((known for known in self.left_out if (known["split"], known["reason"]) == (split, reason)), None)
        if entry is None:
            self.left_out.append(left_out_entry(split, reason, keys))
            return
        entry["samples"] += len(keys)
        entry["keys"] = [*entry["keys"], *keys][:_SHOWN_KEYS]


def survey(store: Store, manifest: Manifest, needs: Needs, *, cache: Path | str | None = None) -> Survey:
    """Look at all samples of a version. Raises CorruptShard, StorageError."""
    result = Survey()
    for shard, table in _tables(store, manifest.shards, ("key", LABEL, "members"), cache, _masks(store, cache)):
        has_field, labels = _has_field(table, needs.fields), _labels(table)
        has_label = np.array([label is not None for label in labels], bool) | (not needs.label)
        is_known = np.array([needs.labels is None or label in needs.labels for label in labels], bool)
        # Those that were purged have no label any more: the stream passes over them, and nobody needs to add one.
        gone, keys = blank_rows_of(table), table["key"]
        usable = has_field & has_label & is_known & ~gone
        result.usable[shard.split] = result.usable.get(shard.split, 0) + int(usable.sum())
        result.labels.update(label for label, use in zip(labels, usable.tolist(), strict=True) if use and label)
        if not (usable | gone).all():
            result.add(shard.split, f"no {needs.what}", keys.filter(pa.array(~has_field & ~gone)).to_pylist())
            result.add(shard.split, "no label", keys.filter(pa.array(has_field & ~has_label & ~gone)).to_pylist())
            unknown = has_field & has_label & ~is_known & ~gone
            result.add(shard.split, UNKNOWN_CLASS, keys.filter(pa.array(unknown)).to_pylist())
            result.unknown.update(str(labels[row]) for row in np.flatnonzero(unknown).tolist())
    return result


def usable(
    store: Store,
    manifest: Manifest,
    split: str,
    needs: Needs,
    *,
    left_out: Sequence[Mapping[str, Any]],  # Any: JSON values
    cache: Path | str | None = None,
) -> Manifest:
    """The version with those samples of a split that a model can use; ``left_out``: what a survey said of it.

    Raises TrainingError if none is left; CorruptShard, StorageError.
    """
    if not any(entry["split"] == split for entry in left_out):
        return manifest
    shards: list[Shard] = []
    masks = _masks(store, cache)
    for shard, table in _tables(store, split_shards(manifest, split), ("key", LABEL, "members"), cache, masks):
        kept = _has_field(table, needs.fields)
        if needs.label:
            known = needs.labels
            # Purged ones stay, as holes in the stream: all other samples keep their places.
            kept &= blank_rows_of(table) | np.array(
                [label is not None and (known is None or label in known) for label in _labels(table)], bool
            )
        shards.append(part_of(shard, kept, masks))
    if not any(shard.samples for shard in shards):
        wanted = f"{needs.what} and label" if needs.label else needs.what
        raise TrainingError(f"{manifest.reference}: no sample of split {split!r} can be used: each lacks {wanted}")
    others = [shard for shard in manifest.shards if shard.split != split]
    return replace(manifest, shards=(*others, *(shard for shard in shards if shard.samples)))


def left_out_entry(split: str, reason: str, keys: Sequence[str]) -> dict[str, Any]:  # Any: JSON values
    """Samples of a split that are left out for a reason, and the first of their keys."""
    return {"split": split, "reason": reason, "samples": len(keys), "keys": list(keys[:_SHOWN_KEYS])}


def describe_left_out(left_out: Sequence[Mapping[str, Any]]) -> list[str]:  # Any: JSON values
    """Sentences for people.

    >>> describe_left_out([{"split": "train", "reason": "no label", "samples": 1200, "keys": ["a", "b"]}])
    ['left out: 1,200 samples of train with no label (a, b, ...)']
    """
    sentences = []
    for entry in left_out:
        keys, samples = entry["keys"], entry["samples"]
        named = ", ".join(str(key)[:60] for key in keys) + ", ..." * (samples > len(keys))
        sentences.append(f"left out: {plural(samples, 'sample')} of {entry['split']} with {entry['reason']} ({named})")
    return sentences


def _masks(store: Store, cache: Path | str | None) -> Masks:
    return masks_of(with_patience(store), CacheOptions(folder=cache).files())


def _tables(
    store: Store, shards: Sequence[Shard], columns: Sequence[str], cache: Path | str | None, masks: Masks
) -> Iterator[tuple[Shard, pa.Table]]:
    """Some columns of the shards' indexes, several read at the same time."""
    store, files = with_patience(store), CacheOptions(folder=cache).files()

    def read(shard: Shard) -> pa.Table:
        table = records.decode(index_bytes(store, shard, files), columns=columns)
        return table if is_whole(shard) else table.take(pa.array(rows_of(shard, masks)))

    pool, remaining = ThreadPool(_AT_ONCE, "stoker-indexes"), iter(shards)
    try:
        while batch := list(islice(remaining, _AT_ONCE)):
            futures = [pool.submit(partial(read, shard)) for shard in batch]
            for shard, future in zip(batch, futures, strict=True):
                yield shard, future.result()
    finally:
        pool.close(0)  # one that waits for a store that is out of reach holds nothing up


def _has_field(table: pa.Table, names: Sequence[str]) -> Mask:
    """Which rows have one of these fields."""
    members = table["members"].combine_chunks()
    members = members if isinstance(members, pa.Array) else pa.concat_arrays(members.chunks)
    has = np.zeros(len(members), bool)
    if len(members):
        extensions = members.flatten().field("extension").to_pylist()
        counts = np.diff(members.offsets.to_numpy(zero_copy_only=False).astype(np.int64))
        rows = np.repeat(np.arange(len(members)), counts)
        wanted = frozenset(names)
        has[rows[np.array([extension in wanted for extension in extensions], bool)]] = True
    return has


def _labels(table: pa.Table) -> Labels:
    """The label of each row as text; None where there is none: no value, an empty text, or not a number."""
    if LABEL not in table.column_names:
        return [None] * table.num_rows
    return [label_of(value) for value in table[LABEL].to_pylist()]


def label_of(value: object) -> str | None:
    """A class as text; None for what is no class."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip():
        return None
    return str(value)


def _identities(table: pa.Table) -> list[str]:
    """What decides each row's place: equal for samples that are to stay together."""
    columns: list[list[Any]] = [  # Any: JSON values, bytes
        table[name].to_pylist() if name in table.column_names else [None] * table.num_rows for name in _IDENTIFYING
    ]
    return [_identity(*row) for row in zip(*columns, strict=True)]


def _identity(
    key: str, group: object, image_hash: object, quality: object, minhash: object, content_sha256: object
) -> str:
    if group and group != key:
        return str(group)
    if image_hash and isinstance(quality, int | float) and quality >= _MIN_QUALITY:
        return str(image_hash)
    if minhash:
        return minhash.hex() if isinstance(minhash, bytes) else str(minhash)
    return str(content_sha256 or key)


def _is_external(manifest: Manifest) -> bool:
    """Whether the tars are indexed in place, in a store of their own or in the corpus's."""
    return manifest.tars is not None or (manifest.is_indexed and "tars" in manifest.recipe.get("source", {}))


def _external_identities(shard: Shard, table: pa.Table) -> list[str]:
    """The group of each sample of a tar, else its key as it is in the tar.

    Other columns are the tar's own, and mean what its author meant.
    """
    groups = table["group"].to_pylist() if "group" in table.column_names else [None] * table.num_rows
    names = _tar_names(shard.key)
    return [group or _without(names, key) for group, key in zip(groups, table["key"].to_pylist(), strict=True)]


def _tar_names(key: str) -> tuple[str, ...]:
    """What may stand before a tar's keys: its name in whichever folder it was indexed from.

    >>> _tar_names("corpora/train/0001.tar")
    ('corpora/train/0001/', 'train/0001/', '0001/')
    """
    parts = key[: -len(TAR)].split("/")
    return tuple("/".join(parts[index:]) + "/" for index in range(len(parts)))


def _without(names: tuple[str, ...], key: str) -> str:
    """The key without tars' names before it, which it gets as soon as two tars have the same key.

    All of them go, so that a key that begins like that in the tar itself becomes the same with and without one more.
    """
    while key.startswith(names):
        key = key[len(next(name for name in names if key.startswith(name))) :]
    return key


def _is_held_out(identities: Sequence[str], share: float) -> Mask:
    # Of its own, or what is held out would depend on the percentages of the recipe's splits.
    salted = (b"hold out\0" + identity.encode("utf-8", "surrogatepass") for identity in identities)
    hashed = [int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64 for text in salted]
    return np.array(hashed, np.float64) < share
