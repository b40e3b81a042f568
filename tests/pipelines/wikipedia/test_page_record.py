"""Records of wiki pages."""

import time

from stoker.pipelines.wikipedia.export_xml import DumpPage
from stoker.pipelines.wikipedia.page_record import categories, headings, page_record, page_structure
from stoker.pipelines.wikipedia.site import SiteInfo
from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale

SITE = SiteInfo("dewiki", "de", "https://de.wikipedia.org/wiki/", categories=("Kategorie",))


def record(**fields: object) -> dict[str, object]:
    known = {"page_id": 7, "title": "Zinn & Blei", "namespace": 0, "revision_id": 9, "text": "Text"}
    return page_record(DumpPage(**(known | fields)), SITE, licence="", cleaner=3)  # type: ignore[arg-type]  # of a test


def test_a_record_leads_to_the_revision_and_the_one_before_it() -> None:
    made = record(parent_id=8, sha1="abc", timestamp="2026-01-01T00:00:00Z")
    assert made["url"] == "https://de.wikipedia.org/wiki/Zinn_%26_Blei"
    assert made["revision_url"] == "https://de.wikipedia.org/wiki/Zinn_%26_Blei?oldid=9"
    assert (made["parent_id"], made["namespace"], made["revision_sha1"], made["cleaner_version"]) == (8, 0, "abc", 3)
    unknown = page_record(DumpPage(page_id=1, title="x"), SiteInfo("wiki", "", ""), licence="", cleaner=1)
    assert (unknown["revision_url"], unknown["parent_id"]) == ("", None)


def test_the_licence_is_that_of_the_revisions_day() -> None:
    assert record(timestamp="2023-06-06T23:59:59Z")["licence"] == "CC-BY-SA-3.0"
    assert record(timestamp="2023-06-07T00:00:00Z")["licence"] == "CC-BY-SA-4.0"
    assert page_record(DumpPage(page_id=1, title="x"), SITE, licence="CC0-1.0", cleaner=1)["licence"] == "CC0-1.0"


def test_headings_and_categories_are_those_that_a_reader_sees() -> None:
    text = (
        "== Er'''st''' ==\nText <!-- [[Kategorie:Nein]]\n== Nie ==\n-->\n===[[Zinn|Zinns]] Nutzen=== \n= Titel =\n"
        "== ==\n"
        "[[Kategorie:Metalle|Zinn]] [[category: Weiche__Metalle ]] [[:Kategorie:Gase]] [[Datei:x.jpg]]\n"
        "[[Kategorie:Metalle]]\n<!-- offen [[Kategorie:Offen]]"
    )
    assert page_structure(text, SITE.locale()) == {
        "headings": "Erst\nZinns Nutzen",
        "categories": "Metalle\nWeiche Metalle",
    }


def test_hostile_texts_take_no_time() -> None:
    began = time.process_time()
    for text in ("<!--" * 200_000, "[[Category:" * 100_000, "\n==" * 200_000, "\n== x" * 100_000, "[[ " * 200_000):
        page_structure(text, WikiLocale())
    assert time.process_time() - began < 5
    assert len(headings("\n== x ==" * 1000, WikiLocale())) == 200
    assert len(categories("".join(f"[[Category:{n}]]" for n in range(1000)), WikiLocale())) == 200
