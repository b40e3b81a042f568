"""Videos and dumps at URLs: asked whether they have changed by one request each, and read anew only if they have."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stoker.pipelines.memory.known import NOTHING_AGAIN, Again
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.unchanged import find_unchanged
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.films import film
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import FAST, Reply, Request, Site

REFRESH = Again(kept=True)


class Files:
    """Files of a site, and a corpus of them, ingested day after day."""

    def __init__(self, folder: Path, site: Site, source: Mapping[str, object], memory: Mapping[str, object]) -> None:
        self.folder, self.site, self.store = folder, site, MemoryStore()
        self.document: dict[str, object] = {"corpus": "files", "source": dict(source), "memory": dict(memory)}
        self.now = datetime(2026, 3, 2, tzinfo=UTC)

    def serve(self, path: str, body: bytes, *, etag: str = "", status: int = 200) -> None:
        def answer(request: Request) -> Reply:
            if status == 200 and etag and request.headers.get("if-none-match") == etag:
                return Reply(b"", 304, {"ETag": etag})
            return Reply(body, status, {"ETag": etag} if etag else {})

        self.site.pages[path] = answer

    def context(self) -> Context:
        web = replace(FAST, robots=False)
        return Context(root=self.folder, web=web, scratch=self.folder / "scratch", now=lambda: self.now)

    def run(self, again: Again = NOTHING_AGAIN) -> tuple[Published, list[str]]:
        """Ingest, a day later; what was published, and the paths that were asked for."""
        self.now += timedelta(days=1)
        self.site.log.clear()
        published = ingest(parse(self.document, root=self.folder), self.store, self.context(), again=again)
        assert verify(self.store, published.manifest).problems == ()
        return published, sorted(request.path for request in self.site.log)

    def held(self, published: Published, column: str) -> dict[str, object]:
        rows = Version(self.store, published.manifest).records(["key", column]).read_all().to_pylist()
        return {row["key"]: row[column] for row in rows}


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def pages_of(numbers: range, revision: int = 1) -> bytes:
    return dump(*(page(number, f"Text {number} in {revision}", revision=revision) for number in numbers))


@pytest.mark.parametrize("etags", [("", ""), ('"a"', '"b"')])
def test_a_dump_that_is_as_it_was_costs_a_request_and_a_changed_one_is_read(
    tmp_path: Path, site: Site, etags: tuple[str, str]
) -> None:
    source = {"name": "wikipedia_dump", "dump": site.url("/x.xml")}
    files = Files(tmp_path, site, source, {"vanished": "drop"})
    files.serve("/x.xml", pages_of(range(1, 9)), etag=etags[0])
    assert files.run()[0].manifest.samples == 8
    assert files.run()[1] == []
    for _ in range(2):
        again, asked = files.run(REFRESH)
        assert (again.new, asked) == (False, ["/x.xml"])
    files.serve("/x.xml", pages_of(range(3, 11), 22), etag=etags[1])
    second, asked = files.run(REFRESH)
    assert (second.new, asked) == (True, ["/x.xml", "/x.xml"])
    assert set(files.held(second, "revision_id").values()) == {22}
    assert (second.manifest.samples, dict(second.manifest.rejected)) == (8, {"vanished": 2})
    assert files.run()[1] == []
    third, asked = files.run(REFRESH)
    assert (third.new, asked) == (False, ["/x.xml"])
    found = find_unchanged(parse(files.document, root=tmp_path), files.store, files.context())
    assert found is not None
    assert found.reference == second.manifest.reference
    files.serve("/x.xml", b"", status=404)
    gone, asked = files.run(REFRESH)
    assert (gone.new, gone.manifest.samples) == (False, 8)
    files.serve("/x.xml", pages_of(range(1, 9), 33), etag='"c"')
    last, _ = files.run(REFRESH)
    assert set(files.held(last, "revision_id").values()) == {33}


@pytest.mark.parametrize("left", [3, 9, 14, 20, 26])
def test_a_crash_while_a_changed_dump_is_read_mixes_nothing(tmp_path: Path, site: Site, left: int) -> None:
    files = Files(tmp_path, site, {"name": "wikipedia_dump", "dump": site.url("/x.xml")}, {})
    files.store = store = FailingCalls(after=left % 2 == 1)
    store.left = 10**9
    files.serve("/x.xml", pages_of(range(1, 9)), etag='"a"')
    files.run()
    files.serve("/x.xml", pages_of(range(1, 9), 22), etag='"b"')
    store.left = left
    with suppress(StorageUnavailable):
        files.run(REFRESH)
    store.left = 10**9
    assert set(files.held(files.run()[0], "revision_id").values()) in ({1}, {22})
    last, _ = files.run(REFRESH)
    assert (last.manifest.samples, set(files.held(last, "revision_id").values())) == (8, {22})
    assert files.run(REFRESH)[0].new is False


def test_what_was_fetched_a_short_time_ago_is_not_asked_for(tmp_path: Path, site: Site) -> None:
    files = Files(tmp_path, site, {"name": "wikipedia_dump", "dump": site.url("/x.xml")}, {})
    files.serve("/x.xml", pages_of(range(1, 5)), etag='"a"')
    files.run()
    assert files.run(replace(REFRESH, older_than=timedelta(days=3)))[1] == []
    assert files.run(replace(REFRESH, older_than=timedelta(days=2)))[1] == ["/x.xml"]


def test_a_video_that_changed_gives_other_frames_under_the_same_keys(tmp_path: Path, site: Site) -> None:
    for name, size in (("a", (64, 48)), ("b", (80, 48))):
        film(tmp_path / f"{name}.mp4", [0, 500, 1000, 1500], size=size)
    bodies = {name: (tmp_path / f"{name}.mp4").read_bytes() for name in "ab"}
    urls = [site.url("/1.mp4"), site.url("/2.mp4")]
    files = Files(tmp_path, site, {"name": "video_frames", "videos": urls, "frames_per_second": 1.0}, {})
    files.serve("/1.mp4", bodies["a"], etag='"1"')
    files.serve("/2.mp4", bodies["a"], etag='"2"')
    first, _ = files.run()
    again, asked = files.run(REFRESH)
    assert (again.new, asked) == (False, ["/1.mp4", "/2.mp4"])
    files.serve("/2.mp4", bodies["b"], etag='"3"')
    second, asked = files.run(REFRESH)
    assert (second.new, asked) == (True, ["/1.mp4", "/2.mp4", "/2.mp4"])
    widths = files.held(second, "width")
    assert widths.keys() == files.held(first, "width").keys()
    assert sorted(map(str, widths.values())) == ["64"] * (len(widths) // 2) + ["80"] * (len(widths) // 2)
    again, asked = files.run()
    assert (again.new, asked) == (False, [])
    files.document["steps"] = [{"name": "image", "mode": "center_crop", "size": 32}]
    third, asked = files.run()
    assert (asked, files.held(third, "width")) == ([], widths), "the steps changed, and samples stay"
    fourth, asked = files.run(Again(older_recipe=True))
    assert asked == ["/1.mp4", "/2.mp4"]
    assert set(files.held(fourth, "recipe").values()).isdisjoint(files.held(third, "recipe").values())
    assert set(files.held(fourth, "width").values()) == {32}
    last, asked = files.run(REFRESH)
    assert (last.new, asked) == (False, ["/1.mp4", "/2.mp4"])


@pytest.mark.parametrize("left", [10**9, *range(2, 26, 3)])
def test_a_video_that_is_sent_again_under_another_etag_is_what_it_was(tmp_path: Path, site: Site, left: int) -> None:
    for name, size in (("a", (64, 48)), ("b", (80, 48))):
        film(tmp_path / f"{name}.mp4", [0, 500, 1000, 1500], size=size)
    same, other = ((tmp_path / f"{name}.mp4").read_bytes() for name in "ab")
    source = {"name": "video_frames", "videos": site.url("/1.mp4"), "frames_per_second": 1.0}
    files = Files(tmp_path, site, source, {})
    files.store = store = FailingCalls(after=left % 2 == 1)
    store.left = 10**9
    files.serve("/1.mp4", same, etag='"a"')
    first, _ = files.run()
    files.serve("/1.mp4", same, etag='"b"')
    second, asked = files.run(REFRESH)
    assert (second.new, asked) == (False, ["/1.mp4", "/1.mp4"])
    assert files.run(REFRESH)[1] == ["/1.mp4"], "by the validator that came last"
    files.serve("/1.mp4", other, etag='"c"')
    store.left = left
    with suppress(StorageUnavailable):
        files.run(REFRESH)
    was_killed, store.left = store.left <= 0, 10**9
    assert was_killed == (left < 10**9)
    files.serve("/1.mp4", same, etag='"a"')
    third, _ = files.run(REFRESH)
    fourth, _ = files.run(REFRESH)
    assert set(files.held(fourth, "width").values()) == {64}
    if was_killed and third.manifest.version == 1:
        assert (third.new, third.manifest.content) == (False, first.manifest.content)
    assert (fourth.new, files.run(REFRESH)[0].new) == (False, False)
    files.document["steps"] = [{"name": "image", "mode": "center_crop", "size": 32}]
    assert set(files.run()[0].manifest.shards) == set(fourth.manifest.shards)
    assert files.run()[1] == []
    remade, _ = files.run(Again(older_recipe=True))
    assert set(files.held(remade, "width").values()) == {32}
    assert files.run(REFRESH)[0].new is False
