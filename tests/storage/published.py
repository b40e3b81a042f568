"""A small version made by storage alone, with everything in it that a manifest can name."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import SampleSpan, TarSummary, TarWriter
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.content import content_of, content_with_rejects
from stoker.storage.versions.manifest import Decisions, Manifest, Part, Shard, publish

CORPUS = "digits"
RECIPE: Mapping[str, Any] = {"corpus": CORPUS, "source": {"use": "local_files", "folder": "héllo"}}


def sample(number: int) -> Sample:
    return Sample(
        f"s-{number:03d}",
        {"txt": f"text {number}\n".encode(), "cls": b"%d" % (number % 3)},
        {"label": "abc"[number % 3], "group": f"g{number}", "licence": "CC0-1.0" if number % 2 else ""},
        {"size": 100 + number, "fetched_at": "2026-01-01T00:00:00+00:00"},
    )


def make_version(store: Store, version: int = 1) -> Manifest:
    """Two parts of six samples and two rejects each; one sample dropped, one moved; three shards in two splits."""
    parts = [_part(store, "first", range(6)), _part(store, "second", range(6, 12))]
    dropped, moved = "s-004", "s-003"
    decided = [
        {"key": dropped, "part": parts[0].digest, "action": "drop", "value": "exact_duplicate", "rule": "r"},
        {"key": moved, "part": parts[0].digest, "action": "split", "value": "train", "rule": "r"},
    ]
    payload = records.encode(decided)
    sha256 = records.sha256(payload)
    decisions = Decisions(layout.decisions(CORPUS, sha256), len(payload), sha256, {"exact_duplicate": 1}, 1)
    store.write(decisions.key, payload)
    kept = [(number, parts[number // 6]) for number in range(12) if number != 4]
    runs = [("train", 0, kept[:4]), ("train", 1, kept[4:8]), ("validation", 0, kept[8:])]
    shards, summaries = [], {"train": Summary.empty(), "validation": Summary.empty()}
    for split, number, run in runs:
        shard, summary = _shard(store, split, number, run)
        shards.append(shard)
        summaries[split] = summaries[split].merge(summary)
    manifest = Manifest(
        corpus=CORPUS,
        version=version,
        created_at="2026-01-02T03:04:05+00:00",
        stoker="0.1.0",
        recipe=RECIPE,
        recipe_digest="r" * 64,
        parent=version - 1 or None,
        content=content_of(shards),
        parts=tuple(parts),
        shards=tuple(shards),
        decisions=decisions,
        statistics={split: summary.to_json() for split, summary in summaries.items()},
        licences=dict(Counter("CC0-1.0" if number % 2 else "unknown" for number, _ in kept)),
    )
    publish(store, manifest)
    return manifest


def old_json(manifest: Manifest) -> dict[str, Any]:
    """The JSON of the same version as earlier releases wrote it: everything in one object, without a checksum."""
    written: dict[str, Any] = {name: getattr(manifest, name) for name in _OLD_FIELDS}
    written |= {"shards": [shard.to_json() for shard in manifest.shards], "decisions": manifest.decisions.to_json()}
    written |= {"parts": [part.to_json() for part in manifest.parts], "statistics": dict(manifest.statistics)}
    written["schema"] = 1 if manifest.tars is None else 2
    if manifest.parts:
        written["content"] = content_with_rejects(manifest.shards, manifest.parts, manifest.decisions.sha256)
    if manifest.tars is not None:
        written["tars"] = manifest.tars
    content: dict[str, Any] = json.loads(json.dumps(written))
    return content


_OLD_FIELDS = ("corpus", "version", "created_at", "stoker", "recipe", "recipe_digest", "parent", "content", "licences")


def _part(store: Store, name: str, numbers: Sequence[int]) -> Part:
    digest = records.sha256(name.encode())[: layout.DIGEST]
    tar, placed = _tar(store, [sample(number) for number in numbers], digest)
    rows: list[dict[str, Any]] = [_row(one, sample(number)) for one, number in zip(placed, numbers, strict=True)]
    rows.insert(2, {"key": f"{name}-tiny", "reason": "too_small", "step": "image_size", "group": "g"})
    rows.append({"key": f"{name}-gone", "reason": "gone", "detail": "404", "step": "image_urls", "group": "g"})
    payload = records.encode([row | {"partition": name} for row in rows])
    key = layout.raw_records(CORPUS, digest, records.sha256(payload))
    store.write(key, payload)
    return Part(
        partition=name,
        digest=digest,
        tar=layout.raw_tar(CORPUS, digest, tar.sha256),
        tar_sha256=tar.sha256,
        tar_size=tar.size,
        records=key,
        records_sha256=records.sha256(payload),
        read=len(rows),
        kept=len(numbers),
        rejected={"gone": 1, "too_small": 1},
    )


def _shard(store: Store, split: str, number: int, run: Sequence[tuple[int, Part]]) -> tuple[Shard, Summary]:
    digest = "d" * 32
    key, index_key = layout.shard(CORPUS, digest, split, number), layout.index(CORPUS, digest, split, number)
    tar, placed = _tar(store, [sample(one) for one, _ in run], digest, key)
    rows = [
        _row(place, sample(one)) | {"split": split, "part": part.digest}
        for place, (one, part) in zip(placed, run, strict=True)
    ]
    payload = records.encode(rows)
    store.write(index_key, payload)
    shard = Shard(
        key, split, tar.samples, tar.size, tar.sha256, index_key, len(payload), records.sha256(payload), digest
    )
    return shard, summarise(records.decode(payload))


def _tar(store: Store, chosen: Sequence[Sample], digest: str, key: str = "") -> tuple[TarSummary, list[SampleSpan]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        with TarWriter(path) as writer:
            placed = [writer.add(one) for one in chosen]
            tar = writer.close()
        store.write(key or layout.raw_tar(CORPUS, digest, tar.sha256), path)
    return tar, placed


def _row(placed: SampleSpan, one: Sample) -> dict[str, Any]:
    members = [
        {"extension": member.extension, "offset": member.offset, "size": member.size} for member in placed.members
    ]
    places = {"key": placed.key, "start": placed.start, "stop": placed.stop, "members": members}
    return dict(one.record) | dict(one.measures) | places
