"""The page, asked over HTTP: what it shows, what it refuses, and what it never lets through."""

import html
import io
import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from PIL import Image

from stoker.flows.page.web import make_app
from stoker.flows.report.samples import SampleReader
from stoker.flows.schedules.api import Reader
from stoker.flows.schedules.overview import FailedRun, Outcome, Overview, ScheduleRow, Watch
from stoker.flows.schedules.overview import read as read_overview
from stoker.flows.settings import Settings
from stoker.storage.errors import StorageUnavailable
from stoker.storage.statistics.summary import summarise
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions.deleted import delete_version
from stoker.storage.versions.manifest import load_manifest, publish
from tests.flows.conftest import until
from tests.flows.inspected_corpus import SCRIPT, make_all
from tests.flows.page.serving import TOKEN, serve, visit
from tests.pipelines.stages.remembering.world import World
from tests.site import Site

PAGES = [
    "/",
    "/c/shapes",
    "/c/shapes@1",
    "/c/shapes@2?split=validation&label=3&page=2",
    "/c/pages",
    "/c/shapes/rejects",
    "/c/shapes/rejects?reason=exact_duplicate",
    "/c/shapes/why",
    "/c/shapes/why?q=shape-5",
    "/c/shapes/why?q=https://example.org/shapes/9.png",
    "/c/shapes/why?q=%3Cscript%3E",
    "/c/shapes/diff/1/2",
    "/c/shapes/diff/2/1",
    "/c/shapes/sample/shape-3",
    "/c/shapes/sample/shape-4",
    "/c/pages/sample/page-5",
    "/c/pages/sample/page-6",
    "/c/shapes/runs",
    "/c/shapes/runs/cnn-0001",
    "/c/shapes/runs/cnn-0002",
    "/c/pages/runs",
    "/c/nothing",
    "/nowhere",
]


class Counting(MemoryStore):
    """Counts the bytes read from tars."""

    tar_reads = 0
    tar_bytes = 0

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        payload = super().read(key, start=start, size=size)
        if key.endswith(".tar"):
            Counting.tar_reads += 1
            Counting.tar_bytes += len(payload)
            assert size is not None, "a whole shard was read"
        return payload


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    made = MemoryStore()
    make_all(made, tmp_path_factory.mktemp("made"))
    found = Counting()
    for one in made.list():
        found.write(one.key, made.read(one.key))
    return found


@pytest.fixture(scope="module")
def site(store: MemoryStore) -> Iterator[httpx.Client]:
    with serve(make_app(store, token=TOKEN)) as address, visit(address) as client:
        yield client


class Tags(HTMLParser):
    """Every tag with its attributes, and whether they are closed in order."""

    EMPTY = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", PAGES)
def test_no_page_runs_or_loads_anything_foreign(site: httpx.Client, path: str) -> None:
    response = site.get(path)
    assert response.headers["content-type"].startswith("text/html")
    for tag, attributes in Tags(response.text).found:
        assert tag not in ("script", "iframe", "object", "embed", "style", "base")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action"):
            address = attributes.get(name)
            if address is not None and not address.startswith(("/", "#")):
                assert tag == "a"
                assert address.startswith(("https://", "http://"))
                assert "noopener" in (attributes["rel"] or "")
                assert "noreferrer" in (attributes["rel"] or "")


@pytest.mark.parametrize("path", [*PAGES, "/healthz", "/api/corpora", "/c/shapes/thumb/shape-0", "/static/style.css"])
def test_every_answer_has_the_headers_that_forbid_the_rest(site: httpx.Client, path: str) -> None:
    headers = site.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


def test_every_link_within_the_pages_leads_somewhere(site: httpx.Client) -> None:
    inside: dict[str, str] = {}
    for path in PAGES:
        for _, one in Tags(site.get(path).text).found:
            address = (one.get("href") or one.get("src") or "").partition("#")[0]
            if address.startswith("/") and "/thumb/" not in address:
                inside.setdefault(address, path)
    broken = {address: path for address, path in inside.items() if site.get(address).status_code != 200}
    assert broken == {}


def test_every_picture_of_a_page_is_one(site: httpx.Client) -> None:
    for path in (
        "/c/shapes",
        "/c/shapes/rejects?page=1",
        "/c/shapes/why?q=shape-5",
        "/c/shapes/diff/1/2",
        "/c/shapes/runs/cnn-0001",
    ):
        pictures = [one["src"] or "" for tag, one in Tags(site.get(path).text).found if tag == "img"]
        assert pictures
        for address in pictures:
            assert site.get(address).headers["content-type"].startswith("image/"), address


def test_foreign_text_is_shown_as_text(site: httpx.Client) -> None:
    text = site.get("/c/shapes/sample/shape-3").text
    assert SCRIPT not in text
    assert "&lt;script&gt;document.title=" in text
    assert "javascript:alert(1)" in text
    assert 'href="javascript' not in text
    assert "\u202e" not in site.get("/c/shapes/sample/shape-4").text


def test_the_first_page_names_what_was_made_from_what(site: httpx.Client) -> None:
    text = " ".join(site.get("/").text.split())
    assert "64 images made from 80 candidates by <b>image_urls</b>; 16 rejected." in text
    assert "secret" not in text


def test_a_corpus_page_shows_its_road_reasons_and_next_steps(site: httpx.Client) -> None:
    text = site.get("/c/shapes").text
    for words in ("What became of 80 candidates", "robots.txt forbids it", "stoker train cnn shapes@2", "ShardStream"):
        assert words in text
    assert "secret" not in text


def test_samples_can_be_filtered_and_paged(site: httpx.Client, store: MemoryStore) -> None:
    seen = []
    for number in (1, 2, 3):
        found = site.get("/api/c/shapes/samples", params={"page": number, "size": 24}).json()
        assert (found["total"], found["pages"]) == (64, 3)
        seen += [one["key"] for one in found["samples"]]
    assert len(seen) == len(set(seen)) == 64
    chosen = site.get("/api/c/shapes/samples", params={"split": "train", "label": "2"}).json()
    assert chosen["total"] == 9
    assert {(one["split"], one["record"]["label"]) for one in chosen["samples"]} == {("train", "2")}
    assert site.get("/api/c/shapes/samples", params={"label": "none such"}).json()["total"] == 0
    assert site.get("/api/c/shapes/samples", params={"language": "en"}).json()["total"] == 0


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/api/c/shapes/samples?label=2&lable=2", "split, label, language, licence, source, author, page, size"),
        ("/c/shapes?width=3", "split, label, language, licence, source, author, page"),
        ("/c/shapes/rejects?by=step", "reason, page"),
        ("/api/corpora?x%0ay=", "none"),
    ],
)
def test_a_filter_that_is_not_known_is_refused_in_one_line_that_names_the_known_ones(
    site: httpx.Client, path: str, known: str
) -> None:
    response = site.get(path)
    assert response.status_code == 422
    assert "no parameter or filter " in response.text
    assert f"it takes {known}" in response.text
    assert site.head(path).status_code == 422


def test_refusals_can_be_filtered_and_paged_and_are_all_there(site: httpx.Client) -> None:
    seen = []
    for number in (1, 2, 3, 4):
        found = site.get("/api/c/shapes/rejects", params={"page": number, "size": 5}).json()
        assert (found["total"], found["pages"]) == (16, 4)
        seen += [(one["reason"], one["key"]) for one in found["rejects"]]
    assert len(set(seen)) == 16
    only = site.get("/api/c/shapes/rejects", params={"reason": "exact_duplicate"}).json()["rejects"]
    assert {(one["reason"], one["by"], one["similarity"]) for one in only} == {
        ("exact_duplicate", "exact_duplicates", 1.0)
    }
    assert len(only) == 8


def test_a_thumbnail_is_made_here_and_reads_only_its_own_bytes(store: MemoryStore) -> None:
    # A server of its own: which thumbnails the other tests have had made is not ours to know.
    with serve(make_app(store, token=TOKEN)) as address, visit(address) as site:
        before = Counting.tar_bytes
        response = site.get("/c/shapes@2/thumb/shape-7")
        assert response.headers["content-type"] in ("image/png", "image/webp")
        assert Image.open(io.BytesIO(response.content)).size == (40, 40)
        assert 0 < Counting.tar_bytes - before < 2000
        read = Counting.tar_reads
        assert site.get("/c/shapes@2/thumb/shape-7").content == response.content
        assert Counting.tar_reads == read


def test_a_sample_that_a_rule_left_out_can_be_seen_beside_the_one_in_its_place(site: httpx.Client) -> None:
    one = site.get("/api/c/shapes/rejects", params={"reason": "exact_duplicate"}).json()["rejects"][0]
    left_out = site.get(f"/c/shapes/raw/{one['part']}/{one['key']}")
    assert left_out.content == site.get(f"/c/shapes/thumb/{one['witness']}").content


def test_a_picture_of_a_raw_part_is_compared_with_its_checksum(store: MemoryStore, site: httpx.Client) -> None:
    one = site.get("/api/c/shapes/rejects", params={"reason": "exact_duplicate"}).json()["rejects"][0]
    (part,) = (part for part in load_manifest(store, "shapes").parts if part.digest == one["part"])
    damaged = damaged_copy(store, "shapes", b"", b"")
    whole = damaged.read(part.tar)
    damaged.write(part.tar, whole.replace(b"\x00\x00\x00\x00IEND", b"\x00\x00\x00\x00IENd"))  # they decode
    assert damaged.read(part.tar) != whole
    with serve(make_app(damaged, token=TOKEN)) as address, visit(address) as client:
        response = client.get(f"/c/shapes/raw/{one['part']}/{one['key']}")
    assert response.status_code == 500
    assert "not those that its index has the checksum of" in html.unescape(response.text)


def damaged_copy(store: MemoryStore, reference: str, old: bytes, new: bytes) -> MemoryStore:
    manifest = load_manifest(store, reference)
    damaged = MemoryStore()
    for one in store.list():
        payload = store.read(one.key, size=one.size)
        damaged.write(one.key, payload.replace(old, new) if one.key in {s.key for s in manifest.shards} else payload)
    return damaged


def test_a_broken_picture_is_refused_and_never_sent_as_it_is(store: MemoryStore) -> None:
    # The second one decodes: only its checksum tells.
    for old, new in ((b"\x89PNG", b"<svg"), (b"\x00\x00\x00\x00IEND", b"\x00\x00\x00\x00IENd")):
        damaged = damaged_copy(store, "shapes@2", old, new)
        with serve(make_app(damaged, token=TOKEN)) as address, visit(address) as client:
            response = client.get("/c/shapes@2/thumb/shape-7")
            page = client.get("/c/shapes@2/sample/shape-7")
        assert (page.status_code, "sample 'shape-7': CRC-32C" in html.unescape(page.text)) == (500, True)
        assert response.status_code == 500
        assert "not those that its index has the checksum of" in html.unescape(response.text)
        assert b"<svg " not in response.content.split(b"</svg>", 1)[-1]


def test_a_text_that_is_damaged_is_named_and_hides_no_other(store: MemoryStore) -> None:
    manifest = load_manifest(store, "pages")
    entry = SampleReader(store).page(manifest, size=1).entries[0]
    member = entry.member("txt")
    assert member is not None
    shard = manifest.shards[entry.shard].key
    damaged = damaged_copy(store, "pages", b"", b"")
    payload = bytearray(damaged.read(shard))
    payload[member.offset] ^= 1
    damaged.write(shard, bytes(payload))
    with serve(make_app(damaged, token=TOKEN)) as address, visit(address) as client:
        grid = client.get("/c/pages")
        assert grid.status_code == 200
        assert "damaged: " in grid.text
        assert client.get(f"/c/pages/sample/{entry.key}").status_code == 500


def test_a_sample_page_names_every_version_that_holds_it(site: httpx.Client) -> None:
    assert [one["holds"] for one in site.get("/api/c/shapes/sample/shape-0").json()["versions"]] == [True, True]
    assert [one["holds"] for one in site.get("/api/c/shapes/sample/shape-70").json()["versions"]] == [False, True]


def test_a_long_text_is_cut_and_says_so(site: httpx.Client) -> None:
    text = site.get("/c/pages/sample/page-6").text
    assert "The first 65.5 kB of 200 kB" in text
    assert len(text) < 100_000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/c/nothing", 404),
        ("/api/c/shapes@9", 404),
        ("/api/c/shapes@x", 404),
        ("/api/c/%2e%2e%2f%2e%2e", 404),
        ("/api/c/shapes/sample/..%2f..%2fetc%2fpasswd", 404),
        ("/api/c/shapes/sample/%00", 404),
        ("/api/c/shapes/sample/no-such-key", 404),
        ("/api/c/shapes/samples?size=100000", 422),
        ("/api/c/shapes/samples?page=0", 422),
        ("/api/c/shapes/samples?page=x", 422),
        ("/api/c/shapes/diff/1/x", 422),
        ("/api/c/shapes/diff/1/7", 404),
        ("/api/c/shapes/why", 422),
        ("/api/c/shapes/why?q=" + "x" * 3000, 422),
        ("/api/nowhere", 404),
    ],
)
def test_every_error_of_the_api_has_one_form(site: httpx.Client, path: str, status: int) -> None:
    response = site.get(path)
    assert response.status_code == status
    body = response.json()
    assert sorted(body) == ["error", "ok", "status"]
    assert (body["ok"], body["status"]) == (False, status)
    assert body["error"]
    assert "Traceback" not in body["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fweb.py",
        "/static/%2e%2e/web.py",
        "/static/style.css%00",
        "/c/shapes/thumb/..%2f..%2fversions%2f00000001.json",
        "/c/shapes/raw/..%2f..%2fversions/x",
        "/c/shapes/thumb/page-1",
        "/c/pages/thumb/page-1",
    ],
)
def test_a_path_that_climbs_or_points_nowhere_finds_nothing(site: httpx.Client, path: str) -> None:
    assert site.get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "[::2]", "localhost:x"])
def test_only_loopback_names_are_answered(site: httpx.Client, host: str) -> None:
    response = site.get("/api/corpora", headers={"host": host})
    assert response.status_code in (400, 421)
    assert "shapes" not in response.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:9"])
def test_loopback_names_are_answered_with_any_port(site: httpx.Client, host: str) -> None:
    assert site.get("/api/corpora", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_answered(site: httpx.Client, method: str) -> None:
    response = site.request(method, "/c/shapes")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


def test_head_answers_like_get_without_a_body(site: httpx.Client) -> None:
    response = site.head("/c/shapes")
    assert response.status_code == 200
    assert response.content == b""


def test_the_api_says_what_the_report_says(site: httpx.Client) -> None:
    found = site.get("/api/c/shapes@2").json()
    assert (found["ok"], found["samples"], found["schema"]) == (True, 64, 1)
    corpora = site.get("/api/corpora").json()["corpora"]
    assert [(one["corpus"], one["newest"]["version"]) for one in corpora] == [("pages", 1), ("shapes", 2)]
    assert site.get("/api/c/shapes/versions").json()["versions"] == [1, 2]
    assert site.get("/api/c/shapes/diff/1/2").json()["added"] == 16
    story = site.get("/api/c/shapes/why", params={"q": "shape-5"}).json()["stories"][0]
    assert (story["state"], story["reason"], story["witness"]) == ("dropped", "exact_duplicate", "shape-4")
    assert site.get("/api/openapi.json").status_code == 200


def test_a_deleted_version_is_404_and_its_neighbours_are_named(store: MemoryStore) -> None:
    changed = copied(store)
    delete_version(changed, "shapes", 1, at="2026-11-27T03:04:05+00:00")
    with serve(make_app(changed, token=TOKEN)) as address, visit(address) as site:
        found = site.get("/api/c/shapes@1")
        assert found.status_code == 404
        assert "shapes@1 was deleted on 2026-11-27; its neighbours: shapes@2" in found.json()["error"]
        assert site.get("/c/shapes@1").status_code == 404
        about = site.get("/api/c/shapes/versions").json()
        assert (about["versions"], about["deleted"]) == ([2], [1])
        assert site.get("/c/shapes").status_code == 200


def test_a_store_that_is_down_is_503_with_what_to_do_and_health_is_told_apart() -> None:
    def down() -> Store:
        raise StorageUnavailable("s3://corpora: no answer; run `stoker up`")

    with serve(make_app(down, token=TOKEN)) as address, visit(address) as client:
        page, api = client.get("/"), client.get("/api/corpora")
        assert (page.status_code, api.status_code) == (503, 503)
        assert "stoker up" in page.text
        assert api.json() == {"ok": False, "error": "s3://corpora: no answer; run `stoker up`", "status": 503}
        assert page.headers["retry-after"]
        assert client.get("/healthz").status_code == 200


def test_a_bug_is_500_without_a_traceback_on_the_page() -> None:
    def broken() -> Store:
        raise ZeroDivisionError("the secret of the house")

    with serve(make_app(broken, token=TOKEN)) as address, visit(address) as client:
        response = client.get("/api/corpora")
    assert response.status_code == 500
    assert json.loads(response.text)["status"] == 500
    assert "house" not in response.text
    assert "content-security-policy" in response.headers


def test_an_empty_store_says_what_to_do_first() -> None:
    with serve(make_app(MemoryStore(), token=TOKEN)) as address, visit(address) as client:
        assert "stoker ingest" in client.get("/").text


def test_the_newest_version_tells_what_the_corpus_remembers(tmp_path: Path) -> None:
    with Site() as pictures:
        world = World(tmp_path, pictures)
        world.serve(*range(6))
        world.names(*range(7))
        world.run()
        with serve(make_app(world.store, token=TOKEN)) as address, visit(address) as client:
            words = "Remembered: 6 kept; rejected by the moment 1; due again: 1."
            assert words in client.get("/c/birds").text
            assert client.get("/api/c/birds").json()["memory"]["classes"] == {"kept": 6, "moment": 1}
            world.serve(6, 7)
            world.names(*range(8))
            world.run()
            assert "Remembered: 8 kept; due again: 0." in client.get("/c/birds").text
            assert "Remembered" not in client.get("/c/birds@1").text
            assert "memory" not in client.get("/api/c/birds@1").json()
            for stored in list(world.store.list("birds/outcomes/")):
                world.store.delete(stored.key)
        with serve(make_app(world.store, token=TOKEN)) as address, visit(address) as client:
            text = client.get("/c/birds").text
            assert "What is remembered cannot be read: memory:birds/outcomes/" in text


def test_a_damaged_manifest_hides_no_other_corpus(store: MemoryStore) -> None:
    damaged = copied(store)
    damaged.write("pages/versions/00000001.json", b"{")
    with serve(make_app(damaged, token=TOKEN)) as address, visit(address) as client:
        text = client.get("/").text
        assert client.get("/c/pages").status_code == 500
    assert "not JSON" in text
    assert "64 images" in text


@pytest.mark.parametrize("payload", [b"{", b'{"schema": 99}'])
def test_a_damaged_manifest_of_an_older_version_hides_no_newer_one(store: MemoryStore, payload: bytes) -> None:
    damaged = copied(store)
    damaged.write("shapes/versions/00000001.json", payload)
    with serve(make_app(damaged, token=TOKEN)) as address, visit(address) as client:
        text = client.get("/").text
        corpora = {one["corpus"]: one for one in client.get("/api/corpora").json()["corpora"]}
        assert client.get("/c/shapes").status_code == client.get("/c/shapes@2").status_code == 200
        assert client.get("/c/shapes/sample/shape-0").status_code == 200
        versions = client.get("/api/c/shapes/sample/shape-0").json()["versions"]
    assert '<a href="/c/shapes@2">See the version</a>' in text
    assert "version 1: memory:/shapes/versions/00000001.json" in text
    assert corpora["shapes"]["newest"]["version"] == 2
    assert corpora["shapes"]["error"] is None
    assert ["00000001.json" in error for error in corpora["shapes"]["errors"]] == [True]
    assert (corpora["pages"]["error"], corpora["pages"]["errors"]) == (None, [])
    assert [(one["version"], one["holds"]) for one in versions] == [(1, None), (2, True)]


def copied(store: Store) -> MemoryStore:
    copy = MemoryStore()
    for one in store.list():
        copy.write(one.key, store.read(one.key, size=one.size))
    return copy


def test_values_near_the_ends_of_a_float_are_shown(store: MemoryStore) -> None:
    copy = copied(store)
    manifest = load_manifest(copy, "shapes@2")
    values = {"score": [sys.float_info.max, -sys.float_info.max], "size": [5e-324, sys.float_info.max]}
    extreme = {"train": summarise(pa.table(values)).to_json()}
    publish(copy, replace(manifest, version=3, parent=2, statistics=extreme))
    with serve(make_app(copy, token=TOKEN)) as address, visit(address) as client:
        for path in (
            "/",
            "/api/corpora",
            "/c/shapes@3",
            "/api/c/shapes@3",
            "/c/shapes/diff/2/3",
            "/api/c/shapes/diff/2/3",
        ):
            response = client.get(path)
            assert response.status_code == 200, path
        assert "shapes" in client.get("/").text


def test_a_report_that_meets_a_bug_hides_no_other_corpus(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryStore):
        def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
            if key.startswith("pages/versions/"):
                raise ZeroDivisionError("the secret of the house")
            return super().read(key, start=start, size=size)

    broken = Broken()
    for one in store.list():
        broken.write(one.key, store.read(one.key, size=one.size))
    with serve(make_app(broken, token=TOKEN)) as address, visit(address) as client:
        page, api = client.get("/"), client.get("/api/corpora")
    assert (page.status_code, api.status_code) == (200, 200)
    assert "64 images" in page.text
    assert "ZeroDivisionError" in page.text
    assert "house" not in page.text + api.text
    shown = {corpus["corpus"]: corpus for corpus in api.json()["corpora"]}
    assert shown["shapes"]["newest"]["samples"] == 64
    assert "log of `stoker up`" in shown["pages"]["error"]
    assert "the secret of the house" in caplog.text


ROW = ScheduleRow(
    name="shapes",
    flow="ingest",
    when="0 3 * * * (Europe/Berlin)",
    timezone="Europe/Berlin",
    recipe="/recipes/shapes.toml",
    paused=False,
    next_run="2026-11-27T03:00:00+01:00",
    running=False,
    last=Outcome("Failed", "2026-11-26T03:00:09+01:00", f"a host said {SCRIPT}"),
    then=Outcome("Cancelled", "2026-11-26T09:00:00+01:00", "limit"),
    problem="its recipe is gone",
    warning="shapes@2 was made by another recipe",
)
FAILED = FailedRun("shapes 2026-11-26 03:00", "ingest", Outcome("Failed", "2026-11-26T02:00:09+00:00", SCRIPT))


def test_the_first_page_shows_schedules_and_failed_runs(store: Store) -> None:
    known = Overview((ROW,), (FAILED,))
    with serve(make_app(store, token=TOKEN, schedules=lambda: known)) as address, visit(address) as client:
        page = client.get("/").text
        Tags(page)
        for text in ("0 3 * * * (Europe/Berlin)", "2026-11-27 03:00", "cannot run: its recipe is gone", "limit"):
            assert text in page
        assert SCRIPT not in page
        answer = client.get("/api/schedules").json()
        assert (answer["ok"], answer["error"]) == (True, None)
        assert answer["schedules"][0]["last"]["state"] == "Failed"
        assert answer["failed"][0]["name"] == "shapes 2026-11-26 03:00"


def test_a_silent_prefect_neither_breaks_nor_slows_the_page(store: Store, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and answers none
        reader = Reader(f"http://127.0.0.1:{silent.getsockname()[1]}/api", timeout_s=1.5)
        watch = Watch(lambda: read_overview(Settings(home=tmp_path), reader))
        with serve(make_app(store, token=TOKEN, schedules=watch)) as address, visit(address) as client:
            client.get("/c/shapes")  # the first request reads the store
            for _ in range(3):
                began = time.monotonic()
                assert client.get("/").status_code == 200
                assert time.monotonic() - began < 5  # it waits for one second at most
            text = "Not up to date: "
            assert until(lambda: "the Prefect server does not answer" in client.get("/").text, 30)
            assert text in client.get("/").text
            assert "/c/shapes" in client.get("/").text


def test_a_page_without_a_prefect_says_nothing_of_schedules(site: httpx.Client) -> None:
    assert "Schedules" not in site.get("/").text
    assert site.get("/api/schedules").status_code == 404
