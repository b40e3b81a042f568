"""Damage to the objects of a version, as disks and people do it."""

import random
from collections.abc import Iterator

from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest

KINDS = ("records", "decisions", "part", "shard", "index", "part marker", "group marker", "manifest")


def keys(manifest: Manifest, kind: str) -> list[str]:
    """The objects of a kind that a version depends on."""
    corpus = manifest.corpus
    found = {
        "records": [part.records for part in manifest.parts],
        "decisions": [manifest.decisions.key],
        "part": [part.tar for part in manifest.parts],
        "shard": [shard.key for shard in manifest.shards],
        "index": [shard.index for shard in manifest.shards],
        "part marker": [layout.raw_part(corpus, part.digest) for part in manifest.parts],
        "group marker": sorted({layout.group(corpus, shard.group) for shard in manifest.shards}),
        "manifest": [layout.version(corpus, manifest.version)],
    }
    return found[kind]


def flip(store: Store, key: str, bit: int) -> None:
    payload = bytearray(store.read(key))
    payload[bit // 8] ^= 1 << bit % 8
    store.write(key, payload)


def flips(store: Store, manifest: Manifest, kind: str, count: int, *, seed: int = 20260101) -> Iterator[str]:
    """Flip a random bit of a random object of this kind; yields its key, then puts the old bytes back."""
    moments = random.Random(f"{seed} {kind}")
    for _ in range(count):
        key = moments.choice(keys(manifest, kind))
        before = store.read(key)
        flip(store, key, moments.randrange(8 * len(before)))
        yield key
        store.write(key, before)
