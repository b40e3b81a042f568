"""The record of a wiki page: where it comes from, its revision and licence, its headings and categories."""

import hashlib
import re
from functools import cache
from typing import Any

from stoker.pipelines.wikipedia.export_xml import DumpPage
from stoker.pipelines.wikipedia.site import SiteInfo
from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale, plain_text
from stoker.pipelines.wikipedia.wikitext.lines import chunks

# Texts of Wikimedia's wikis are under version 4.0 of the licence since the Terms of Use of this day, before under 3.0.
# Source: Wikimedia Foundation, "Terms of Use", version in force from 7 June 2023, section 7 "Licensing of Content".
_VERSION_4_SINCE = "2023-06-07"
_MAX_NAMES = 200  # headings or categories of one page
_HEADING = re.compile(r"\n(={2,6})([^\n=][^\n]{0,300}?)\1[ \t]*(?=\n)")
_MARKUP = re.compile(r"['\[{<&]")


def page_record(page: DumpPage, info: SiteInfo, *, licence: str, cleaner: int) -> dict[str, Any]:  # Any: JSON values
    """The record of a page; ``licence`` "": by the date of its revision; ``cleaner``: version of what made its text."""
    text = page.text or ""
    url = info.url(page.title)
    return {
        "url": url,
        "revision_url": f"{url}?oldid={page.revision_id}" if url and page.revision_id else "",
        "title": page.title,
        "licence": licence or licence_at(page.timestamp),
        "author": f"contributors of {page.title}",
        "language": info.language,
        "sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        "group": f"{info.wiki}-{page.page_id}",
        "wiki": info.wiki,
        "page_id": page.page_id,
        "namespace": page.namespace,
        "revision_id": page.revision_id,
        "parent_id": page.parent_id,
        "revision_sha1": page.sha1,
        "timestamp": page.timestamp,
        "cleaner_version": cleaner,
    }


def page_structure(wikitext: str, locale: WikiLocale) -> dict[str, str]:
    """Columns of the record that need a look at the text: headings and categories, one a line."""
    text = without_comments(wikitext)
    return {"headings": "\n".join(headings(text, locale)), "categories": "\n".join(categories(text, locale))}


def licence_at(timestamp: str) -> str:
    """The licence of a text of Wikimedia's wikis, by the time of its revision.

    >>> licence_at("2023-06-06T23:59:59Z"), licence_at("2023-06-07T00:00:00Z")
    ('CC-BY-SA-3.0', 'CC-BY-SA-4.0')
    """
    return "CC-BY-SA-4.0" if timestamp >= _VERSION_4_SINCE else "CC-BY-SA-3.0"


def without_comments(wikitext: str) -> str:
    """Wikitext without its HTML comments, the last of which may be open."""
    if "<!--" not in wikitext:
        return wikitext
    pieces = wikitext.split("<!--")
    pieces[1:] = [piece.partition("-->")[2] for piece in pieces[1:]]
    return "".join(pieces)


def headings(wikitext: str, locale: WikiLocale) -> list[str]:
    """The headings as plain text, in their order.

    >>> headings("Tin\\n== Uses ==\\nIt melts.\\n===''Solder''===\\n", WikiLocale())
    ['Uses', 'Solder']
    """
    found = []
    for chunk in chunks([wikitext]):
        for match in _HEADING.finditer(f"\n{chunk}\n"):
            heading = match[2].strip()
            if _MARKUP.search(heading):
                heading = " ".join(plain_text(heading, locale).split())
            if heading:
                found.append(heading)
            if len(found) == _MAX_NAMES:
                return found
    return found


def categories(wikitext: str, locale: WikiLocale) -> list[str]:
    """The names of the categories that the page itself names, without those that templates add.

    >>> categories("[[Category:Metals|Tin]] [[:Category:Gases]] [[category: Chemical_elements ]]", WikiLocale())
    ['Metals', 'Chemical elements']
    """
    links = _category_links(locale.categories).findall(wikitext)
    names = dict.fromkeys(" ".join(name.replace("_", " ").split()) for name in links)
    return [name for name in names if name][:_MAX_NAMES]


@cache
def _category_links(namespaces: frozenset[str]) -> re.Pattern[str]:
    """Finds links to categories; names of the namespace are in lower case."""
    names = "|".join(re.escape(name).replace(r"\ ", "[ _]") for name in sorted(namespaces))
    return re.compile(rf"\[\[[ _]*+(?:{names})[ _]*+:([^\[\]{{}}|\n]{{1,255}})(?:\|[^\[\]\n]*+)?\]\]", re.IGNORECASE)
