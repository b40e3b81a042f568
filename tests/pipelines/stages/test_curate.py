"""Curation: the decisions of a corpus are those that they always were, and what is wrong with a rule is one line."""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stoker.flows.report.lineage import events_of
from stoker.pipelines.partition import Partition
from stoker.pipelines.rule import ALWAYS, Decision, Rule, RuleTools, decisions
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.leak_free_split import LeakFreeSplit
from stoker.pipelines.rules.near_duplicate_images import NearDuplicateImages
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.curate import curate, decide_against
from stoker.pipelines.stages.elders.placing import Placed, place
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.raw_part import DamagedParts
from stoker.pipelines.stages.why import find_lineages
from stoker.pipelines.tables.deciding.decisions import decide
from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from tests.fakes import context
from tests.flows.inspected_corpus import recipe
from tests.pipelines.pictures import packed, pixels

RULES = (
    ExactDuplicates(),
    NearDuplicateImages(distance=40),
    NearDuplicateTexts(similarity=0.85),
    LeakFreeSplit(distance=60, similarity=0.5),
)


@dataclass(frozen=True)
class Alike(Source):
    """Texts and pictures of which many are equal or nearly so, some under another label, in five partitions."""

    texts: int = 150
    pictures: int = 60

    def partitions(self, context: Context) -> Iterator[Partition]:
        for number in range(5):
            yield Partition(f"part-{number}", {"number": number})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        part = partition.payload["number"]
        for number in range(part, self.texts, 5):
            rng = random.Random(number)
            words = [f"word{number % 17}x{place}" for place in range(120)]
            for _ in range(rng.choice((0, 0, 1, 3, 12))):
                words[rng.randrange(120)] = f"other{rng.random()}"
            record: dict[str, object] = {"group": f"page {rng.randrange(40)}"}
            if part != 2:  # a part whose records lack the column
                record["label"] = rng.choice((None, "a", "a", "a", "b"))
            record["year"] = f"{number}" if part == 1 else number  # another type in one part
            yield Candidate(
                Sample(
                    f"text-{number // 2 if rng.random() < 0.1 else number}", {"txt": " ".join(words).encode()}, record
                )
            )
        for number in range(part, self.pictures, 5):
            rng = random.Random(-number - 1)
            array = pixels(96, 64, seed=number % 12).astype(np.int64)
            noise = np.random.default_rng(number).integers(-1, 2, array.shape) * rng.choice((0, 0, 4, 30, 80))
            image = Image.fromarray(np.clip(array + noise, 0, 255).astype(np.uint8))
            payload = packed(image, "PNG", compress_level=rng.choice((1, 9)))
            yield Candidate(Sample(f"image-{number}", {"png": payload}, {"group": f"film {number % 9}"}))


def test_the_decisions_are_those_that_they_always_were(tmp_path: Path) -> None:
    """Others make a new version of every corpus that is ingested again: raise a rule's version with them."""
    store = MemoryStore()
    made = replace(recipe(Alike(), "alike", RULES), splits={"train": 60.0, "validation": 30.0, "test": 10.0})
    manifest = ingest(made, store, context(tmp_path)).manifest
    table = records.decode(store.read(manifest.decisions.key))
    assert table.column_names == ["key", "part", "action", "value", "rule", "witness", "similarity", "verified"]
    rows = [{name: value for name, value in row.items() if name != "part"} for row in table.to_pylist()]
    assert (len(rows), manifest.decisions.moved) == (139, 10)
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "656e5b2a5ff89da3"


@dataclass(frozen=True)
class Asking(Rule):
    """Drops nothing, by a query."""

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        return tools.sql("SELECT key, 'drop' AS action, 'none' AS value FROM rows WHERE false ORDER BY key")


def test_only_a_query_makes_a_folder_and_it_is_removed(tmp_path: Path) -> None:
    store, scratch = MemoryStore(), tmp_path / "of curation"
    parts = ingest(recipe(Alike(9, 3), "alike", ()), store, context(tmp_path)).manifest.parts
    curate(recipe(Alike(), "alike", RULES), parts, store, scratch)
    assert not scratch.exists()
    curate(recipe(Alike(), "alike", (Asking(),)), parts, store, scratch)
    assert list(scratch.iterdir()) == []


@dataclass(frozen=True)
class Reading(Rule):
    """Drops the texts whose words are those of an older one, which it reads for that."""

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        keys = [key for key in rows["key"].to_pylist() if key.startswith("text-")]
        oldest: dict[bytes | None, str] = {}
        pairs = [
            (key, oldest.setdefault(text, key)) for key, text in zip(keys, tools.contents(keys, "txt"), strict=True)
        ]
        return decisions(
            Decision(key, "drop", "near_duplicate", witness=witness, similarity=1.0, verified=True)
            for key, witness in pairs
            if key != witness
        )


def test_contents_are_read_from_raw_parts_and_why_says_that_they_were_compared(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = ingest(recipe(Alike(), "alike", (Reading(),)), store, context(tmp_path)).manifest
    table = records.decode(store.read(manifest.decisions.key))
    dropped = next(row for row in table.to_pylist() if row["rule"] != "unique_keys")
    assert dropped["verified"] is True
    assert {row["verified"] for row in table.to_pylist() if row["rule"] == "unique_keys"} == {False}
    lineages = find_lineages(store, manifest, dropped["key"])
    (lineage,) = [lineage for lineage in lineages if lineage.rejected_by == "test_curate"]
    assert lineage.to_json()["verified"] is True
    told = [event.text for event in events_of(lineage, {})]
    assert f"{dropped['witness']}, 100 % similar, verified exactly" in told
    assert verify(store, manifest).problems == ()


def test_a_content_that_is_not_what_its_record_says_is_damage_that_the_ingest_heals(tmp_path: Path) -> None:
    store = MemoryStore()
    made = recipe(Alike(), "alike", (Reading(),))
    before = ingest(made, store, context(tmp_path)).manifest
    part = before.parts[1]
    payload = store.read(part.tar)
    store.write(part.tar, payload.replace(b"word1x", b"worm1x"))
    with pytest.raises(DamagedParts, match=r"part-.*\.tar: .*sample 'text-1': CRC-32C"):
        decide_against(made, before.parts, None, None, store, tmp_path)
    store.delete(layout.version("alike", 1))
    assert ingest(made, store, context(tmp_path)).manifest.content == before.content


def test_only_what_rules_name_is_kept_of_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def spy(rule: Rule, samples: pa.Table, *others: Any) -> pa.Table:
        seen.append(samples.column_names)
        return decide(rule, samples, *others)

    def placing(samples: pa.Table, *others: Any, **more: Any) -> Placed:
        seen.append(samples.column_names)
        return place(samples, *others, **more)

    monkeypatch.setattr("stoker.pipelines.stages.curate.decide", spy)
    monkeypatch.setattr("stoker.pipelines.stages.curate.place", placing)
    ingest(recipe(Alike(), "alike", (NearDuplicateTexts(),)), MemoryStore(), context(tmp_path))
    in_memory, given = map(set, seen)
    read = {"minhash", "label"}
    assert in_memory == {"key", "group", "part", "start", "stop", "crc32c", "content_sha256", *read}
    assert given == {*ALWAYS, *read}
