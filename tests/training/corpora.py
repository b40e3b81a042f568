"""Small versions to train on, made through storage alone: the real digits of scikit-learn, the handbook's texts."""

import io
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import TarWriter
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Decisions, Manifest, Shard, publish


@lru_cache(maxsize=1)
def digits() -> tuple[Sample, ...]:
    from sklearn.datasets import load_digits

    found = load_digits()
    samples = []
    for number, (pixels, digit) in enumerate(zip(found.images, found.target, strict=True)):
        file = io.BytesIO()
        image = Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(file, "PNG")
        samples.append(Sample(f"digit-{number:04d}", {"png": file.getvalue()}, {"label": str(digit)}))
    return tuple(samples)


@lru_cache(maxsize=1)
def texts() -> tuple[Sample, ...]:
    from pydoc_data.topics import topics

    return tuple(
        Sample(f"topic-{number:04d}", {"txt": text.encode()}, {"title": name})
        for number, (name, text) in enumerate(sorted(topics.items()))
    )


def version(
    store: Store,
    folder: Path,
    splits: Mapping[str, Iterable[Sample]],
    *,
    corpus: str = "small",
    per_shard: int = 100,
    older: bool = False,
) -> Manifest:
    """A published version of these samples, shards of ``per_shard``; ``older``: by a release without checksums."""
    shards = []
    for split, in_split in splits.items():
        samples = list(in_split)
        for number, start in enumerate(range(0, len(samples), per_shard)):
            some = samples[start : start + per_shard]
            shards.append(_shard(store, folder, corpus, split, number, some, older=older))
    payload = records.encode([])
    key = layout.decisions(corpus, records.sha256(payload))
    store.write(key, payload)
    manifest = Manifest(
        corpus=corpus,
        version=1,
        created_at="2026-01-01T00:00:00+00:00",
        stoker="0",
        recipe={},
        recipe_digest="0",
        parent=None,
        content=records.sha256("".join(shard.sha256 for shard in shards).encode())[:32],
        parts=(),
        shards=tuple(shards),
        decisions=Decisions(key, len(payload), records.sha256(payload), {}, 0),
        statistics={},
        licences={},
    )
    publish(store, manifest)
    return manifest


def _shard(
    store: Store, folder: Path, corpus: str, split: str, number: int, samples: list[Sample], *, older: bool
) -> Shard:
    path = folder / "shard.tar"
    rows = []
    with TarWriter(path) as writer:
        for sample in samples:
            placed = writer.add(sample)
            members = [{"extension": one.extension, "offset": one.offset, "size": one.size} for one in placed.members]
            place = {"key": sample.key, "start": placed.start, "stop": placed.stop, "members": members}
            rows.append(dict(sample.record) | place | ({} if older else {"crc32c": placed.crc32c}))
        tar = writer.close()
    index = records.encode(rows)
    shard = Shard(
        key=layout.shard(corpus, "0" * 32, split, number),
        split=split,
        samples=tar.samples,
        size=tar.size,
        sha256=tar.sha256,
        index=layout.index(corpus, "0" * 32, split, number),
        index_size=len(index),
        index_sha256=records.sha256(index),
        group="0" * 32,
    )
    store.write(shard.key, path)
    store.write(shard.index, index)
    return shard
