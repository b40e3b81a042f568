"""What the demo serves: the same bytes every time, and everything that a real site has to offer, good and bad."""

import bz2
import hashlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stoker.flows import demo
from stoker.flows.demo import dump, film, server, site, wikitext
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.web.client import Web
from stoker.storage.stores.memory import MemoryStore
from tests.test_repository import REPO

pytest.importorskip("sklearn")
pytest.importorskip("av")
BASE = "http://127.0.0.1:8747/wiki/Main_Page"
EXPORT = "{http://www.mediawiki.org/xml/export-0.11/}"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, site.Response]:
    return server.content(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def served(pages: dict[str, site.Response]) -> Iterator[server.SiteServer]:
    with server.serving(pages) as running:
        yield running


def test_the_site_has_the_same_bytes_every_time(pages: dict[str, site.Response]) -> None:
    again = site.build()
    assert {path: pages[path] for path in again} == again


def test_every_digit_is_on_a_page_with_its_label_licence_and_author(pages: dict[str, site.Response]) -> None:
    from sklearn.datasets import load_digits

    listed = [path for path in pages if path.startswith("/digits/") and path.endswith(".html")]
    text = "".join(pages[path].payload.decode() for path in listed)
    assert len(listed) == 60
    assert [text.count(f"<figcaption>handwritten digit: {label}<") for label in range(10)] == [
        int(count) for count in (load_digits().target[:, None] == range(10)).sum(axis=0)
    ]
    assert all(site.DIGITS_LICENCE in pages[path].payload.decode() for path in listed)
    assert all(site.DIGITS_AUTHOR in pages[path].payload.decode() for path in listed)


def test_no_two_digits_are_the_same_file(pages: dict[str, site.Response]) -> None:
    digits = [one.payload for path, one in pages.items() if path.startswith("/digits/") and path.endswith(".png")]
    assert len(set(digits)) == len(digits) == 1797


def test_all_pages_are_reached_from_the_first(pages: dict[str, site.Response]) -> None:
    first = pages["/"].payload.decode()
    unlinked = [
        path for path in pages if path.endswith((".html", "/")) and path != "/" and f'href="{path}"' not in first
    ]
    assert unlinked == []


def test_what_is_broken_is_broken_as_its_name_says(pages: dict[str, site.Response]) -> None:
    from PIL import Image

    broken = {path.rpartition("/")[2]: one for path, one in pages.items() if path.startswith("/broken/")}
    assert broken["empty.png"].payload == b""
    assert broken["html.png"].payload.startswith(b"<!doctype html")
    assert Image.open(io.BytesIO(broken["dot.png"].payload)).size == (1, 1)
    for name in ("truncated.png", "corrupt.png"):
        with pytest.raises((OSError, SyntaxError)):
            Image.open(io.BytesIO(broken[name].payload)).load()
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(broken["bomb.png"].payload))
    assert "/broken/missing.png" not in pages
    assert "/broken/missing.png" in pages["/broken.html"].payload.decode()


def test_copies_are_digits_under_other_addresses(pages: dict[str, site.Response]) -> None:
    digits = {one.payload for path, one in pages.items() if path.startswith("/digits/")}
    copies = [one.payload for path, one in pages.items() if path.startswith("/copies/")]
    assert len(copies) == 12
    assert set(copies) <= digits


def test_robots_are_kept_out_of_a_folder_that_pages_lead_to(pages: dict[str, site.Response]) -> None:
    assert f"Disallow: {site.FORBIDDEN}" in pages["/robots.txt"].payload.decode()
    assert f'href="{site.FORBIDDEN}index.html"' in pages["/"].payload.decode()
    assert f'src="{site.FORBIDDEN}' in pages["/broken.html"].payload.decode()


def test_one_page_is_busy_once(served: server.SiteServer) -> None:
    with httpx.Client(base_url=served.url) as client:
        first, second = client.get(site.BUSY_ONCE), client.get(site.BUSY_ONCE)
    assert (first.status_code, second.status_code) == (503, 200)
    assert first.headers["retry-after"] == "1"
    assert served.requests[site.BUSY_ONCE] == 2


def test_parts_of_the_film_are_served(served: server.SiteServer, pages: dict[str, site.Response]) -> None:
    whole = pages[server.FILM].payload
    with httpx.Client(base_url=served.url) as client:
        tag = client.head(server.FILM).headers["etag"]
        part = client.get(server.FILM, headers={"Range": "bytes=10-19", "If-Range": tag})
        end = client.get(server.FILM, headers={"Range": "bytes=-5"})
        beyond = client.get(server.FILM, headers={"Range": f"bytes={len(whole)}-"})
        changed = client.get(server.FILM, headers={"Range": "bytes=10-19", "If-Range": '"another"'})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert end.content == whole[-5:]
    assert beyond.status_code == 416
    assert (changed.status_code, changed.content) == (200, whole)


def test_the_film_is_h264_and_the_same_every_time(tmp_path: Path, pages: dict[str, site.Response]) -> None:
    import av

    film.make(tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == pages[server.FILM].payload
    with av.open(str(tmp_path / "film.mp4")) as made:
        stream = made.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", film.WIDTH, film.HEIGHT)
        assert sum(1 for _ in made.decode(stream)) == 25 * sum(seconds for _, seconds, _, _ in film.SCENES)


def test_the_dump_is_the_same_every_time_and_its_index_leads_to_its_pages() -> None:
    listed = list(dump.pages())
    made, index = dump.write(listed, BASE)
    assert (made, index) == dump.write(list(dump.pages()), BASE)
    for line in bz2.decompress(index).decode().splitlines()[:: dump.PAGES_A_STREAM // 2]:
        offset, number, title = line.split(":", 2)
        stream = bz2.BZ2Decompressor().decompress(made[int(offset) :]).decode()
        assert f"<id>{number}</id>" in stream
        assert title.replace("&", "&amp;") in stream


def test_the_dump_holds_what_dumps_hold() -> None:
    listed = list(dump.pages())
    made, _ = dump.write(listed, BASE)
    root = ET.fromstring(bz2.decompress(made))
    found = root.findall(f"{EXPORT}page")
    assert [page.findtext(f"{EXPORT}title") for page in found] == [page.title for page in listed]
    assert {page.findtext(f"{EXPORT}ns") for page in found} == {"0", "1", "10", "14"}
    assert sum(page.find(f"{EXPORT}redirect") is not None for page in found) > 50
    for page, written in zip(found, listed, strict=True):
        revision = page.find(f"{EXPORT}revision")
        assert revision is not None
        text, sha1 = revision.findtext(f"{EXPORT}text"), revision.findtext(f"{EXPORT}sha1")
        assert text == written.text
        assert sha1 is not None
        assert int(sha1, 36) == int(hashlib.sha1(written.text.encode()).hexdigest(), 16)
    articles = "".join(page.text for page in listed if page.namespace == 0 and not page.redirect)
    for mark in (
        "\n== ",
        "\n* ",
        "\n# ",
        "[[",
        "{{Main|",
        "<ref",
        "<references />",
        "{| class",
        "[[Category:",
        "<pre>",
    ):
        assert mark in articles, mark


@pytest.mark.parametrize(
    ("corpus", "kept", "rejected"),
    [
        (
            "digits",
            1797,
            {
                "corrupt": 1,
                "empty": 1,
                "exact_duplicate": 12,
                "forbidden": 1,
                "gone": 1,
                "no_label": 14,
                "not_an_image": 1,
                "opted_out": 1,
                "robots": 2,
                "too_many_pixels": 1,
                "too_small": 1,
                "truncated": 1,
            },
        ),
        ("film", None, {"near_duplicate": None}),
        ("handbook", None, {"namespace": None, "redirect": None, "too_short": None}),
    ],
)
def test_each_recipe_makes_its_corpus_from_the_site_and_says_what_was_refused(
    served: server.SiteServer, tmp_path: Path, corpus: str, kept: int | None, rejected: dict[str, int | None]
) -> None:
    recipe = demo.recipe_at(served.url, REPO / "recipes" / f"{corpus}.toml")
    web = Web(allow_private=True, requests_per_second=0)
    context = Context(root=recipe.root, web=web, scratch=tmp_path)
    store = MemoryStore()
    first = ingest(recipe, store, context)
    again = ingest(recipe, store, context)
    web.close()
    assert (first.new, again.new) == (True, False)
    found = first.manifest
    assert found.samples == kept or (kept is None and found.samples > 40)
    assert found.rejected == {reason: found.rejected[reason] if n is None else n for reason, n in rejected.items()}
    assert found.read == found.kept + sum(found.rejected.values())
    assert [path for path in served.requests if path.startswith(site.FORBIDDEN)] == []
    if corpus == "digits":
        assert served.requests["/digits/01/0000.png"] == 1
        assert served.requests[site.BUSY_ONCE] == 3  # busy, then read, and read again by the second run


def test_plain_text_becomes_wikitext() -> None:
    text = """The "del" statement
*******************

Deletes *names*; see section Other Things and "for". A **bold** word [1].

1. First, a
   second line.

   A paragraph of the item.

2. Then:

      del x

Other Things
============

Moved away.

-[ Footnotes ]-

[1] A note.
"""
    titles = {"for": "The for statement", "other things": "Other Things", "the del statement": "The del statement"}
    assert wikitext.title_of(text) == "The del statement"
    assert wikitext.convert(text, titles) == (
        "Deletes ''names''; see section [[Other Things]] and <code>[[The for statement|for]]</code>. "
        "A '''bold''' word <ref name=\"note1\">A note.</ref>.\n\n"
        "# First, a second line.\n"
        "#: A paragraph of the item.\n"
        "# Then:\n"
        '<syntaxhighlight lang="python">\ndel x\n</syntaxhighlight>\n\n'
        "== Other Things ==\n{{Main|Other Things}}\n\n"
        "== Notes ==\n<references />"
    )
