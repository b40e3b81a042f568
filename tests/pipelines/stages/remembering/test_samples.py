"""A corpus remembers what it read of a table or a dump, as these grow, shrink and are exported anew."""

import re
from contextlib import suppress
from pathlib import Path

import pytest

from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import StorageUnavailable
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.stages.remembering.read_world import World, rows
from tests.site import Reply, Site
from tests.system.old_store.inputs import picture

DELETED = '<text bytes="4" deleted="deleted" /><sha1 />'


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_of_a_table_that_grew_only_new_rows_are_written_and_no_shard_is_written_again(world: World) -> None:
    world.table(rows(*range(200)))
    first = world.run().manifest
    before = world.samples(first)
    written = {one.key for one in world.store.list("rows/shards")}
    world.table([*rows(900), *rows(*reversed(range(100))), *rows(901), *rows(*range(100, 200)), ("", "odd")])
    second = world.run().manifest
    after = world.samples(second)
    assert (second.samples, second.known, second.rejected) == (202, 200, {"empty": 1})
    assert Version(world.store, second).sql("SELECT reason FROM rejected").to_pylist() == [{"reason": "empty"}]
    assert {key: after[key] for key in before} == before
    assert written <= {one.key for one in world.store.list("rows/shards")}
    assert set(first.shards) <= set(second.shards)
    new = sum(shard.samples for shard in second.shards if shard not in first.shards)
    assert new == 2
    assert verify(world.store, second).problems == ()
    assert not world.run().new


def test_a_table_that_is_exported_again_in_another_order_with_other_times_makes_no_version(world: World) -> None:
    world.table(rows(*range(50)))
    first = world.run().manifest
    world.table(rows(*reversed(range(50))), exported="tuesday")
    assert world.run().manifest == first
    world.table(rows(*range(0, 50, 2)), exported="wednesday")
    again = world.run()
    assert (again.new, again.manifest) == (False, first), "what the table no longer has stays"


def test_a_label_that_was_corrected_arrives_and_its_sample_keeps_key_and_split(world: World) -> None:
    world.source["key"] = "text"
    world.table(rows(*range(30)))
    before = world.samples(world.run().manifest)
    world.table([*rows(*range(29)), ("text number 29", "none")])
    second = world.run().manifest
    assert world.samples(second) == before
    labels = Version(world.store, second).records(columns=["label"]).read_all()["label"].to_pylist()
    assert labels.count("none") == 1
    assert second.known == 29
    [lineage] = find_lineages(world.store, second, next(key for key in before if key))
    assert [one.reason for one in lineage.attempts.made] == [""]


def test_of_two_dumps_the_newest_revision_is_the_sample_in_whichever_order_they_come(tmp_path: Path) -> None:
    found = []
    for number, order in enumerate((["jan"], ["jan", "feb"], ["feb"], ["feb", "jan"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = World(folder)
        world.dump("jan.xml", (1, 11, "Tin"), (2, 12, "Zinc"), (3, 13, "Lead"))
        world.dump("feb.xml", (1, 21, "Tin melts"), (2, 12, "Zinc"), (4, 24, "Iron"))
        world.source = {"name": "wikipedia_dump", "dump": [f"{name}.xml" for name in order]}
        first = world.run().manifest
        world.source = {"name": "wikipedia_dump", "dump": ["feb.xml", "jan.xml"]}
        second = world.run().manifest
        assert verify(world.store, second).problems == ()
        found.append(world.samples(second))
        assert second.samples == 4
        assert second.read == second.kept == 4
        assert set(world.samples(first)) <= set(found[-1])
        assert not world.run().new
    assert all(one == found[0] for one in found)


def test_a_text_that_the_wiki_hides_or_alters_under_the_same_revision_is_seen(world: World) -> None:
    world.source = {"name": "wikipedia_dump", "dump": "*.xml"}
    world.dump("jan.xml", (1, 11, "Tin"), (2, 12, "Zinc"), (3, 13, "Lead"), (4, 14, "Iron"))
    first = world.samples(world.run().manifest)
    (world.folder / "jan.xml").unlink()
    world.dump("feb.xml", (1, 11, "Tin"), (2, 12, "Zinc"), (3, 13, "Led"), (4, 14, "Iron"))
    path = world.folder / "feb.xml"
    hidden = re.sub(
        r'<text bytes="4" xml:space="preserve">Zinc</text>.*?</sha1>', DELETED, path.read_text(), flags=re.S
    )
    without = re.sub(
        r"<sha1>[^<]*</sha1></revision>\s*</page>\s*</mediawiki>", "</revision></page></mediawiki>", hidden
    )
    assert without != hidden != path.read_text()
    path.write_text(without)
    second = world.run().manifest
    after = world.samples(second)
    assert (second.known, second.rejected) == (2, {"empty": 1})
    assert set(first) - set(after) == {"dewiki-2"}
    assert {key for key in after if after[key] != first[key]} == {"dewiki-3"}
    assert verify(world.store, second).problems == ()
    assert not world.run().new


def test_what_a_dump_rejected_that_is_gone_counts_no_more(world: World) -> None:
    world.source = {"name": "wikipedia_dump", "dump": "*.xml"}
    world.dump("jan.xml", (1, 11, "Tin"), (2, 12, "#REDIRECT [[Tin]]"))
    assert world.run().manifest.rejected == {"redirect": 1}
    (world.folder / "jan.xml").unlink()
    world.dump("feb.xml", (1, 11, "Tin"), (3, 13, "Lead"))
    second = world.run().manifest
    assert (second.samples, second.known, second.rejected) == (2, 1, {})


def test_of_a_site_that_grew_only_new_pictures_are_asked_for(world: World) -> None:
    with Site() as site:

        def shows(*numbers: int) -> None:
            for number in numbers:
                site.pages[f"/{number}.jpg"] = Reply(picture(number))
            images = "".join(f'<img src="/{number}.jpg">' for number in numbers)
            site.pages["/"] = Reply(
                f"<html><body>{images}</body></html>".encode(), headers={"Content-Type": "text/html"}
            )

        world.source = {"name": "image_urls", "start": site.url("/"), "partition_urls": 4}
        shows(*range(20))
        first = world.run().manifest
        seen = len(site.pages_asked)
        shows(*range(7), 20, *reversed(range(9, 20)))
        second = world.run().manifest
        assert sorted(site.pages_asked[seen:]) == ["/", "/20.jpg"]
        assert (first.samples, second.samples) == (20, 21)


def test_a_kill_at_any_write_ends_in_the_same_version(tmp_path: Path) -> None:
    def grown(folder: Path, calls: int) -> tuple[Manifest, bool]:
        folder.mkdir()
        world, store = World(folder), FailingCalls()
        world.table(rows(*range(30)))
        world.run(store)
        world.table(rows(*range(10), 90, *range(10, 30), 91))
        store.left = calls
        with suppress(StorageUnavailable):
            world.run(store)
        was_killed, store.left = store.left <= 0, 10**9
        return world.run(store, days=0).manifest, was_killed

    expected, _ = grown(tmp_path / "whole", 10**9)
    for calls in range(1, 10**3, 7):
        manifest, was_killed = grown(tmp_path / str(calls), calls)
        assert (manifest.content, manifest.version) == (expected.content, 2)
        if not was_killed:
            break
    assert calls > 20
