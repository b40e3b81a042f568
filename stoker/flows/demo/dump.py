"""The Python handbook (``pydoc_data.topics``) as a MediaWiki pages-articles dump, multistream with its index."""

import bz2
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from stoker.flows.demo.wikitext import convert, title_of

NAME = "handbook-pages-articles-multistream"
PAGES_A_STREAM = 20
_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)  # base of the revisions' times: constant, for the same bytes every time
_NAMESPACES = {
    -2: "Media",
    -1: "Special",
    0: "",
    1: "Talk",
    2: "User",
    3: "User talk",
    4: "Project",
    5: "Project talk",
    6: "File",
    7: "File talk",
    8: "MediaWiki",
    9: "MediaWiki talk",
    10: "Template",
    11: "Template talk",
    12: "Help",
    13: "Help talk",
    14: "Category",
    15: "Category talk",
}
_EXPORT = "http://www.mediawiki.org/xml/export-0.11/"


@dataclass(frozen=True, slots=True)
class WikiPage:
    """A page of the wiki; ``redirect`` is the title it leads to."""

    number: int
    namespace: int
    title: str
    text: str
    redirect: str = ""


def make(folder: Path, base: str) -> Path:
    """Write the dump and its index into the folder, the same bytes every time; returns the dump's path."""
    dump, index = write(list(pages()), base)
    put(folder / f"{NAME}-index.txt.bz2", index)
    put(folder / f"{NAME}.xml.bz2", dump)
    return folder / f"{NAME}.xml.bz2"


def put(path: Path, payload: bytes) -> None:
    """Write a file atomically, even if another process writes the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(payload)
    partial.replace(path)


def pages() -> Iterator[WikiPage]:
    """All pages by number: articles, some talk pages, redirects from keywords, templates and a category."""
    from pydoc_data.topics import topics

    titles: dict[str, str] = {}
    articles: dict[str, str] = {}  # title → text
    redirects: dict[str, str] = {}
    for keyword, text in sorted(topics.items()):
        title = title_of(text)
        titles[title.lower()] = titles[keyword.lower()] = title
        articles.setdefault(title, text)
        if keyword[:1].upper() + keyword[1:] != title:
            redirects[keyword[:1].upper() + keyword[1:]] = title
    number = 0
    for title, text in sorted(articles.items()):
        number += 1
        yield WikiPage(number, 0, title, _article(title, convert(text, titles)))
        if number % 20 == 0:
            number += 1
            yield WikiPage(number, 1, f"Talk:{title}", _TALK.format(title=title))
    for title, target in sorted(redirects.items()):
        if title not in articles:
            number += 1
            yield WikiPage(number, 0, title, f"#REDIRECT [[{target}]]\n\n{{{{R from keyword}}}}", target)
    others = {
        (10, "Template:Infobox handbook"): '<includeonly>{| class="infobox"\n! {{{topic}}}\n|}</includeonly>',
        (10, "Template:Added in"): "''New in version {{{1}}}:''",
        (10, "Template:Changed in"): "''Changed in version {{{1}}}:''",
        (14, "Category:Python handbook"): "Pages made from the texts that Python's own help() shows.",
    }
    for (namespace, title), text in others.items():
        number += 1
        yield WikiPage(number, namespace, title, text)


def write(wiki: list[WikiPage], base: str) -> tuple[bytes, bytes]:
    """The dump and its index (offset:number:title), both bz2. ``base`` is the address of the wiki's main page."""
    streams = [bz2.compress(_head(base).encode())]
    offset = len(streams[0])
    lines = []
    for start in range(0, len(wiki), PAGES_A_STREAM):
        group = wiki[start : start + PAGES_A_STREAM]
        stream = bz2.compress("".join(map(_xml, group)).encode())
        lines += [f"{offset}:{page.number}:{page.title}\n" for page in group]
        streams.append(stream)
        offset += len(stream)
    streams.append(bz2.compress(b"</mediawiki>\n"))
    return b"".join(streams), bz2.compress("".join(lines).encode())


_TALK = """== Where is the example? ==
I miss an example in [[{title}]]. --[[User:Reader|Reader]] ([[User talk:Reader|talk]]) 12:00, 1 January 2025 (UTC)
: There is one further down. --[[User:Writer|Writer]] 12:30, 1 January 2025 (UTC)
"""


def _article(title: str, body: str) -> str:
    """The text of a page: an infobox, a comment, the body, and categories."""
    kind = "Statements" if title.endswith(("statement", "statements")) else "Concepts"
    return (
        f"{{{{Infobox handbook\n| topic = {title}\n| kind = {kind.lower()}\n}}}}\n"
        f"<!-- made from Python's handbook -->\n{body}\n\n"
        f"[[Category:Python handbook]]\n[[Category:{kind}]]"
    )


def _head(base: str) -> str:
    namespaces = "\n".join(
        f'      <namespace key="{number}" case="first-letter">{name}</namespace>'
        if name
        else f'      <namespace key="{number}" case="first-letter" />'
        for number, name in _NAMESPACES.items()
    )
    return (
        f'<mediawiki xmlns="{_EXPORT}" version="0.11" xml:lang="en">\n  <siteinfo>\n'
        "    <sitename>Python handbook</sitename>\n    <dbname>handbook</dbname>\n"
        f"    <base>{escape(base)}</base>\n    <generator>Stoker's demo</generator>\n"
        f"    <case>first-letter</case>\n    <namespaces>\n{namespaces}\n    </namespaces>\n  </siteinfo>\n"
    )


def _xml(page: WikiPage) -> str:
    redirect = f"    <redirect title={quoteattr(page.redirect)} />\n" if page.redirect else ""
    payload = page.text.encode()
    sha1 = _base36(int.from_bytes(hashlib.sha1(payload, usedforsecurity=False).digest(), "big"))
    moment = (_EPOCH + timedelta(hours=page.number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"  <page>\n    <title>{escape(page.title)}</title>\n    <ns>{page.namespace}</ns>\n"
        f"    <id>{page.number}</id>\n{redirect}"
        f"    <revision>\n      <id>{1000 + page.number}</id>\n      <timestamp>{moment}</timestamp>\n"
        "      <contributor>\n        <username>Python documentation authors</username>\n        <id>1</id>\n"
        f"      </contributor>\n      <origin>{1000 + page.number}</origin>\n"
        "      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(payload)}" sha1="{sha1}" xml:space="preserve">{escape(page.text)}</text>\n'
        f"      <sha1>{sha1}</sha1>\n    </revision>\n  </page>\n"
    )


def _base36(number: int) -> str:
    """A SHA-1 as MediaWiki writes it: base 36, 31 digits.

    >>> _base36(35), len(_base36(1))
    ('000000000000000000000000000000z', 31)
    """
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits.rjust(31, "0")
