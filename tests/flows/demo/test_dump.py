"""The demo's wiki dump."""

import bz2
import hashlib
import xml.etree.ElementTree as ET

from stoker.flows.demo import dump

BASE = "http://127.0.0.1:8747/wiki/Main_Page"
EXPORT = "{http://www.mediawiki.org/xml/export-0.11/}"


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
