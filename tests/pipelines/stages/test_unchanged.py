"""An ingest with nothing to do is told from one that has, by what the store holds alone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.remembering import rounds
from stoker.pipelines.stages.unchanged import find_unchanged
from stoker.pipelines.web.client import Web
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory.tombstones import add_tombstones
from tests.pipelines.stages.remembering.world import World
from tests.site import FAST, Reply, Site


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        world = World(tmp_path, site)
        world.store = DirectoryStore(tmp_path / "store")  # type: ignore[assignment]  # whose objects have change tokens
        world.serve(*range(12))
        world.names(*range(14))  # the last two are gone
        world.run()
        yield world


def unchanged(world: World, *, web: Web = FAST, hours: float = 1) -> str | None:
    """The reference of the version, an hour later; compared with what an ingest does."""
    world.now += timedelta(hours=hours)
    context = Context(root=world.folder, web=web, scratch=world.folder / "scratch", now=lambda: world.now)
    before = {stored.key for stored in world.store.list()}
    found = find_unchanged(world.recipe, world.store, context)
    assert {stored.key for stored in world.store.list()} == before
    assert world.asked() == []
    return found.reference if found else None


def test_what_an_ingest_would_leave_as_it_is_is_seen_without_one(world: World) -> None:
    world.run(days=0.04)  # what is gone is tried again at once, and then a day later
    assert unchanged(world) == "birds@1"
    published, asked = world.run(days=0.01)
    assert (published.new, published.manifest.reference, asked) == (False, "birds@1", [])
    assert unchanged(world, hours=24) is None, "two are due"


@pytest.mark.parametrize("change", ["a new URL", "the shards", "a setting", "a limit", "a tombstone"])
def test_an_ingest_runs_where_something_changed(world: World, change: str) -> None:
    world.site.pages["/12.jpg"] = world.site.pages["/13.jpg"] = Reply(b"", 401)
    world.run(days=2)
    assert unchanged(world) == "birds@1"
    web = FAST
    if change == "a new URL":
        world.names(*range(15))
    elif change == "the shards":
        world.partitions = 3
    elif change == "a setting":
        world.list.append("http://127.0.0.2:1/x.jpg")
        world.run(web=Web(**{**vars(FAST), "allow_private": "127.0.0.1"}))
        assert unchanged(world, web=Web(**{**vars(FAST), "allow_private": "127.0.0.1"})) is not None
    elif change == "a limit":
        world.limit = 1.0
    else:
        add_tombstones(world.store, "birds", [("url", world.url(3))], at=world.now)
    assert unchanged(world, web=web) is None


def test_damage_that_an_ingest_heals_is_left_to_it(world: World) -> None:
    world.run(days=0.04)
    assert unchanged(world) == "birds@1"
    manifest = load_manifest(world.store, "birds", 1)
    shard, part = manifest.shards[0], manifest.parts[0]
    named = [shard.key, shard.index, part.tar, part.records, manifest.decisions.key]
    markers = [layout.group("birds", shard.group), layout.raw_part("birds", part.digest), layout.version("birds", 1)]
    for key in [*named, *markers]:
        payload = world.store.read(key)
        if key not in markers[:2]:
            world.store.write(key, payload[:-9])
            assert unchanged(world, hours=0) is None, key
        world.store.delete(key)
        assert unchanged(world, hours=0) is None, key
        world.store.write(key, payload)
    assert unchanged(world, hours=0) == "birds@1"


def test_a_folder_that_is_as_it_was_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    made = parse({"corpus": "texts", "source": {"name": "local_files", "files": "*.txt"}}, root=tmp_path)
    store, context = MemoryStore(), Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch")
    assert find_unchanged(made, store, context) is None
    ingest(made, store, context)
    found = find_unchanged(made, store, context)
    assert found
    assert found.reference == "texts@1"
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "_LOOK_S", -1.0)
        assert find_unchanged(made, store, context) is None, "the ingest looks itself"
    (tmp_path / "3.txt").write_text("another text")
    assert find_unchanged(made, store, context) is None


def test_an_ingest_runs_where_a_robots_txt_that_refused_changed(world: World) -> None:
    world.site.pages["/12.jpg"] = world.site.pages["/13.jpg"] = Reply(b"", 401)
    FAST.close()
    world.site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /14.jpg\n")
    world.names(*range(15))
    world.run(days=2)
    FAST.close()
    assert unchanged(world) == "birds@1"
    world.site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /0.jpg\n")
    FAST.close()
    assert unchanged(world) is None
