"""Candidates that a source has no more: counted, kept or dropped by the recipe's word, and back when they are."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context, ListedSource
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.remembering.counting import Remembered, count_remembered
from stoker.pipelines.stages.unchanged import find_unchanged
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.clock import timestamp
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.memory.ledger import create_head, newest_head
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.films import film
from tests.pipelines.stages.remembering.world import World
from tests.site import FAST, Site
from tests.system.old_store.inputs import picture


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        yield World(tmp_path, site)


def counted(world: World) -> Remembered:
    found = count_remembered(world.store, "birds", world.now)
    assert found is not None
    return found


def splits_of(world: World, published: Published) -> dict[int, str]:
    rows = Version(world.store, published.manifest).records(["url", "split"]).read_all().to_pylist()
    return {int(row["url"].rpartition("/")[2].removesuffix(".jpg")): row["split"] for row in rows}


def test_what_a_list_names_no_more_stays_and_is_counted_with_the_day(world: World) -> None:
    world.serve(*range(10))
    world.names(*range(10))
    world.run()
    world.names(*range(7))
    missed_at = world.now + timedelta(days=1)
    for _ in range(3):
        again, asked = world.run()
        assert (again.new, asked, again.manifest.samples) == (False, [], 10)
    told = counted(world)
    assert (told.vanished, told.vanished_first, told.vanished_last) == (3, *[timestamp(missed_at)] * 2)
    (found,) = find_lineages(world.store, again.manifest, world.url(8))
    assert [(one.reason, one.at) for one in found.attempts.made][1:] == [("vanished", missed_at)]
    world.names(*range(9))
    again, asked = world.run()
    assert (again.new, asked) == (False, [])
    assert counted(world).vanished == 1


def test_what_vanished_is_dropped_where_the_recipe_says_so_and_comes_back_into_its_split(world: World) -> None:
    world.memory = {"vanished": "drop"}
    world.serve(*range(12))
    world.names(*range(12))
    first, _ = world.run()
    splits = splits_of(world, first)
    world.names(*range(0, 12, 2), 1)
    second, asked = world.run()
    assert (second.new, asked, second.manifest.samples, second.manifest.read) == (True, [], 7, 12)
    assert second.manifest.rejected == {"vanished": 5}
    assert splits_of(world, second) == {number: splits[number] for number in (*range(0, 12, 2), 1)}
    assert verify(world.store, second.manifest).problems == ()
    (found,) = find_lineages(world.store, second.manifest, world.url(5))
    assert (found.state, found.reason, found.rejected_by) == ("rejected", "vanished", "image_urls")
    assert world.run()[0].new is False
    world.names(*range(12))
    third, asked = world.run()
    assert (third.new, asked, third.manifest.rejected) == (True, [], {})
    assert splits_of(world, third) == splits
    assert verify(world.store, third.manifest).problems == ()
    assert world.run()[0].new is False


def test_another_word_of_the_recipe_decides_about_what_vanished_before(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(6))
    world.run()
    world.names(*range(4))
    assert world.run()[0].manifest.samples == 6
    world.memory = {"vanished": "drop"}
    assert world.run()[0].manifest.rejected == {"vanished": 2}
    world.memory = {"vanished": "keep"}
    published, asked = world.run()
    assert (published.manifest.samples, published.manifest.rejected, asked) == (6, {}, [])


def test_a_list_that_lost_more_than_is_allowed_drops_nothing_until_it_is_allowed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.memory = {"vanished": "drop"}
    world.serve(*range(10))
    world.names(*range(10))
    world.run()
    world.names(0, 1, 2)
    for _ in range(2):
        caplog.clear()
        published, asked = world.run()
        assert (published.new, published.manifest.samples, asked) == (False, 10, [])
        assert "memory.vanished_percent = 50" in caplog.text
        assert "and go" not in caplog.text
    world.memory["vanished_percent"] = 70
    assert world.run()[0].manifest.rejected == {"vanished": 7}


@pytest.mark.parametrize("word", ["keep", "drop"])
def test_a_list_that_names_nothing_known_makes_nothing_vanish(
    world: World, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.memory = {"vanished": word, "vanished_percent": 100}
    world.serve(*range(10))
    world.names(*range(6))
    world.run()
    for now in (["ftp://example.org/"], [world.url(8), world.url(9)]):
        world.list = now
        caplog.clear()
        published, _ = world.run()
        assert published.manifest.rejected == {}
        assert "none of the samples that the corpus holds" in caplog.text
        assert counted(world).vanished == 0


def test_pages_that_answer_404_twice_are_dropped_and_come_back(world: World) -> None:
    world.memory = {"vanished": "drop"}
    world.serve(*range(6))
    world.names(*range(6))
    world.run()
    del world.site.pages["/3.jpg"]
    once, asked = world.run(again=Again(kept=True))
    assert (once.new, asked) == (False, list(range(6)))
    assert counted(world).unanswered == 1
    twice, asked = world.run()
    assert (twice.manifest.rejected, twice.manifest.samples, asked) == ({"vanished": 1}, 5, [3])
    (found,) = find_lineages(world.store, twice.manifest, world.url(3))
    assert found.attempts.made[-1].detail == "HTTP 404; missing since 2026-03-04"
    world.serve(3)
    back, asked = world.run(days=40)
    assert (back.manifest.rejected, back.manifest.samples, asked) == ({}, 6, [3])


def test_what_was_taken_out_by_its_owner_is_not_missing(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(6))
    world.run()
    forget(world.store, "birds", [("url", world.url(2))])
    world.names(*range(5))
    world.run()
    assert counted(world).vanished == 1


def test_a_head_of_an_earlier_release_is_counted_at_the_next_ingest(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(6))
    world.run()
    head = newest_head(world.store, "birds")
    assert head is not None
    assert head.vanished == "keep"
    world.names(*range(4))
    context = Context(root=world.folder, web=FAST, scratch=world.folder / "scratch")
    source = world.recipe.source
    assert isinstance(source, ListedSource)
    following = head.successor(created_at=head.created_at, stoker=head.stoker)
    create_head(world.store, replace(following, vanished="", listing=source.listing(context)))
    assert world.run()[0].new is False
    assert counted(world).vanished == 2


def photos(folder: Path, word: str) -> Recipe:
    source = {"name": "local_files", "files": "photos/*.jpg"}
    return parse({"corpus": "photos", "source": source, "memory": {"vanished": word}}, root=folder)


@pytest.mark.parametrize("word", ["keep", "drop"])
def test_a_file_that_is_removed_vanishes_and_one_that_is_renamed_does_not(tmp_path: Path, word: str) -> None:
    store, now = MemoryStore(), datetime(2026, 3, 2, tzinfo=UTC)
    (tmp_path / "photos").mkdir()
    for number in range(8):
        (tmp_path / f"photos/{number}.jpg").write_bytes(picture(number))

    def run() -> Manifest:
        nonlocal now
        now += timedelta(days=1)
        context = Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch", now=lambda: now)
        recipe = photos(tmp_path, word)
        unchanged = find_unchanged(recipe, store, context)
        published = ingest(recipe, store, context)
        assert unchanged is None or not published.new
        return published.manifest

    assert run().samples == 8
    (tmp_path / "photos/3.jpg").unlink()
    (tmp_path / "photos/4.jpg").rename(tmp_path / "photos/9.jpg")
    second = run()
    assert (second.samples, dict(second.rejected)) == ((8, {}) if word == "keep" else (7, {"vanished": 1}))
    assert run().reference == second.reference
    remembered = count_remembered(store, "photos", now)
    assert remembered is not None
    assert remembered.vanished == 1
    (tmp_path / "photos/3.jpg").write_bytes(picture(3))
    assert (run().samples, verify(store, run()).problems) == (8, ())


class Table:
    """A table of a folder, ingested day after day."""

    def __init__(self, folder: Path, word: str, store: Store | None = None) -> None:
        self.folder, self.word, self.store = folder, word, store or MemoryStore()
        self.now = datetime(2026, 3, 2, tzinfo=UTC)

    def run(self, rows: Iterable[int], *, store: Store | None = None) -> Published:
        """Ingest the rows, a day later."""
        numbers = list(rows)
        columns = {"id": numbers, "text": [f"the text of row {number}" for number in numbers]}
        pq.write_table(pa.table(columns), self.folder / "rows.parquet")
        source = {"name": "hugging_face", "dataset": "rows.parquet", "key": "id", "rows_per_partition": 4}
        memory = {"vanished": self.word, "vanished_percent": 100}
        recipe = parse({"corpus": "rows", "source": source, "memory": memory}, root=self.folder)
        self.now += timedelta(days=1)
        context = Context(root=self.folder, web=FAST, scratch=self.folder / "scratch", now=lambda: self.now)
        return ingest(recipe, store or self.store, context)

    def held(self, published: Published) -> dict[int, str]:
        """The rows of a version, and their splits."""
        rows = Version(self.store, published.manifest).records(["row_id", "split"]).read_all().to_pylist()
        return {row["row_id"]: row["split"] for row in rows}


def test_rows_that_left_a_table_vanish_and_come_back(tmp_path: Path) -> None:
    table = Table(tmp_path, "drop")
    splits = table.held(table.run(range(20)))
    second = table.run([*range(5), *range(8, 20), 30])
    assert (set(table.held(second)), dict(second.manifest.rejected)) == (
        {*range(5), *range(8, 20), 30},
        {"vanished": 3},
    )
    assert table.run([*range(5), *range(8, 20), 30]).new is False
    third = table.run([*range(20)])
    assert {number: split for number, split in table.held(third).items() if number != 30} == splits
    assert dict(third.manifest.rejected) == {"vanished": 1}
    assert verify(table.store, third.manifest).problems == ()
    table.word = "keep"
    assert len(table.held(table.run(range(20)))) == 21


@settings(max_examples=8, deadline=None)
@given(
    nights=st.lists(st.sets(st.integers(0, 15)).map(lambda rows: rows | {99}), min_size=1, max_size=4),
    word=st.sampled_from(["keep", "drop"]),
    left=st.integers(1, 60),
)
def test_any_history_of_a_table_keeps_or_drops_what_the_word_says_also_after_a_crash(
    tmp_path_factory: pytest.TempPathFactory, nights: list[set[int]], word: str, left: int
) -> None:
    store = FailingCalls(after=left % 2 == 1)
    table = Table(tmp_path_factory.mktemp("rows"), word, store)
    expected, splits = set[int](), dict[int, str]()
    for number, rows in enumerate(nights):
        store.left = left if number == len(nights) - 1 else 10**9
        with suppress(StorageUnavailable):
            table.run(sorted(rows))
        store.left = 10**9
        published = table.run(sorted(rows))
        expected = expected | rows if word == "keep" else rows
        held = table.held(published)
        assert set(held) == expected
        assert held.items() >= {row: split for row, split in splits.items() if row in held}.items()
        splits |= held
    assert verify(store, published.manifest).problems == ()


@pytest.mark.parametrize("word", ["keep", "drop"])
def test_frames_vanish_with_their_video_and_stay_while_it_is_another_one(tmp_path: Path, word: str) -> None:
    store, now = MemoryStore(), datetime(2026, 3, 2, 1, 0, tzinfo=UTC)

    def run() -> tuple[Manifest, int]:
        nonlocal now
        now += timedelta(days=1)
        context = Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch", now=lambda: now)
        source = {"name": "video_frames", "videos": "*.mp4", "format": "png"}
        memory = {"vanished": word, "vanished_percent": 70}
        manifest = ingest(parse({"corpus": "films", "source": source, "memory": memory}, root=tmp_path), store, context)
        remembered = count_remembered(store, "films", now)
        assert remembered is not None
        assert verify(store, manifest.manifest).problems == ()
        return manifest.manifest, remembered.vanished

    for name, title in (("a", "one"), ("b", "two")):
        film(tmp_path / f"{name}.mp4", list(range(0, 4000, 500)), title=title)
    assert (run()[0].samples, run()[1]) == (8, 0)
    film(tmp_path / "a.mp4", list(range(0, 2000, 500)), title="shorter now")
    assert (run()[0].samples, run()[1]) == (8, 0)
    (tmp_path / "b.mp4").rename(tmp_path / "b.away")
    assert [(manifest.samples, gone) for manifest, gone in (run(), run())] == [(8 if word == "keep" else 4, 4)] * 2
    (tmp_path / "b.away").rename(tmp_path / "b.mp4")
    assert [(manifest.samples, gone) for manifest, gone in (run(), run())] == [(8, 0)] * 2
