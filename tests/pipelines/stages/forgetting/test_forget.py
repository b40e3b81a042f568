"""What is taken out of a corpus is out of the next version at once, and stays out, whatever is ingested."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stoker
from stoker.flows.report.difference import difference
from stoker.flows.report.refusals import all_refusals, raw_member
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.forgetting.forget import Forgetting, forget
from stoker.pipelines.stages.forgetting.matching import taken_out_for
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.pipelines.stages.pack import pack
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.pipelines.web.client import Web
from stoker.storage.errors import NotFound, StorageRefused, StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Payload
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.memory.taken_out import count_taken_out
from stoker.storage.versions.memory.tombstones import add_tombstones, load_tombstones
from tests.fakes import FailingCalls
from tests.pipelines.stages.remembering.world import World
from tests.site import FAST, Reply, Site
from tests.storage.external_tars import indexed, numbered, put, tar
from tests.storage.published import CORPUS, make_version

CORPUS_OF_WORLD = "birds"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        world = World(tmp_path, site)
        world.serve(*range(12))
        world.names(*range(10))
        world.run()
        yield world


def take_out(world: World, asked: list[tuple[str, str]], *, dry_run: bool = False) -> Forgetting:
    return forget(world.store, CORPUS_OF_WORLD, asked, dry_run=dry_run, now=lambda: world.now)


def urls(world: World, version: int | None = None) -> list[int]:
    """The numbers of the pictures that a version holds."""
    manifest = load_manifest(world.store, CORPUS_OF_WORLD, version)
    column = stoker.Version(world.store, manifest).records(["url"]).read_all()["url"].to_pylist()
    return sorted(int(url.rpartition("/")[2].removesuffix(".jpg")) for url in column)


def test_a_url_is_out_at_once_in_whatever_form_it_is_given(world: World) -> None:
    url = world.url(3).replace("http://", "HTTP://") + "#top"
    told = take_out(world, [("url", url)])
    assert (told.samples, told.unknown) == ({1: 1}, ())
    assert told.view is not None
    assert (told.view.reference, told.view.parent, told.view.rejected) == ("birds@2", 1, {"forgotten": 1})
    assert urls(world) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert verify(world.store, told.view).problems == ()


def test_a_dry_run_changes_nothing(world: World) -> None:
    before = {stored.key for stored in world.store.list("")}
    told = take_out(world, [("url", world.url(3)), ("url", world.url(11))], dry_run=True)
    assert (told.samples, told.unknown, told.view) == ({1: 1}, (("url", world.url(11)),), None)
    assert {stored.key for stored in world.store.list("")} == before


def test_ingests_after_it_publish_nothing_or_a_version_without_the_samples(world: World) -> None:
    take_out(world, [("url", world.url(3))])
    again, asked = world.run()
    assert (again.new, again.manifest.version, asked) == (False, 2, [])
    world.names(*range(11))
    grown, asked = world.run()
    assert (grown.new, asked) == (True, [10])
    assert urls(world) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert grown.manifest.is_packed
    assert grown.manifest.rejected == {"forgotten": 1}
    assert verify(world.store, grown.manifest).problems == ()
    assert not world.run()[0].new


def test_a_listed_candidate_that_no_sample_has_is_never_asked_for(world: World) -> None:
    told = take_out(world, [("url", world.url(11))])
    assert (told.samples, told.unknown, told.view) == ({}, (("url", world.url(11)),), None)
    world.names(*range(12))
    assert world.run()[1] == [10]
    assert urls(world) == list(range(11))
    assert not world.run(again=Again(all=True))[0].new
    assert world.asked() == []


@pytest.mark.parametrize("has_port", [True, False])
def test_nothing_of_a_host_is_asked_for_again_also_where_its_images_failed_before(world: World, has_port: bool) -> None:
    world.names(*range(10), 77)  # gone
    world.run()
    host = world.site.url("").removeprefix("http://").rstrip("/")
    name, _, port = host.partition(":")
    other = f"{name}:{int(port) - 1}"
    told = take_out(world, [("host", host if has_port else name), ("host", other)])
    assert (told.samples, told.unknown) == ({1: 10}, (("host", other),))
    assert load_manifest(world.store, CORPUS_OF_WORLD).samples == 0
    world.asked()
    assert world.run(days=60) == (Published(load_manifest(world.store, CORPUS_OF_WORLD), new=False), [])


@pytest.mark.parametrize("kind", ["sha256", "key"])
def test_samples_are_found_by_their_bytes_and_keys(world: World, kind: str) -> None:
    version = stoker.version(world.store, CORPUS_OF_WORLD)
    row = version.records(["key", "url", "sha256"]).read_all().to_pylist()[4]
    told = take_out(world, [(kind, row[kind])])
    assert told.samples == {1: 1}
    assert row["key"] not in stoker.version(world.store, CORPUS_OF_WORLD)
    assert load_tombstones(world.store, CORPUS_OF_WORLD).is_withdrawn("key", [row["key"]]).all()


def test_bytes_that_come_back_under_another_url_stay_out_if_the_bytes_were_taken_out(world: World) -> None:
    rows = stoker.version(world.store, CORPUS_OF_WORLD).records(["url", "sha256"]).read_all().to_pylist()
    take_out(world, [("sha256", row["sha256"]) for row in rows if row["url"] == world.url(3)])
    world.site.pages["/20.jpg"] = world.site.pages["/3.jpg"]
    world.names(*range(11), 20)
    grown, asked = world.run()
    assert asked == [10, 20]
    assert urls(world) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert grown.manifest.rejected == {"forgotten": 2}
    records = [world.store.read(part.records) for part in grown.manifest.parts]
    assert all(world.url(20).encode() not in payload for payload in records)


def test_an_ingest_that_decided_before_decides_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    once: list[int] = []

    def slow(*arguments: object, **options: object) -> object:
        if not once:
            once.append(take_out(world, [("url", world.url(10))]).samples.get(1, 0))
        return pack(*arguments, **options)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr("stoker.pipelines.stages.publish.pack", slow)
    world.names(*range(11))
    grown, _ = world.run()
    assert once == [0]
    assert urls(world) == list(range(10))
    assert grown.manifest.rejected == {"forgotten": 1}


def test_a_version_may_hold_nothing_any_more(world: World) -> None:
    keys = stoker.version(world.store, CORPUS_OF_WORLD).records(["key"]).read_all()["key"].to_pylist()
    told = take_out(world, [("key", key) for key in keys])
    assert told.view is not None
    assert told.view.samples == 0
    assert verify(world.store, told.view).problems == ()


def test_samples_of_older_versions_are_counted_too() -> None:
    store = MemoryStore()
    make_version(store)
    forget(store, CORPUS, [("key", "s-000")])
    told = forget(store, CORPUS, [("key", "s-000"), ("key", "s-001")])
    assert told.samples == {1: 2, 2: 1}
    assert told.view is not None
    assert told.view.samples == 9


def test_external_tars_stay_as_they_are(tmp_path: Path) -> None:
    store = MemoryStore()
    put(tmp_path / "a.tar", tar(numbered(0, 5)))
    manifest = indexed(tmp_path, store).manifest
    key = stoker.Version(store, manifest).records(["key"]).read_all()["key"].to_pylist()[0]
    told = forget(store, manifest.corpus, [("key", key)])
    assert told.view is not None
    assert told.view.samples == manifest.samples - 1
    assert key not in stoker.Version(store, told.view)
    assert verify(store, told.view).problems == ()


def test_what_cannot_be_meant_is_refused_in_one_line(world: World) -> None:
    with pytest.raises(NotFound, match="no corpus"):
        forget(world.store, "bards", [("key", "a")])
    for kind, value in (("url", "cat.jpg"), ("host", "https://a.example/"), ("sha256", "abc"), ("name", "x")):
        with pytest.raises(StorageRefused, match=kind):
            take_out(world, [(kind, value)])
    with pytest.raises(StorageRefused, match="name 'birds'"):
        forget(world.store, "birds@1", [("key", "a")])


def test_older_versions_do_not_show_it_any_more(world: World) -> None:
    take_out(world, [("url", world.url(3))])
    manifest = load_manifest(world.store, CORPUS_OF_WORLD, 1)
    assert urls(world, 1) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    (told,) = find_lineages(world.store, manifest, world.url(3))
    assert (told.state, told.record, told.withdrawn) == ("kept", {}, "2026-03-03")
    reader = SampleReader(world.store)
    shown = reader.page(manifest, size=20)
    assert (len(shown.entries), shown.total) == (9, 10)
    with pytest.raises(NotFound, match="was taken out"):
        reader.find(manifest, told.key)
    newest = load_manifest(world.store, CORPUS_OF_WORLD)
    changes = difference(manifest, newest, world.store)
    assert (changes.removed, changes.withdrawn) == (1, 1)
    assert [one.title for one in changes.examples["removed"]] == [""]
    counts = [count_taken_out(world.store, one.shards) for one in (manifest, newest)]
    assert counts == [1, 0]
    (refusal,) = all_refusals(reader, load_manifest(world.store, CORPUS_OF_WORLD))
    assert (refusal.reason, refusal.url, refusal.raw) == ("forgotten", "", False)
    with pytest.raises(NotFound, match="was taken out"):
        raw_member(reader, manifest, told.part, told.key, "jpg")


def test_of_rows_with_numbers_as_keys_the_content_is_remembered(tmp_path: Path) -> None:
    """Another row may have the number by the next export."""
    store, now = MemoryStore(), datetime(2026, 3, 2, tzinfo=UTC)

    def run(texts: list[str]) -> Manifest:
        pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet")
        source = {"name": "hugging_face", "dataset": "rows.parquet", "split": "train"}
        context = Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch", now=lambda: now)
        return ingest(parse({"corpus": "rows", "source": source}, root=tmp_path), store, context).manifest

    first = run([f"text of row {number}" for number in range(8)])
    (key,) = [one.key for one in stoker.Version(store, first) if one.fields["txt"] == b"text of row 3"]
    told = forget(store, "rows", [("key", key)], now=lambda: now)
    assert told.samples == {1: 1}
    assert key not in stoker.Version(store, first)
    then = run([f"text of row {number}" for number in (0, 1, 2, 8, 3, 4, 5, 6, 7)])
    texts = sorted(one.fields["txt"].decode()[-1] for one in stoker.Version(store, then))
    assert texts == ["0", "1", "2", "4", "5", "6", "7", "8"]


@pytest.mark.parametrize("purged", [False, True])
def test_a_row_without_a_key_does_not_come_back_under_another_recipe(tmp_path: Path, purged: bool) -> None:
    """The steps make another text of it."""
    store, scratch = MemoryStore(), tmp_path / "scratch"
    pq.write_table(pa.table({"text": [f"the  row  {number}" for number in range(8)]}), tmp_path / "rows.parquet")
    source = {"name": "hugging_face", "dataset": "rows.parquet", "split": "train"}

    def run(steps: list[dict[str, str]], again: Again) -> Manifest:
        recipe = parse({"corpus": "rows", "source": source, "steps": steps}, root=tmp_path)
        return ingest(recipe, store, Context(root=tmp_path, web=Web(), scratch=scratch), again=again).manifest

    first = run([{"name": "text_normalise"}], Again())
    (key,) = [one.key for one in stoker.Version(store, first) if one.fields["txt"] == b"the row 3"]
    forget(store, "rows", [("key", key)])
    if purged:
        purge(store, "rows", scratch=scratch)
    then = run([], Again(older_recipe=not purged))
    texts = sorted(one.fields["txt"].decode()[-1] for one in stoker.Version(store, then))
    assert texts == ["0", "1", "2", "4", "5", "6", "7"]


def test_a_crawl_asks_neither_for_pages_nor_for_images_that_were_taken_out(world: World) -> None:
    pages = world.site.pages
    for page, images in (("a", (0, 1)), ("b", (2, 3))):
        text = "".join(f'<img src="/{number}.jpg">' for number in images)
        pages[f"/{page}.html"] = Reply(f"<html>{text}</html>".encode(), headers={"Content-Type": "text/html"})
    links = b'<html><a href="/a.html">a</a><a href="/b.html">b</a></html>'
    pages["/index.html"] = Reply(links, headers={"Content-Type": "text/html"})

    def crawled() -> tuple[list[str], Manifest]:
        source = {"name": "image_urls", "start": world.site.url("/index.html")}
        first = len(world.site.pages_asked)
        context = Context(root=world.folder, web=FAST, scratch=world.folder / "scratch", now=lambda: world.now)
        limits = {"rejected_percent": 100}
        recipe = parse({"corpus": "crawled", "source": source, "limits": limits}, root=world.folder)
        manifest = ingest(recipe, world.store, context).manifest
        return sorted(world.site.pages_asked[first:]), manifest

    add_tombstones(
        world.store,
        "crawled",
        [("page", world.site.url("/b.html")), ("url", world.site.url("/1.jpg"))],
        at=world.now,
    )
    asked, manifest = crawled()
    assert asked == ["/0.jpg", "/a.html", "/index.html"]
    assert (manifest.samples, manifest.rejected) == (1, {})  # nothing of them is written down
    assert verify(world.store, manifest).problems == ()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("place", range(1, 40, 3))
def test_a_killed_forgetting_goes_on_with_the_same_call_and_an_ingest_obeys_what_it_wrote(
    place: int, after: bool
) -> None:
    store = FailingCalls(after=after)
    make_version(store)
    store.left = place
    with suppress(StorageUnavailable):
        forget(store, CORPUS, [("key", "s-000")])
    store.left = 10**9
    told = forget(store, CORPUS, [("key", "s-000"), ("key", "s-001")])
    newest = load_manifest(store, CORPUS)
    assert told.samples[1] == 2
    assert (newest.samples, newest.rejected["forgotten"]) == (9, 2)
    assert not {"s-000", "s-001"} & {one.key for one in stoker.Version(store, newest)}
    assert verify(store, newest).problems == ()
    assert not list(store.list(layout.leases(CORPUS)))


def test_what_was_taken_out_is_written_down_by_no_ingest_after_it(world: World) -> None:
    """Its URL and caption still stand in the list."""
    world.options |= {"lists": "list.csv", "caption_column": "text"}
    number_of_it, caption = 31415926535, "xyzzy plugh"
    world.serve(number_of_it)
    lines = ["url,text", *(f"{world.url(number)},caption {number}" for number in range(8))]
    lines[4] = f"{world.url(number_of_it)},{caption}"
    (world.folder / "list.csv").write_text("\n".join(lines))
    world.run()
    take_out(world, [("url", world.url(number_of_it))])
    before = {stored.key for stored in world.store.list("")}
    for number in (8, 9):
        lines.append(f"{world.url(number)},caption {number}")
        (world.folder / "list.csv").write_text("\n".join(lines))
        assert world.run(again=Again(all=True))[1] == [number]
    written = [stored.key for stored in world.store.list("") if stored.key not in before]
    assert any(key.endswith(".tar") for key in written)
    for key in written:
        payload = world.store.read(key)
        text = payload.decode("latin-1")
        if key.endswith(".parquet"):
            text += str(pq.read_table(pa.BufferReader(payload)).to_pylist())
        assert caption not in text, key
        assert str(number_of_it) not in text, key


def test_a_reason_is_kept_unless_it_names_what_goes(world: World) -> None:
    with pytest.raises(StorageRefused, match="it is kept for ever"):
        forget(world.store, CORPUS_OF_WORLD, [("author", "A. Nonymous")], reason="a. nonymous asked")
    forget(world.store, CORPUS_OF_WORLD, [("url", world.url(3))], reason="request 17", now=lambda: world.now)
    day, reason = taken_out_for(world.store, CORPUS_OF_WORLD, {"url": world.url(3)})
    assert (day, reason) == ("2026-03-03", "request 17")


@pytest.mark.parametrize("place", ["/masks/", "/tombstones/00000001.json"])
def test_a_disk_that_is_full_before_the_view_is_told_as_it_is(place: str) -> None:
    class Full(MemoryStore):
        def create(self, key: str, payload: Payload) -> None:
            self._check(key)
            super().create(key, payload)

        def write(self, key: str, payload: Payload) -> None:
            self._check(key)
            super().write(key, payload)

        def _check(self, key: str) -> None:
            if place in key:
                raise StorageRefused(f"{self.url}/{key}: the disk is full; free some space and run again")

    store, sound = Full(), MemoryStore()
    make_version(sound)
    for stored in sound.list(""):
        store.write(stored.key, sound.read(stored.key))
    with pytest.raises(StorageRefused, match=r"disk is full.*is remembered.*the same command goes on"):
        forget(store, CORPUS, [("key", "s-003")])
    assert "s-003" not in stoker.version(store, CORPUS)
