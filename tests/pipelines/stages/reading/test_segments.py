"""What a killed ingest had finished of a partition is not read again, and the part is that of a run without a kill."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines.errors import SourceUnavailable
from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.ingest import IngestStopped, ingest_partition, never_stop, part_digest, plan
from stoker.pipelines.stages.raw_part import read_marker
from stoker.pipelines.stages.reading import segments as sealing
from stoker.pipelines.web.policy import Transient
from stoker.storage.errors import StorageUnavailable
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Payload, Store
from stoker.storage.versions import layout, orphans
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.ledger import Ledger, create_head
from stoker.storage.versions.memory.plans import PARTITIONS, create_plan
from stoker.storage.versions.memory.tombstones import add_tombstones
from tests.fakes import Killed, context, recipe
from tests.site import FAST, Reply, Site
from tests.system.old_store.inputs import picture

CORPUS = "words"
WORDS = 40


OFFERED: list[Callable[[], Candidate]] = []
READ: list[int] = []  # the numbers of those that were asked for


@dataclass(frozen=True)
class Told(Source):
    """The candidates of OFFERED."""

    def partitions(self, context: Context) -> Iterator[Partition]:
        yield Partition("all", {})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for number, candidate in enumerate(OFFERED):
            READ.append(number)
            yield candidate()


def word(number: int, **record: Any) -> Callable[[], Candidate]:  # Any: JSON values
    values = {"url": f"word:{number}", "nested": {"a": [number, None]}, "share": number / 7, **record}
    measures = {"fetched_at": "2026-01-01", "signature": bytes([number, 255]), "mean": float(number % 2) or None}
    sample = Sample(f"w{number}", {"txt": f"word {number}".encode() * 400}, values, measures)
    rejected = Rejected("too_short", "half a surrogate \ud800") if number % 5 == 4 else None
    return lambda: Candidate(sample, rejected, {"template": number}, identity=f"word {number}")


def told(*candidates: Callable[[], Candidate]) -> Recipe:
    OFFERED[:] = candidates or map(word, range(WORDS))
    READ.clear()
    return replace(recipe(()), source=Told())


@pytest.fixture(autouse=True)
def sealed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing.Segments, "seal_if_due", sealing.Segments.seal)


def read(made: Recipe, store: Store, folder: Path, *, kill_after: int = 10**9, stop: Any = never_stop) -> Part:
    """Ingest the one partition; killed once so many candidates were read."""

    def progress(read: int, kept: int) -> None:
        if read >= kill_after:
            raise Killed

    (partition,) = plan(made, context(folder))
    return ingest_partition(made, partition, store, context(folder), progress=progress, stop=stop).part


def segments_in(store: Store) -> list[str]:
    return [stored.key for stored in store.list(f"{CORPUS}/raw/") if layout.is_segment(stored.key)]


def objects_in(store: MemoryStore) -> dict[str, bytes]:
    return {stored.key: store.read(stored.key) for stored in store.list(f"{CORPUS}/raw/")}


def test_killed_at_any_candidate_a_partition_becomes_the_part_of_a_run_without_a_kill(tmp_path: Path) -> None:
    calm = MemoryStore()
    read(told(), calm, tmp_path)
    assert not segments_in(calm)
    for kill_after in range(1, WORDS, 3):
        store, made = MemoryStore(), told()
        with pytest.raises(Killed):
            read(made, store, tmp_path, kill_after=kill_after)
        with pytest.raises(Killed):
            read(made, store, tmp_path, kill_after=min(kill_after + 5, WORDS))
        read(made, store, tmp_path)
        assert objects_in(store) == objects_in(calm), kill_after


def test_a_short_partition_writes_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    store = MemoryStore()
    with pytest.raises(Killed):
        read(told(), store, tmp_path, kill_after=WORDS)
    assert not list(store.list())


def test_a_stopped_ingest_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    store, made = MemoryStore(), told()
    with pytest.raises(IngestStopped):
        read(made, store, tmp_path, stop=lambda: len(READ) > 11)
    (key,) = segments_in(store)
    assert len(json.loads(store.read(key)[512:].partition(b"\0")[0])["rows"]) == 11
    read(made, store, tmp_path)
    calm = MemoryStore()
    read(told(), calm, tmp_path)
    assert objects_in(store) == objects_in(calm)


@pytest.mark.parametrize(
    "other",
    [
        [word(0), word(30), word(2), word(3)],
        [word(0), word(1)],
        [word(0, sha256="b"), *map(word, range(1, 20))],
    ],
    ids=["another candidate", "fewer candidates", "other bytes"],
)
def test_where_the_source_gives_other_candidates_it_is_read_anew(
    tmp_path: Path, other: Sequence[Callable[[], Candidate]]
) -> None:
    store = MemoryStore()
    with pytest.raises(Killed):
        read(told(word(0, sha256="a"), *map(word, range(1, 9))), store, tmp_path, kill_after=8)
    assert len(segments_in(store)) > 3
    read(told(*other), store, tmp_path)
    calm = MemoryStore()
    read(told(*other), calm, tmp_path)
    assert objects_in(store) == objects_in(calm)


def test_what_lies_behind_a_damaged_segment_is_read_again(tmp_path: Path) -> None:
    store, made = MemoryStore(), told()
    with pytest.raises(Killed):
        read(made, store, tmp_path, kill_after=20)
    keys = segments_in(store)
    assert len(keys) > 4
    store.write(keys[1], store.read(keys[1])[:-1] + b"x")
    store.write(keys[2], b"")
    store.write(layout.raw_segment(CORPUS, keys[0].split("/")[2], 0, "ab" * 32), store.read(keys[0]))
    read(made, store, tmp_path)
    calm = MemoryStore()
    read(told(), calm, tmp_path)
    assert objects_in(store) == objects_in(calm)


class Refusing(MemoryStore):
    """Takes no segment."""

    def create(self, key: str, payload: Payload) -> None:
        if layout.is_segment(key):
            raise StorageUnavailable("the disk is full")
        super().create(key, payload)


def test_a_store_that_takes_no_segment_stops_no_ingest(tmp_path: Path) -> None:
    assert read(told(), Refusing(), tmp_path).read == WORDS


def test_a_value_that_no_segment_holds_stops_no_ingest(tmp_path: Path) -> None:
    rejected = Candidate(Sample("d", {}, {"at": datetime(2026, 1, 1, tzinfo=UTC)}), Rejected("corrupt"))
    store = MemoryStore()
    assert read(told(lambda: rejected, *map(word, range(9))), store, tmp_path).read == 10


def test_what_was_out_of_reach_when_the_source_gave_up_is_asked_again(tmp_path: Path) -> None:
    def down() -> Candidate:
        raise SourceUnavailable("down")

    silent = Candidate(Sample("w3", {}, {}), Transient("timeout", "no byte"), identity="word 3")
    store = MemoryStore()
    first = told(*map(word, range(3)), lambda: silent, *map(word, range(5, 15)), down)
    with pytest.raises(SourceUnavailable):
        read(first, store, tmp_path)
    assert len(segments_in(store)) == 3
    part = read(told(*map(word, range(16))), store, tmp_path)
    assert "timeout" not in part.rejected
    assert not segments_in(store)


def test_what_was_forgotten_after_a_kill_is_not_taken_from_segments(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(Killed):
        read(told(), store, tmp_path, kill_after=9)
    add_tombstones(store, CORPUS, [("key", "w3")], at=datetime(2026, 1, 1, tzinfo=UTC))
    part = read(told(), store, tmp_path)
    assert part.rejected["forgotten"] == 1
    assert not [key for key, payload in objects_in(store).items() if b"word 3word 3" in payload]


def test_a_killed_partition_is_read_on_from_s3(tmp_path: Path, s3_store: S3Store) -> None:
    with pytest.raises(Killed):
        read(told(), s3_store, tmp_path, kill_after=9)
    assert len(segments_in(s3_store)) == 8
    part = read(told(), s3_store, tmp_path)
    assert part == read(told(), MemoryStore(), tmp_path)
    assert not segments_in(s3_store)


def orphans_of(store: Store) -> list[str]:
    referenced = orphans.ReferencedKeys(store)
    referenced.refresh()
    return [key for orphan in orphans.find(store, CORPUS, referenced.of(CORPUS)) for key in orphan.keys]


def test_gc_leaves_segments_of_a_plan_that_is_not_finished(tmp_path: Path) -> None:
    store, made = MemoryStore(), told()
    with pytest.raises(Killed):
        read(made, store, tmp_path, kill_after=9)
    assert sorted(orphans_of(store)) == segments_in(store) != []
    (partition,) = plan(made, context(tmp_path))
    row = {"name": "all", "payload": "{}", "fingerprint": "", "part": part_digest(made, partition)}
    table = PARTITIONS.empty_table().from_pylist([row], schema=PARTITIONS)
    stored = create_plan(store, CORPUS, [table], recipe_digest="", ledger=None, created_at="now", stoker="1")
    create_head(store, Ledger(CORPUS, 1, "2026-01-01", "1", plan=stored.key))
    assert orphans_of(store) == []
    left = {key: store.read(key) for key in segments_in(store)}
    part = read(made, store, tmp_path)
    for key, payload in left.items():
        store.write(key, payload)
    assert read_marker(store, CORPUS, part.digest, "all") == part
    assert set(orphans_of(store)) >= set(left), "the part is complete"
    store.write(layout.raw_part(CORPUS, part.digest), b"damaged")
    assert read_marker(store, CORPUS, part.digest, "all") == replace(part, omitted={})


def test_of_a_list_of_urls_none_that_was_done_is_asked_again(tmp_path: Path) -> None:
    with Site() as site:
        for number in range(60):
            site.pages[f"/{number}.jpg"] = Reply(picture(number))
        site.pages["/7.jpg"] = Reply(b"", status=503)
        (tmp_path / "list.txt").write_text("".join(site.url(f"/{number}.jpg") + "\n" for number in range(60)))
        source = {"name": "image_urls", "lists": "list.txt", "partition_urls": 1000}
        made = parse({"corpus": CORPUS, "source": source}, root=tmp_path)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        web = replace(FAST, threads=2, attempts=1)
        place = Context(root=tmp_path, web=web, scratch=tmp_path / "scratch", now=lambda: at)
        (partition,) = plan(made, place)

        def progress(read: int, kept: int) -> None:
            if read >= 40:
                raise Killed

        calm, store = MemoryStore(), MemoryStore()
        ingest_partition(made, partition, calm, place)
        with pytest.raises(Killed):
            ingest_partition(made, partition, store, place, progress=progress)
        before = len(site.pages_asked)
        done = sum(len(json.loads(store.read(key)[512:].split(b"\0")[0])["rows"]) for key in segments_in(store))
        assert done > 20
        ingest_partition(made, partition, store, place)
        assert len(site.pages_asked) - before == 60 - done
        assert objects_in(store) == objects_in(calm)
