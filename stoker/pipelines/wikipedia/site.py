"""The wiki that a dump is of, from its head or from its file's name."""

import re
import urllib.parse
from dataclasses import dataclass

from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale
from stoker.pipelines.wikipedia.wikitext.names import CODES
from stoker.pipelines.wikipedia.wikitext.tags import decode_entities


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """The wiki that a dump is of."""

    wiki: str  # the name of its database, such as enwiki
    language: str  # its code; empty if unknown
    base: str  # the URL of a page without its title; empty if unknown
    files: tuple[str, ...] = ()  # names of the namespace of files
    categories: tuple[str, ...] = ()  # names of the namespace of categories

    def url(self, title: str) -> str:
        """The URL of a page; empty if the wiki is not known.

        >>> SiteInfo("enwiki", "en", "https://en.wikipedia.org/wiki/").url("Tin (metal)/α")
        'https://en.wikipedia.org/wiki/Tin_(metal)/%CE%B1'
        """
        return self.base + urllib.parse.quote(title.replace(" ", "_"), safe="/:@!$*(),;'~") if self.base else ""

    def locale(self) -> WikiLocale:
        """The language and namespaces that ``plain_text`` needs."""
        return WikiLocale.of(self.language, self.files, self.categories)


def read_siteinfo(head: bytes, file_name: str) -> SiteInfo:
    """The wiki of a dump from the first bytes of its XML, or from its file's name where those do not tell.

    >>> read_siteinfo(b"<mediawiki><page>", "dewiki-20260101-pages-articles.xml.bz2").url("Zinn")
    'https://de.wikipedia.org/wiki/Zinn'
    """
    text = head.partition(b"<page>")[0].decode("utf-8", "replace")
    elements = {name: decode_entities(value) for name, value in _ELEMENT.findall(text)}
    names: dict[int, list[str]] = {}
    for key, name in _NAMESPACE.findall(text):
        names.setdefault(int(key), []).append(decode_entities(name))
    xml_lang = _XML_LANG.search(text)
    in_file_name = _WIKI_OF_FILE.match(file_name)
    wiki = elements.get("dbname") or (in_file_name[1] if in_file_name else "wiki")
    wiki = re.sub(r"[^A-Za-z0-9_-]", "", wiki)[:40] or "wiki"
    code = wiki.removesuffix("wiki").replace("_", "-")
    language = xml_lang[1] if xml_lang else code if code in CODES else ""
    base = elements.get("base", "").rpartition("/")[0]
    if not base and code in CODES:
        base = f"https://{code}.wikipedia.org/wiki"
    base = base + "/" if base.startswith(("http://", "https://")) else ""
    return SiteInfo(wiki, language, base, tuple(names.get(6, ())), tuple(names.get(14, ())))


_ELEMENT = re.compile(r"<(dbname|base)>([^<]{1,500})</")
_NAMESPACE = re.compile(r'<namespace key="(-?\d{1,5})"[^>]*>([^<]{1,200})</namespace>')
_XML_LANG = re.compile(r'<mediawiki\b[^>]*\bxml:lang="([A-Za-z0-9-]{1,20})"')
_WIKI_OF_FILE = re.compile(r"([a-z][a-z0-9_]{0,30}wiki)(?:-|\.|$)")
