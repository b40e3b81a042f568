"""A corpus remembers: what is asked of a site, and what versions hold, as a list grows, shrinks and heals."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stoker.pipelines import partition
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory import rows_read
from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.remembering import planned
from stoker.pipelines.stages.remembering.recall import Recall
from stoker.pipelines.stages.remembering.rounds import Rounds
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout, orphans
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory.ledger import newest_head
from stoker.storage.versions.orphans import ReferencedKeys
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.stages.remembering.world import World
from tests.site import FAST, Reply, Site
from tests.system.old_store.inputs import picture


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        yield World(tmp_path, site)


def test_of_a_list_that_grew_in_its_middle_only_new_urls_are_asked_for(world: World) -> None:
    world.serve(*range(30))
    world.names(*range(20))
    assert world.run()[1] == list(range(20))
    world.names(*range(7), 20, *reversed(range(7, 20)))
    second, asked = world.run()
    assert asked == [20]
    assert (second.manifest.version, second.manifest.samples) == (2, 21)
    assert verify(world.store, second.manifest).problems == ()
    again, asked = world.run()
    assert (again.new, asked) == (False, [])
    world.names(*reversed(range(21)))
    again, asked = world.run()
    assert (again.new, asked) == (False, [])


def test_what_vanished_from_the_list_stays(world: World) -> None:
    world.serve(*range(10))
    world.names(*range(10))
    world.run()
    world.names(3, 4)
    second, asked = world.run()
    assert (second.new, asked, second.manifest.samples) == (False, [], 10)


def test_a_picture_that_was_gone_is_asked_for_by_the_back_off_and_counts_once_when_it_is_there(world: World) -> None:
    world.serve(*range(9))
    world.names(*range(10))
    first, _ = world.run()
    assert first.manifest.rejected == {"gone": 1}
    days = []
    for day in range(1, 35):
        published, asked = world.run()
        assert not published.new
        days += [day] if asked else []
        assert asked in ([], [9])
    assert days == [1, 2, 4, 8, 16, 32]
    world.serve(9)
    healed, asked = world.run(days=30)
    assert asked == [9]
    assert (healed.new, healed.manifest.samples, healed.manifest.read, healed.manifest.rejected) == (True, 10, 10, {})
    assert verify(world.store, healed.manifest).problems == ()
    assert world.run(days=60)[1] == []


def test_what_the_list_says_of_a_url_is_asked_for_anew_when_it_changes(world: World) -> None:
    world.serve(*range(6))
    world.options |= {"lists": "list.csv"}
    captions = dict.fromkeys(range(6), "a bird")

    def write() -> None:
        rows = [f"{world.url(number)},{caption}\n" for number, caption in captions.items()]
        (world.folder / "list.csv").write_text("".join(["url,caption\n", *rows]))

    write()
    world.run()
    captions[3] = "a gull"
    write()
    second, asked = world.run()
    assert (second.new, asked, second.manifest.samples) == (True, [3], 6)
    assert captions_of(world, second) == {"a bird": 5, "a gull": 1}
    assert verify(world.store, second.manifest).problems == ()
    captions[3] = "a bird"  # as it was at first
    write()
    third, asked = world.run()
    assert (third.new, asked, captions_of(world, third)) == (True, [3], {"a bird": 6})


def test_a_kept_picture_stays_when_it_is_asked_for_again_and_is_gone(world: World) -> None:
    world.serve(*range(6))
    world.options |= {"lists": "list.csv"}
    (world.folder / "list.csv").write_text("".join(["url,caption\n", *(f"{world.url(n)},a\n" for n in range(6))]))
    world.run()
    del world.site.pages["/2.jpg"]
    (world.folder / "list.csv").write_text("".join(["url,caption\n", *(f"{world.url(n)},b\n" for n in range(6))]))
    second, asked = world.run()
    assert (asked, second.manifest.samples, second.manifest.rejected) == (list(range(6)), 6, {})
    assert captions_of(world, second) == {"a": 1, "b": 5}
    assert verify(world.store, second.manifest).problems == ()
    world.serve(2)
    third, asked = world.run()
    assert (asked, captions_of(world, third)) == ([2], {"b": 6})


def captions_of(world: World, published: Published) -> Counter[str]:
    table = Version(world.store, published.manifest).records(columns=["caption"]).read_all()
    return Counter(table["caption"].to_pylist())


def test_faults_of_a_list_are_those_of_the_list_as_it_is(world: World) -> None:
    world.serve(*range(8))
    world.names(*range(8))
    world.list[2:2] = ["ftp://example.org/", "", world.url(1)]
    first, _ = world.run()
    assert first.manifest.rejected == {"bad_url": 1, "duplicate_key": 1, "empty": 1}
    world.list.insert(0, world.url(20))
    world.serve(20)
    second, asked = world.run()
    assert (asked, second.manifest.rejected) == ([20], {"bad_url": 1, "duplicate_key": 1, "empty": 1})
    del world.list[3]
    world.list.append(world.url(21))
    world.serve(21)
    third, asked = world.run()
    assert (asked, third.manifest.rejected) == ([21], {"duplicate_key": 1, "empty": 1})
    assert verify(world.store, third.manifest).problems == ()


def test_a_refusal_of_a_setting_is_asked_for_when_the_setting_changed(world: World) -> None:
    world.serve(*range(3))
    world.names(*range(3))
    world.limit = 100
    with pytest.raises(RecipeError, match="private_address 3"):
        world.run(web=replace(FAST, allow_private=False))
    with pytest.raises(RecipeError, match="private_address 3"):
        world.run(web=replace(FAST, allow_private=False))
    assert world.site.log == []
    published, asked = world.run()
    assert (asked, published.manifest.samples, published.manifest.rejected) == ([0, 1, 2], 3, {})


def test_all_but_the_owners_refusals_are_asked_for_again_on_demand(world: World) -> None:
    world.serve(0, 1, 2)
    world.site.pages["/3.jpg"] = Reply(b"no picture at all")
    world.site.pages["/4.jpg"] = Reply(picture(4), headers={"X-Robots-Tag": "noai"})
    world.names(*range(6))
    first, _ = world.run()
    assert first.manifest.rejected == {"gone": 1, "not_an_image": 1, "opted_out": 1}
    assert world.run()[1] == [5]
    assert world.run(days=0.1)[1] == []
    assert world.run(days=0.1, again=Again(reasons=("not_an_image",)))[1] == [3]
    world.serve(3)
    second, asked = world.run(days=0.1, again=Again(all=True))
    assert (asked, second.manifest.samples, second.manifest.rejected) == ([3, 5], 4, {"gone": 1, "opted_out": 1})


def samples_in(store: Store) -> dict[str, bytes]:
    """What versions name: shards and decisions, by key."""
    return {
        stored.key: store.read(stored.key)
        for stored in store.list()
        if stored.key.split("/")[1] in ("shards", "decisions")
    }


def test_a_dead_host_that_is_asked_again_by_itself_stops_no_ingest(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(6))
    world.options |= {"partition_urls": 500}  # one partition, whatever port the dead host had
    with Site() as dead:
        pass
    world.list.append(dead.url("/9.jpg"))
    first, _ = world.run(web=replace(FAST, attempts=1))
    assert first.manifest.rejected == {"unreachable": 1}
    again, _ = world.run(web=replace(FAST, attempts=1))
    assert again.manifest == first.manifest
    (found,) = find_lineages(world.store, first.manifest, dead.url("/9.jpg"))
    assert [(one.reason, one.tries) for one in found.attempts.made] == [("unreachable", 1), ("unreachable", 2)]
    assert found.attempts.next is not None
    assert found.attempts.next.at == world.now + timedelta(days=1)


def test_a_new_url_that_is_gone_is_told_by_why_though_no_version_is_made_for_it(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(6))
    first, _ = world.run()
    world.names(*range(6), 7)
    again, asked = world.run()
    assert (again.new, asked) == (False, [7])
    (found,) = find_lineages(world.store, first.manifest, world.url(7))
    assert (found.state, found.reason, len(found.attempts.made)) == ("rejected", "gone", 1)


def test_a_healed_refusal_is_told_with_its_attempts(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(7))
    world.run()
    world.serve(6)
    healed, _ = world.run()
    (found,) = find_lineages(world.store, healed.manifest, world.url(6))
    assert (found.state, [one.reason for one in found.attempts.made]) == ("kept", ["gone", ""])
    assert [one["reason"] for one in found.to_json()["attempts"]] == ["gone", ""]


def test_a_raw_part_whose_marker_is_gone_is_read_again_in_its_place(world: World) -> None:
    world.serve(*range(12))
    world.options |= {"partition_urls": 2}
    world.names(*range(12))
    first, _ = world.run()
    part = first.manifest.parts[1]
    world.store.delete(layout.raw_part("birds", part.digest))
    again, asked = world.run(days=0)
    assert len(asked) == part.read
    assert (again.manifest.samples, [one.digest for one in again.manifest.parts]) == (
        12,
        [one.digest for one in first.manifest.parts],
    )


def test_two_fresh_stores_with_one_history_hold_the_same_bytes(world: World) -> None:
    def history() -> dict[str, bytes]:
        store, world.now = MemoryStore(), datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
        for numbers in (range(8), [*range(4), 20, 9, *range(4, 8)], [20, 10, 9, 5]):
            world.names(*numbers)
            world.run(store=store)
        return {stored.key: store.read(stored.key) for stored in store.list()}

    world.serve(*range(12))
    assert history() == history()


def test_a_list_that_grows_a_little_writes_no_shard_of_whole_groups_again(world: World) -> None:
    world.partitions = 1  # a group
    world.serve(*range(60))
    world.options |= {"partition_urls": 2}
    world.names(*range(50))
    first, _ = world.run()
    world.names(50, *range(50))
    second, _ = world.run()
    assert len({shard.group for shard in first.manifest.shards}) > 3
    assert list(second.manifest.shards[: len(first.manifest.shards)]) == list(first.manifest.shards)


def test_outcomes_of_many_runs_are_merged(world: World) -> None:
    world.serve(*range(4))
    world.names(*range(6))
    world.run()
    for _ in range(12):
        assert world.run(again=Again(all=True))[1] == [4, 5]
    head = newest_head(world.store, "birds")
    assert head is not None
    assert len(head.outcomes) < 8
    assert sum(part.read for part in head.parts if not part.grouped) == 2
    (found,) = find_lineages(world.store, load_manifest(world.store, "birds"), world.url(4))
    assert found.attempts.made[-1].tries == 13


def test_gc_leaves_all_that_the_ledger_needs(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(7))
    world.run()
    world.names(*range(8))
    world.run()
    referenced = ReferencedKeys(world.store)
    referenced.refresh()
    for orphan in list(orphans.find(world.store, "birds", referenced.keys)):
        orphans.remove_outside_corpora(world.store, orphan)
    world.serve(6, 7)
    published, asked = world.run()
    assert (asked, published.manifest.samples) == ([6, 7], 8)
    assert verify(world.store, published.manifest).problems == ()


def test_removed_and_changed_files_of_a_folder(tmp_path: Path) -> None:
    folder, store = tmp_path / "photos", MemoryStore()
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02d}.jpg").write_bytes(picture(number))
    source = {"name": "local_files", "files": "photos", "files_per_partition": 3}
    recipe = parse({"corpus": "photos", "source": source}, root=tmp_path)
    now = iter(range(100))

    def run() -> Published:
        start = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=next(now))
        return ingest(recipe, store, Context(root=tmp_path, web=FAST, scratch=tmp_path / "s", now=lambda: start))

    first = run()
    (folder / "03.jpg").unlink()
    assert not run().new, "it stays"
    (folder / "04.jpg").write_bytes(picture(40))
    (folder / "05.txt").write_text("a caption")
    second = run()
    keys = {row["key"]: row for row in Version(store, second.manifest).records().read_all().to_pylist()}
    assert (second.new, len(keys), second.manifest.read) == (True, 12, 12)
    assert [row["caption"] for row in keys.values() if row.get("caption")] == ["a caption"]
    assert {shard.sha256 for shard in first.manifest.shards} != {shard.sha256 for shard in second.manifest.shards}
    (folder / "05.txt").write_bytes(b"\xff\xfe\x00\xd8")
    broken = run()
    assert (broken.new, broken.manifest.read, sum(broken.manifest.rejected.values())) == (True, 13, 1)
    (folder / "05.txt").write_text("a caption")
    healed = run()
    assert (healed.manifest.read, healed.manifest.rejected) == (12, {})
    assert verify(store, healed.manifest).problems == ()
    (folder / "04.jpg").write_bytes(picture(4))
    assert run().manifest.samples == 12
    assert not run().new


@pytest.mark.parametrize("after", [False, True])
def test_wherever_the_store_fails_the_same_command_finishes_and_ends_in_the_same_bytes(
    world: World, after: bool
) -> None:
    """Nothing is asked for twice but the pictures of the partition that was in flight."""
    world.serve(*range(12))
    lists = [[*range(8), 30], [*range(8), 30], [*range(4), 8, 9, *range(4, 8), 30]]  # the second only asks again

    calls: list[int] = []

    def history(store: FailingCalls, fails_after: int) -> list[int]:
        """The pictures that were asked for from the second ingest on, which fails."""
        world.now = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
        world.names(*lists[0])
        world.run(store=store)
        store.left, before = fails_after, len(world.site.pages_asked)
        for numbers in lists[1:]:
            world.names(*numbers)
            world.now += timedelta(days=2)
            for _ in range(3):
                with suppress(StorageUnavailable):
                    world.run(store=store, days=0)
                    break
        calls.append(10**9 - store.left)
        world.seen, store.left = before, 10**9
        return world.asked()

    whole = FailingCalls()
    assert history(whole, 10**9) == [8, 9, 30, 30]
    expected = samples_in(whole)
    for left in range(1 if after else 9, calls[0] + 1, 17):
        store = FailingCalls(after=after)
        asked = history(store, left)
        assert catalog.versions(store, "birds") == [1, 2]
        assert samples_in(store) == expected
        assert set(asked) == {8, 9, 30}
        assert len(asked) <= 4 + 2


@pytest.mark.parametrize("machine", ["same", "another"])
def test_a_plan_is_resumed_without_all_that_is_known(
    world: World, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_read, "FEWEST", 1)
    world.serve(*range(12))
    world.names(*range(8))
    world.run()
    world.names(*range(4), 8, 9, 10, 11, *range(4, 8))
    first = Rounds(world.recipe, world.context, world.store).next()
    if machine == "another":
        shutil.rmtree(world.context.scratch)
    monkeypatch.delattr(Recall, "known")  # all that is known of ten million URLs takes gigabytes
    resumed = Rounds(world.recipe, world.context, world.store).next()
    assert first is not None
    assert resumed is not None
    assert list(resumed) == list(first) != []


def test_a_plan_has_the_same_bytes_however_much_of_it_is_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.list = [*(world.url(number) for number in range(600)), "no url", world.url(5)]
    found = []
    for written, in_memory in ((16, 2**22), (1, 0), (1000, 50)):
        monkeypatch.setattr(planned, "_WRITTEN", written)
        monkeypatch.setattr(partition, "_IN_MEMORY", in_memory)
        store = MemoryStore()
        made = Rounds(world.recipe, world.context, store).next()
        plans = {one.key: store.read(one.key) for one in store.list("birds/plans")}
        found.append((list(made or ()), plans))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) > 128 + 1
    assert len(found[0][1]) == 2
