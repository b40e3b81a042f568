"""A small published version in memory, the same each time."""

import io
import tempfile
from pathlib import Path
from typing import Literal

from stoker.storage.shards import records
from stoker.storage.shards.kinds import DECISIONS
from stoker.storage.shards.row_checksum import CRC32C
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import TarWriter
from stoker.storage.statistics.summary import summarise
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Decisions, Manifest, Shard, publish

_CORPUS = "numbers"
_GROUP = "0" * layout.DIGEST
_SHARD_SAMPLES = 100


def sample_corpus(samples: int = 12, *, kind: Literal["texts", "images"] = "texts") -> tuple[MemoryStore, Manifest]:
    """A store and the version ``numbers@1`` in it: numbered samples, all in the split ``train``, 100 a shard.

    Args:
        samples: how many, from 0 on; their keys are ``n0000``, ``n0001``, ...
        kind: ``texts`` have the field ``txt``, the number in decimal; ``images`` the field ``png``, a grey image of
            8 x 8 pixels (this needs Pillow). Both have ``label`` in their record: the number modulo 4, as text.

    >>> store, manifest = sample_corpus(12)
    >>> manifest.reference, manifest.samples, manifest.shards[0].split
    ('numbers@1', 12, 'train')
    """
    if samples < 1 or kind not in ("texts", "images"):
        raise ValueError(f"{samples} samples of kind {kind!r}: expected 1 or more of 'texts' or 'images'")
    store = MemoryStore()
    numbered = [_sample(number, kind) for number in range(samples)]
    shards, rows = [], []
    for number, start in enumerate(range(0, samples, _SHARD_SAMPLES)):
        shard, shard_rows = _write_shard(store, number, numbered[start : start + _SHARD_SAMPLES])
        shards.append(shard)
        rows += shard_rows
    decided = records.encode(DECISIONS.needed.empty_table())
    decisions_key = layout.decisions(_CORPUS, records.sha256(decided))
    store.write(decisions_key, decided)
    manifest = Manifest(
        corpus=_CORPUS,
        version=1,
        created_at="2026-01-01T00:00:00+00:00",
        stoker="0",
        recipe={},
        recipe_digest="0" * 64,
        parent=None,
        content=records.sha256("".join(shard.sha256 for shard in shards).encode())[: layout.DIGEST],
        parts=(),
        shards=tuple(shards),
        decisions=Decisions(decisions_key, len(decided), records.sha256(decided), {}, 0),
        statistics={"train": summarise(records.decode(records.encode(rows))).to_json()},
        licences={"unknown": samples},
    )
    publish(store, manifest)
    return store, manifest


def _sample(number: int, kind: str) -> Sample:
    fields = {"txt": b"%d" % number} if kind == "texts" else {"png": _grey_image(number)}
    return Sample(f"n{number:04d}", fields, {"label": str(number % 4)})


def _grey_image(number: int) -> bytes:
    """A PNG of 8 x 8 pixels whose grey tells the number apart from its 255 neighbours."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (8, 8), number % 256).save(file, "PNG")
    return file.getvalue()


def _write_shard(store: Store, number: int, samples: list[Sample]) -> tuple[Shard, list[dict[str, object]]]:
    """One shard and its index in the store, and the rows of the index."""
    rows: list[dict[str, object]] = []
    shard_key = layout.shard(_CORPUS, _GROUP, "train", number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.tar"
        with TarWriter(path) as writer:
            for sample in samples:
                placed = writer.add(sample)
                members = [member._asdict() for member in placed.members]
                span = {"key": sample.key, "start": placed.start, "stop": placed.stop, "members": members}
                rows.append({**sample.record, **span, CRC32C: placed.crc32c, "split": "train"})
            tar = writer.close()
        store.write(shard_key, path)
    index = records.encode(rows)
    index_key = layout.index(_CORPUS, _GROUP, "train", number)
    store.write(index_key, index)
    shard = Shard(
        key=shard_key,
        split="train",
        samples=tar.samples,
        size=tar.size,
        sha256=tar.sha256,
        index=index_key,
        index_size=len(index),
        index_sha256=records.sha256(index),
        group=_GROUP,
    )
    return shard, rows
