"""Dumps of wikis: every page comes out once, however the file is cut, and damage costs what it must and no more."""

import bz2
import gzip
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.errors import RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.memory import file_notes
from stoker.pipelines.source import Candidate
from stoker.pipelines.sources import wikipedia_dump
from stoker.pipelines.sources.wikipedia_dump import WikipediaDump
from stoker.pipelines.web.client import Web
from stoker.pipelines.wikipedia.dump_files import DumpFile, scan_dump
from stoker.pipelines.wikipedia.export_xml import base36_sha1
from stoker.pipelines.wikipedia.page_cutter import PageCutter
from tests.data import SHARED, needs_shared
from tests.fakes import context

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo><sitename>Wikipedia</sitename><dbname>dewiki</dbname>
    <base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
    <namespaces><namespace key="6" case="first-letter">Datei</namespace>
    <namespace key="14" case="first-letter">Kategorie</namespace></namespaces></siteinfo>
"""
TAIL = "</mediawiki>\n"


def page(
    number: int,
    text: str,
    *,
    title: str = "",
    ns: int = 0,
    extra: str = "",
    sha1: str | None = None,
    revision: int | None = None,
) -> str:
    return f"""  <page>
    <title>{escape(title or f"Seite {number}")}</title><ns>{ns}</ns><id>{number}</id>{extra}
    <revision><id>{number + 1000 if revision is None else revision}</id><timestamp>2026-01-01T00:00:00Z</timestamp>
      <contributor><username>Ann</username><id>5</id></contributor><model>wikitext</model>
      <text bytes="{len(text.encode())}" xml:space="preserve">{escape(text)}</text>
      <sha1>{base36_sha1(text) if sha1 is None else sha1}</sha1></revision>
  </page>
"""


def pages(numbers: range) -> list[str]:
    return [
        page(number, f"Text {number} ist [[lang|so lang]] & <b>fett</b>. " * (number % 7 + 1)) for number in numbers
    ]


def dump(*made: str) -> bytes:
    return (HEAD + "".join(made) + TAIL).encode()


def multistream(made: list[str], *, size: int = 3) -> tuple[bytes, str]:
    """Streams as Wikimedia cuts them, and their index."""
    whole, index = bz2.compress(HEAD.encode()), ""
    for place in range(0, len(made), size):
        run = made[place : place + size]
        for text in run:
            number, title = re.search("<id>(.*?)</id>", text), re.search("<title>(.*?)</title>", text)
            assert number is not None
            assert title is not None
            index += f"{len(whole)}:{number[1]}:{title[1]}\n"
        whole += bz2.compress("".join(run).encode())
    return whole + bz2.compress(TAIL.encode()), index


def read(
    folder: Path, name: str | tuple[str, ...] = "*", *, trusted: bool = False, **options: object
) -> list[Candidate]:
    source = WikipediaDump(name, **options)  # type: ignore[arg-type]  # options of a test
    where = context(folder, trusted=trusted)
    return [candidate for partition in source.partitions(where) for candidate in source.read(partition, where)]


def outcome(candidates: list[Candidate]) -> dict[str, str]:
    return {
        candidate.sample.key: candidate.rejected.reason if candidate.rejected else "kept" for candidate in candidates
    }


def numbers(candidates: list[Candidate]) -> list[int]:
    return [int(candidate.sample.key.rpartition("-")[2]) for candidate in candidates]


def test_a_page_knows_where_it_comes_from(tmp_path: Path) -> None:
    text = "'''Zinn''' ist ein [[Metall]].[[Datei:x.jpg|mini|y]]\n[[Kategorie:Metalle]]"
    (tmp_path / "x.xml").write_bytes(dump(page(7, text, title="Zinn & Blei")))
    (found,) = read(tmp_path)
    assert found.sample.key == "dewiki-7"
    assert found.sample.fields == {"txt": b"Zinn ist ein Metall."}
    record = found.sample.record
    assert record["url"] == "https://de.wikipedia.org/wiki/Zinn_%26_Blei"
    assert (record["title"], record["author"]) == ("Zinn & Blei", "contributors of Zinn & Blei")
    assert (record["licence"], record["language"], record["group"]) == ("CC-BY-SA-4.0", "de", "dewiki-7")
    assert (record["page_id"], record["revision_id"], record["timestamp"]) == (7, 1007, "2026-01-01T00:00:00Z")
    assert len(record["sha256"]) == 64


def test_every_page_that_is_no_article_is_rejected_for_what_it_is(tmp_path: Path) -> None:
    made = dump(
        page(1, "Text"),
        page(2, "#WEITERLEITUNG [[X]]", extra='<redirect title="X" />'),
        page(3, "#WEITERLEITUNG [[X]]"),
        page(4, "Diskussion", ns=1),
        page(5, "Text", sha1="0" * 31),
        page(6, "{{nur|Vorlage}}"),
        page(7, "Text").replace("<model>wikitext", "<model>Scribunto"),
        page(8, "x").replace('xml:space="preserve">x</text>', "/>"),
        page(9, "x").replace('xml:space="preserve">x</text>', 'deleted="deleted" />'),
        page(10, "kein Modell, keine Prüfsumme").replace("<model>wikitext</model>", "").replace("sha1", "sha9"),
    )
    (tmp_path / "x.xml").write_bytes(made)
    assert outcome(read(tmp_path)) == {
        "dewiki-1": "kept",
        "dewiki-2": "redirect",
        "dewiki-3": "redirect",
        "dewiki-4": "namespace",
        "dewiki-5": "sha1_mismatch",
        "dewiki-6": "empty",
        "dewiki-7": "unsupported_format",
        "dewiki-8": "empty",
        "dewiki-9": "empty",
        "dewiki-10": "kept",
    }
    talk = read(tmp_path, namespaces=(), redirects=True)
    assert outcome(talk)["dewiki-4"] == "kept"
    assert talk[1].sample.fields["txt"] == b"X"


def test_of_several_revisions_the_newest_counts(tmp_path: Path) -> None:
    old = re.search("<revision>.*</revision>", page(1, "neu"), re.DOTALL)
    assert old is not None
    older = old[0].replace(">neu<", ">alt<").replace("2026-", "2025-")
    made = page(1, "neu").replace("</revision>", f"</revision>{older}")
    (tmp_path / "x.xml").write_bytes(dump(made))
    assert [candidate.sample.fields["txt"] for candidate in read(tmp_path)] == [b"neu"]


def test_a_damaged_page_harms_no_other(tmp_path: Path) -> None:
    bad = [
        page(2, "Text").replace("Text", "a < b & c", 1),
        page(3, "Text").replace("</text>", ""),
        page(4, "Text \x0b"),
        page(5, "Text").replace("<id>5</id>", "", 1).replace("<id>1005</id>", "<id>xy</id>"),
        page(6, "Text").replace("</page>", ""),  # the next begins before it ends
        page(7, "Text").replace("<page>", '<page><!DOCTYPE x [<!ENTITY a "b">]>'),
        page(9, "Text &a;").replace("&amp;a;", "&a;"),
    ]
    made = dump(page(1, "Text"), *bad, page(8, "Text")).replace(b"Text 4", b"Text")
    (tmp_path / "x.xml").write_bytes(made.replace(b">Seite 8<", b">Seite \xff 8<"))
    found = read(tmp_path)
    assert [candidate.rejected.reason if candidate.rejected else "kept" for candidate in found] == [
        "kept",
        *["corrupt"] * 8,
    ]
    (tmp_path / "x.xml").write_bytes(made)
    found = read(tmp_path)
    assert [candidate.rejected.reason if candidate.rejected else "kept" for candidate in found] == [
        "kept",
        *["corrupt"] * 7,
        "kept",
    ]
    assert numbers(found)[:4] == [1, 2, 3, 4]


@pytest.mark.parametrize("form", ["xml", "bz2", "gz", "multistream", "pbzip2", "garbage"])
def test_every_form_of_a_dump_gives_the_same_pages(tmp_path: Path, form: str) -> None:
    made = pages(range(1, 30))
    whole = dump(*made)
    if form == "multistream":
        content = multistream(made)[0]
    elif form == "pbzip2":  # streams cut anywhere
        content = b"".join(bz2.compress(whole[place : place + 777]) for place in range(0, len(whole), 777))
    else:
        content = {"xml": whole, "gz": gzip.compress(whole)}.get(form, bz2.compress(whole))
        content += b"\0" * 700 if form == "garbage" else b""
    (tmp_path / "x").write_bytes(content)
    found = read(tmp_path, "x")
    assert numbers(found) == list(range(1, 30))
    assert set(outcome(found).values()) == {"kept"}


def test_partitions_are_runs_of_streams_and_cover_the_file(tmp_path: Path) -> None:
    made = [
        page(number, "Text " + bytes(range(97, 123)).decode() * 2 + "x" * 20000 + str(number))
        for number in range(1, 200)
    ]
    content = (
        bz2.compress(HEAD.encode())
        + b"".join(bz2.compress(text.encode(), 1) for text in made)
        + bz2.compress(TAIL.encode())
    )
    (tmp_path / "x-multistream.xml.bz2").write_bytes(content)
    whole = scan_dump(tmp_path / "x-multistream.xml.bz2")
    assert len(whole.streams) == 201
    ranges = whole.byte_ranges(5000)
    assert len(ranges) > 3
    assert [stop for _, stop in ranges[:-1]] == [start for start, _ in ranges[1:]]
    plain = tmp_path / "y.xml"
    plain.write_bytes(dump(*pages(range(1, 9)), page(9, "lang " * 500_000)))
    source, where = WikipediaDump("y.xml", partition_megabytes=1), context(tmp_path)
    partitions = list(source.partitions(where))
    assert len(partitions) == 3
    assert len({candidate.name for candidate in partitions}) == 3
    assert partitions == list(source.partitions(where))
    assert [len(list(source.read(candidate, where))) for candidate in partitions] == [9, 0, 0]


def test_an_index_tells_which_pages_a_damaged_stream_held(tmp_path: Path) -> None:
    made = pages(range(1, 20))
    content, index = multistream(made)
    broken = bytearray(content)
    offset = int(index.splitlines()[7].partition(":")[0])  # of pages 7, 8 and 9
    broken[offset + 60] ^= 0xFF
    (tmp_path / "dewiki-pages-articles-multistream.xml.bz2").write_bytes(broken)
    (loss,) = [candidate for candidate in read(tmp_path, "*.xml.bz2") if candidate.rejected]
    assert loss.rejected is not None
    assert loss.rejected.reason == "lost"
    assert f"at byte {offset + 4:,}" in loss.rejected.detail
    assert "behind 'Seite 6'" in loss.rejected.detail
    (tmp_path / "dewiki-pages-articles-multistream-index.txt.bz2").write_bytes(bz2.compress(index.encode()))
    found = read(tmp_path, "*")
    assert sorted(numbers(found)) == list(range(1, 20))
    lost = [candidate for candidate in found if candidate.rejected]
    assert outcome(lost) == {f"dewiki-{number}": "corrupt" for number in (7, 8, 9)}
    assert lost[0].sample.record["title"] == "Seite 7"


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
def test_the_index_names_every_page_behind_the_end_of_a_dump_that_is_cut(tmp_path: Path, share: float) -> None:
    content, index = multistream(pages(range(1, 200)))
    (tmp_path / "dewiki-multistream.xml.bz2").write_bytes(content[: int(len(content) * share)])
    (tmp_path / "dewiki-multistream-index.txt").write_text(index)
    found = read(tmp_path, "dewiki-multistream.xml.bz2")
    kinds = outcome(found)
    assert {f"dewiki-{number}" for number in range(1, 200)} <= kinds.keys()
    kept = sum(kind == "kept" for kind in kinds.values())
    assert 199 * share - 12 <= kept <= 199 * share + 3
    assert [kind for key, kind in kinds.items() if "lost" in key] == ["lost"], "the end of the dump itself"


def test_a_dump_cut_between_two_streams_loses_what_its_index_names(tmp_path: Path) -> None:
    content, index = multistream(pages(range(1, 20)))
    offset = int(index.splitlines()[9].partition(":")[0])  # of page 10
    (tmp_path / "dewiki-multistream.xml.bz2").write_bytes(content[:offset])
    (tmp_path / "dewiki-multistream-index.txt").write_text(index)
    kinds = outcome(read(tmp_path, "dewiki-multistream.xml.bz2"))
    expected = {f"dewiki-{number}": "kept" if number < 10 else "corrupt" for number in range(1, 20)}
    assert {key: kind for key, kind in kinds.items() if "lost" not in key} == expected


def test_a_title_in_an_index_cannot_name_another_page(tmp_path: Path) -> None:
    content, index = multistream(pages(range(1, 20)))
    (tmp_path / "dewiki-multistream.xml.bz2").write_bytes(content[: len(content) // 2])
    index = index.replace("Seite 19", "</title><id>1</id><revision>").replace("Seite 18", "A&amp;B")
    (tmp_path / "dewiki-multistream-index.txt").write_text(index)
    lost = {each.sample.key: each.sample.record for each in read(tmp_path, "*.xml.bz2") if each.rejected}
    assert "dewiki-1" not in lost
    assert (lost["dewiki-19"]["title"], lost["dewiki-18"]["title"]) == ("</title><id>1</id><revision>", "A&amp;B")


def test_of_a_dump_that_is_cut_only_so_many_pages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.pipelines.wikipedia.pages._MAX_NAMED", 20)
    content, index = multistream(pages(range(1, 200)))
    (tmp_path / "dewiki-multistream.xml.bz2").write_bytes(content[: len(content) // 2])
    (tmp_path / "dewiki-multistream-index.txt").write_text(index)
    losses = [each.rejected for each in read(tmp_path, "dewiki-multistream.xml.bz2") if each.rejected]
    assert sum(loss.reason == "lost" for loss in losses) == 2, "the end of the dump, and the pages that are not named"
    counted = [int(match[1]) for loss in losses if (match := re.search("the index has ([0-9]+) more", loss.detail))]
    kept = sum(each.rejected is None for each in read(tmp_path, "dewiki-multistream.xml.bz2"))
    assert kept + 20 + counted[0] == 199


@pytest.mark.parametrize("packed", [False, True])
def test_dumps_of_two_wikis_in_one_file_are_refused_and_parts_of_one_are_not(packed: bool, tmp_path: Path) -> None:
    one, same = dump(*pages(range(1, 30))), dump(*pages(range(30, 60)))
    other = same.replace(b"dewiki", b"enwiki")
    pack = bz2.compress if packed else bytes
    name = "x.xml.bz2" if packed else "x.xml"
    (tmp_path / name).write_bytes(pack(one) + pack(same))
    assert numbers(read(tmp_path, name)) == list(range(1, 60))
    (tmp_path / name).write_bytes(pack(one) + pack(other))
    with pytest.raises(SourceBroken, match="it holds the dumps of two wikis, dewiki and enwiki; make a file of each"):
        read(tmp_path, name)


def test_the_index_of_another_dump_is_refused(tmp_path: Path) -> None:
    content, _ = multistream(pages(range(1, 40)))
    _, index = multistream(pages(range(5, 400)), size=2)
    (tmp_path / "x-multistream.xml.bz2").write_bytes(content)
    (tmp_path / "x-multistream-index.txt").write_text(index)
    with pytest.raises(SourceBroken, match="the index is of another dump"):
        read(tmp_path, "x-multistream.xml.bz2")
    (tmp_path / "x-multistream-index.txt").write_text("junk\n")
    with pytest.raises(SourceBroken, match="near line 1: expected offset:page:title"):
        read(tmp_path, "x-multistream.xml.bz2")


def cut_first_block(made: list[str]) -> bytes:
    """A dump whose head is a stream of its own, and damaged: nobody can read its siteinfo."""
    head = bytearray(bz2.compress(HEAD.encode()))
    head[len(head) // 2] ^= 1
    return bytes(head) + bz2.compress(("".join(made) + TAIL).encode())


FILE_LINK = "Zinn ist ein Metall.[[Datei:x.jpg|mini|y]]"


def test_a_damaged_first_block_costs_what_it_held_and_no_other_file(tmp_path: Path) -> None:
    other = dump(*pages(range(1, 5))).replace(b"Datei<", b"Bildnis<")
    (tmp_path / "dewiki-p1.xml").write_bytes(other)
    (tmp_path / "dewiki-p2.xml.bz2").write_bytes(PACKED[: len(PACKED) // 2])  # one block, which is cut
    (tmp_path / "dewiki-p3.xml.bz2").write_bytes(cut_first_block([page(7, FILE_LINK.replace("Datei", "Bildnis"))]))
    found = read(tmp_path)
    assert Counter(each.rejected.reason if each.rejected else "kept" for each in found) == {"kept": 5, "lost": 2}
    (last,) = [each.sample for each in found if each.sample.key == "dewiki-7"]
    assert last.fields["txt"] == b"Zinn ist ein Metall.", "names of namespaces are those of the other file"
    assert last.record["language"] == "de"
    source, where = WikipediaDump("*"), context(tmp_path)
    source.check(where)
    assert [line.partition(":")[0] for line in source.describe_input(where)] == [
        "dewiki-p2.xml.bz2",
        "dewiki-p3.xml.bz2",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [("dewiki-p3.xml.bz2", {}), ("x.xml.bz2", {"wiki": "dewiki"}), ("x.bz2", {"wiki": "my", "language": "de"}),
     ("x.bz2", {"wiki": {"x*": "dewiki"}})],
)  # fmt: skip
def test_without_siteinfo_the_recipe_or_the_name_tells_the_wiki(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    (tmp_path / name).write_bytes(cut_first_block([page(7, FILE_LINK)]))
    (loss, kept) = read(tmp_path, "*", **options)  # type: ignore[arg-type]  # as in read
    assert loss.rejected is not None
    assert loss.rejected.reason == "lost"
    wiki = options.get("wiki", "dewiki")
    assert kept.sample.key == f"{wiki if isinstance(wiki, str) else 'dewiki'}-7"
    assert kept.sample.fields["txt"] == b"Zinn ist ein Metall."
    assert kept.sample.record["language"] == "de"


def test_where_nothing_tells_the_wiki_of_a_damaged_dump_the_error_says_which_options_do(tmp_path: Path) -> None:
    (tmp_path / "x.bz2").write_bytes(cut_first_block([page(7, FILE_LINK)]))
    for options in ({}, {"wiki": "my"}, {"language": "de"}):
        with pytest.raises(SourceBroken, match=r"a bz2 block is damaged.*set wiki = .* and language = "):
            read(tmp_path, "*", **options)  # type: ignore[arg-type]  # as in read
        with pytest.raises(SourceBroken, match="set wiki"):
            WikipediaDump("x.bz2", **options).check(context(tmp_path))  # type: ignore[arg-type]  # as in read


def test_a_dump_whose_two_ends_are_missing_tells_of_both(tmp_path: Path) -> None:
    whole = cut_first_block(pages(range(1, 5)))
    tail = bz2.compress("".join(pages(range(1, 5))).encode())
    content = whole[: whole.index(b"BZh9", 4)] + tail
    (tmp_path / "dewiki.xml.bz2").write_bytes(content)
    assert Counter(outcome(read(tmp_path)).values()) == {"kept": 4, "lost": 2}


def test_pieces_of_two_pages_that_meet_in_a_tag_are_no_page(tmp_path: Path) -> None:
    for wrong in ("xml:l:space", "xmxml:space", ":space"):
        made = page(1, "Text").replace("xml:space", wrong)
        (tmp_path / "x.xml").write_bytes(dump(made))
        assert outcome(read(tmp_path)) == {"dewiki-1": "corrupt"}, wrong


WHOLE = dump(*pages(range(1, 40)))
PACKED = bz2.compress(WHOLE)
DAMAGE = {
    "empty": (b"", "an empty file"),
    "an error page": (b"<!DOCTYPE html><html>429 Too many requests</html>", "no MediaWiki export: it begins with"),
    "not compressed at all": (b"429 Too Many Requests", "neither XML nor bz2 nor gzip"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 50, "7z, which is not read"),
    "bz2 cut": (PACKED[: len(PACKED) * 6 // 10], "damaged|cut short"),
    "bz2 cut to its head": (PACKED[:8], "cut short"),
    "bz2 flipped": (PACKED[:700] + bytes([PACKED[700] ^ 4]) + PACKED[701:], "damaged"),
    "gz cut": (gzip.compress(WHOLE, mtime=0)[:-30], "cut short"),
    "gz flipped": (gzip.compress(WHOLE, mtime=0)[:-5] + b"XXXXX", "damaged"),
    "other bz2": (bz2.compress(b"hello" * 1000), "no MediaWiki export"),
    "a document type": (b"<!DOCTYPE mediawiki [<!ENTITY x 'y'>]>" + WHOLE, "document type"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_is_damaged_as_a_whole_is_a_broken_source(tmp_path: Path, name: str) -> None:
    content, message = DAMAGE[name]
    (tmp_path / "dump.xml.bz2").write_bytes(content)
    with pytest.raises(SourceBroken, match=message):
        read(tmp_path, "dump.xml.bz2")


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([WHOLE, PACKED, multistream(pages(range(1, 20)))[0], gzip.compress(WHOLE, mtime=0)]), st.data())
def test_no_damage_makes_it_hang_or_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        if data.draw(st.booleans()):
            damaged[place] = data.draw(st.integers(0, 255))
        else:
            del damaged[place : place + data.draw(st.integers(1, 2000))]
        if not damaged:
            return
    path = tmp_path_factory.mktemp("damaged") / "x.xml"
    path.write_bytes(damaged)
    started = time.process_time()
    with suppress(SourceBroken):
        read(path.parent)
    assert time.process_time() - started < 2


def test_a_decompression_bomb_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.pipelines.wikipedia.pages._MAX_BYTES_WITHOUT_PAGE", 8 << 20)
    (tmp_path / "x.bz2").write_bytes(bz2.compress(HEAD.encode()) + bz2.compress(b" " * (32 << 20)))
    with pytest.raises(SourceBroken, match="8 MiB of XML without a page"):
        read(tmp_path)


def test_a_page_that_is_too_large_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("stoker.pipelines.wikipedia.pages.PageCutter", partial(PageCutter, max_page=1 << 20))
    made = [page(1, "Text"), page(2, "lang " * 1_000_000), page(3, "Text")]
    (tmp_path / "x.xml").write_bytes(dump(*made))
    assert outcome(read(tmp_path)) == {"dewiki-1": "kept", "dewiki-2": "too_large", "dewiki-3": "kept"}


def test_utf16_and_dumps_without_siteinfo_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.xml.bz2").write_bytes(bz2.compress(WHOLE.decode().encode("utf-16")))
    assert set(outcome(read(tmp_path, "a.xml.bz2")).values()) == {"kept"}
    bare = ("<mediawiki>" + page(3, "Tin [[File:x.jpg]]melts.") + TAIL).encode()
    (tmp_path / "frwiki-20260101-pages.xml").write_bytes(bare)
    (found,) = read(tmp_path, "frwiki*")
    assert (found.sample.key, found.sample.record["language"]) == ("frwiki-3", "fr")
    assert found.sample.record["url"] == "https://fr.wikipedia.org/wiki/Seite_3"
    (tmp_path / "unknown.xml").write_bytes(bare)
    (found,) = read(tmp_path, "unknown.xml")
    assert (found.sample.key, found.sample.record["url"]) == ("wiki-3", "")
    (found,) = read(tmp_path, "unknown.xml", wiki="dewiki", language="de")
    assert (found.sample.key, found.sample.record["url"]) == ("dewiki-3", "https://de.wikipedia.org/wiki/Seite_3")


def test_texts_that_differ_from_their_checksums_are_rejected_marked_or_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = [page(number, "Text", sha1="0" * 31 if number % 2 else None) for number in range(1, 13)]
    (tmp_path / "x.xml").write_bytes(dump(*made))
    assert Counter(outcome(read(tmp_path)).values()) == {"kept": 6, "sha1_mismatch": 6}
    assert "6 of 12 texts do not match" in caplog.text
    assert 'sha1 = "mark" (reject now)' in caplog.text
    marked = read(tmp_path, sha1="mark")
    assert [found.sample.record["sha1_matches"] for found in marked] == [False, True] * 6
    assert set(outcome(marked).values()) == {"kept"}
    caplog.clear()
    ignored = read(tmp_path, sha1="ignore")
    assert set(outcome(ignored).values()) == {"kept"}
    assert "sha1_matches" not in ignored[0].sample.record
    (tmp_path / "x.xml").write_bytes(dump(*pages(range(1, 40)), page(50, "Text", sha1="0" * 31)))
    assert outcome(read(tmp_path))["dewiki-50"] == "sha1_mismatch"
    assert caplog.text == "", "one page is no reason for a warning"


def test_namespaces_of_dumps_that_do_not_number_them_come_from_the_titles(tmp_path: Path) -> None:
    titles = {
        1: "Zinn",
        2: "Diskussion:Zinn",
        3: "diskussion: Zinn",
        4: "Benutzer Diskussion:Ann",
        5: "Talk:Tin",
        6: "User_talk:Ann",
        7: "Kategorie:Metalle",
        8: "Mission: Impossible",
        9: "Bild:Zinn.jpg",
        10: ":Zinn",
    }
    names = "".join(
        f'<namespace key="{key}">{name}</namespace>'
        for key, name in {1: "Diskussion", 3: "Benutzer Diskussion", 6: "Bild", 14: "Kategorie"}.items()
    )
    head = re.sub(r"<namespaces>.*</namespaces>", f"<namespaces>{names}</namespaces>", HEAD, flags=re.DOTALL)
    made = [page(number, "Text", title=title).replace("<ns>0</ns>", "") for number, title in titles.items()]
    (tmp_path / "x.xml").write_text(head + "".join(made) + TAIL)
    assert [number for number in titles if outcome(read(tmp_path))[f"dewiki-{number}"] == "kept"] == [1, 8, 10]
    found = read(tmp_path, namespaces=())
    assert [candidate.sample.record["namespace"] for candidate in found] == [0, 1, 1, 3, 1, 3, 14, 0, 6, 0]


def test_wiki_and_language_may_differ_by_file(tmp_path: Path) -> None:
    bare = ("<mediawiki>" + page(3, "Text") + TAIL).encode()
    for name in ("a1.xml", "a2.xml", "b.xml"):
        (tmp_path / name).write_bytes(bare)
    found = read(tmp_path, "*.xml", wiki={"a2*": "frwiki", "a*": "dewiki"}, language={"b*": "sq"})
    assert [(one.sample.key, one.sample.record["language"]) for one in found] == [
        ("dewiki-3", "de"),
        ("frwiki-3", "fr"),
        ("wiki-3", "sq"),
    ]
    with pytest.raises(ValueError, match="wiki 'x y': expected the name of its database"):
        WikipediaDump("x", wiki={"*": "x y"})


def test_globs_and_lists_choose_files_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        (tmp_path / f"dewiki{number}.xml").write_bytes(dump(page(number, "Text")))
    (tmp_path / "dewiki-multistream-index.txt").write_text("junk")
    assert numbers(read(tmp_path, "dewiki*")) == [1, 2, 10]
    assert numbers(read(tmp_path, ("dewiki10.xml", "dewiki1.xml"))) == [1, 10]
    for name, message in (
        ("nothing*", "no such file"),
        ("gone.xml", "no such file"),
        (".", "a folder"),
        ("*.txt", "none of the files"),
    ):
        with pytest.raises(RecipeError, match=message):
            read(tmp_path, name)


def test_the_fingerprint_changes_with_the_file_and_a_change_in_between_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes(dump(page(1, "Text")))
    source, where = WikipediaDump("x.xml"), context(tmp_path)
    (before,) = source.partitions(where)
    path.write_bytes(dump(page(1, "Texte")))
    (after,) = source.partitions(where)
    assert replace(before, fingerprint="") == replace(after, fingerprint="", payload=dict(before.payload))
    assert before.fingerprint != after.fingerprint
    with pytest.raises(SourceBroken, match="changed since the work was planned"):
        list(source.read(before, where))
    path.unlink()
    with pytest.raises((SourceBroken, RecipeError), match=r"x\.xml"):
        list(source.read(after, where))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_dump_is_fetched_from_its_url_and_not_kept(tmp_path: Path, site: str) -> None:
    (tmp_path / "site" / "dewiki.xml.bz2").write_bytes(PACKED)
    where = replace(context(tmp_path), web=Web(allow_private=True, requests_per_second=0, attempts=1))
    source = WikipediaDump(f"{site}/dewiki.xml.bz2")
    (partition,) = source.partitions(where)
    found = list(source.read(partition, where))
    assert len(found) == 39
    assert found[0].sample.measures["fetched_at"].startswith("20")
    assert not [path for path in where.scratch.rglob("*") if path.is_file()]
    for url, error in ((f"{site}/gone.bz2", SourceBroken), ("http://127.0.0.1:9/x.bz2", SourceUnavailable)):
        source = WikipediaDump(url)
        (partition,) = source.partitions(where)
        with pytest.raises(error, match=re.escape(url)):
            list(source.read(partition, where))


@needs_shared
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("enwiki-latest*.bz2", {"kept": 106, "redirect": 99, "namespace": 1}),
        ("aawiki*.bz2", {"namespace": 505, "redirect": 1, "empty": 1}),
        ("enwiki-table*.bz2", {"kept": 5}),
    ],
)
def test_real_dumps_are_read_whole_and_every_checksum_fits(tmp_path: Path, name: str, counts: dict[str, int]) -> None:
    assert SHARED is not None
    found = read(tmp_path, str(SHARED / "wiki" / name), trusted=True)
    assert Counter(outcome(found).values()) == counts
    everything = read(tmp_path, str(SHARED / "wiki" / name), trusted=True, namespaces=(), redirects=True)
    assert "sha1_mismatch" not in Counter(outcome(everything).values())
    assert len(everything) == len(found)


def test_a_wiki_with_variants_is_read_in_the_one_that_the_recipe_names(tmp_path: Path) -> None:
    xml = dump(page(1, "用-{zh-hans:计算机;zh-hant:電腦}-。")).replace(b'xml:lang="de"', b'xml:lang="zh"')
    (tmp_path / "zhwiki.xml").write_bytes(xml)
    for variant, text in (("", "用计算机。"), ("zh-Hant", "用電腦。")):
        (candidate,) = read(tmp_path, variant=variant)
        assert candidate.sample.record.get("variant") == (variant.lower() or None)
        assert candidate.sample.fields == {"txt": text.encode()}


def test_a_variant_that_no_wiki_has_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one that MediaWiki converts"):
        WikipediaDump("x.xml", variant="klingon")


def test_recipes_of_two_folders_that_name_their_dump_alike_keep_their_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_notes, "SETTLED_S", 0.0)
    scanned: list[Path] = []

    def scan(path: Path) -> DumpFile:
        scanned.append(path)
        return scan_dump(path)

    monkeypatch.setattr(wikipedia_dump, "scan_dump", scan)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "wiki.xml.bz2").write_bytes(PACKED)
    for _ in range(2):
        for folder in folders:
            where = replace(context(folder), notes=tmp_path / "notes")
            assert list(WikipediaDump("wiki.xml.bz2").partitions(where))
    assert scanned == [folder / "wiki.xml.bz2" for folder in folders]
