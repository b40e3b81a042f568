"""A candidate that was read again and is as it was: counted as known, no reject, and its sample stays."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stoker.flows.artifacts import _version_markdown
from stoker.flows.report.lineage import events_of
from stoker.flows.report.refusals import refusals
from stoker.flows.report.report import report
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.partition import Partition, cut
from stoker.pipelines.recipe import Limits, Recipe, Schedule, Sharding
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Cut, Listed, ListedSource, Provenance
from stoker.pipelines.stages.ingest import ingest_partition
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.pipelines.web.client import Web
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import newest_head

SOURCE = "test_outcomes"  # the name of a source is that of its file


@dataclass(frozen=True)
class Notes(ListedSource):
    """Texts of a file by name, with the stamp of each; whose stamp ends in "=" is unchanged, in "!" rejected."""

    def identities(self, context: Context) -> Iterator[Listed]:
        for name, stamp in json.loads((context.root / "notes.json").read_text()).items():
            yield Listed(name, stamp, [name, stamp])

    def cut(self, listed: Iterator[Listed], context: Context) -> Iterator[Cut]:
        for group in cut(listed, lambda one: one.identity, target=100):
            payload: Mapping[str, Any] = {"notes": [one.payload for one in group]}
            yield Cut(Partition(group[0].identity, payload), {one.identity: one.stamp for one in group})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for name, stamp in partition.payload["notes"]:
            if stamp.endswith("="):
                yield Candidate.unchanged(name)
            else:
                sample = Sample(name, {"txt": f"{name} {stamp}".encode()}, {"url": f"note:{name}"})
                yield Candidate(
                    sample, Rejected("unreachable" if "?" in stamp else "too_short") if "!" in stamp else None
                )


class World:
    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.now = folder, MemoryStore(), datetime(2026, 3, 2, tzinfo=UTC)

    def recipe(self, **notes: str) -> Recipe:
        (self.folder / "notes.json").write_text(json.dumps(notes))
        return Recipe(
            corpus="notes",
            source=Notes(),
            steps=(),
            rules=(),
            splits={"train": 100},
            shards=Sharding(),
            limits=Limits(rejected_percent=60.0),
            schedule=Schedule(),
            provenance=Provenance(),
            document={"corpus": "notes", "source": {"name": "notes"}},
        )

    @property
    def context(self) -> Context:
        return Context(root=self.folder, web=Web(), scratch=self.folder / "scratch", now=lambda: self.now)

    def run(self, **notes: str) -> Published:
        self.now += timedelta(days=1)
        return ingest(self.recipe(**notes), self.store, self.context)

    def outcomes_of(self, name: str) -> list[tuple[bool, str, str | None, int, int]]:
        head = newest_head(self.store, "notes")
        assert head is not None
        files = [outcomes.open_outcomes(self.store, stored) for stored in head.outcomes]
        found = outcomes.find(files, SOURCE, name)
        assert found is not None
        return [
            (one.definite, one.kind, one.reason, one.at.day, one.tries)
            for one in (found.definite, found.attempt)
            if one is not None
        ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_unchanged_candidate_stays_what_it_was_and_is_seen_again(world: World) -> None:
    first = world.run(a="1", b="1", c="1!").manifest
    second = world.run(a="1=", b="1=", c="1=")
    assert (second.new, second.manifest.version) == (False, 1)
    assert world.outcomes_of("a") == [(True, "kept", None, 3, 1), (False, "kept", "known", 4, 1)]
    assert world.outcomes_of("c") == [(True, "recipe", "too_short", 4, 1), (True, "recipe", "too_short", 4, 1)]
    head = newest_head(world.store, "notes")
    assert head is not None
    assert [part.digest for part in head.parts] == [part.digest for part in first.parts], (
        "a part of known ones is left out"
    )
    (lineage,) = find_lineages(world.store, second.manifest, "a")
    assert (lineage.state, lineage.part) == ("kept", first.parts[0].digest)
    assert [one.reason for one in lineage.attempts.made] == ["", "known"]
    assert any("unchanged" in event.text for event in events_of(lineage, {}))


def test_known_ones_are_counted_beside_what_was_read_and_are_no_rejects(world: World) -> None:
    world.run(a="1", b="1", c="1")
    manifest = world.run(a="1=", b="1=", c="2", d="1!", e="1").manifest
    assert manifest.version == 2
    assert (manifest.read, manifest.kept, manifest.known, manifest.rejected) == (5, 4, 2, {"too_short": 1})
    for part in manifest.parts:
        assert part.read == part.kept + sum(part.rejected.values())
    assert [part.counted.read + part.known for part in manifest.parts if part.known] == [3]
    assert load_manifest(world.store, "notes", 2).known == 2
    assert verify(world.store, manifest).problems == ()
    assert report(manifest).to_json()["known"] == 2
    assert "5 candidates read, **4 samples kept**" in _version_markdown(manifest, new=True)
    assert "1 rejected, known 2." in _version_markdown(manifest, new=True)
    reader = SampleReader(world.store)
    assert [one.reason for one in refusals(reader, manifest, size=9).entries] == ["too_short"]
    assert refusals(reader, manifest, reason="known", size=9).total == 0


def test_an_unchanged_one_of_which_nothing_is_known_is_asked_for_again(world: World) -> None:
    part = ingest_partition(
        world.recipe(a="1="),
        next(iter(world.recipe(a="1=").source.partitions(world.context))),
        world.store,
        world.context,
    ).part
    assert (part.read, part.kept, part.known, part.counted.read) == (1, 0, 1, 0)
    world.run(a="1=", b="1")
    head = newest_head(world.store, "notes")
    assert head is not None
    assert head.outcomes
    assert outcomes.find([outcomes.open_outcomes(world.store, head.outcomes[0])], SOURCE, "a") is None


def test_no_plug_in_rejects_with_the_word() -> None:
    with pytest.raises(ValueError, match="'known'"):
        Rejected("known")
