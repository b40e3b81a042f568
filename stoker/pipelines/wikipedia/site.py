"""Which wiki a dump is of: from its head, or from its file's name."""

import re
import urllib.parse
from dataclasses import dataclass

from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale
from stoker.pipelines.wikipedia.wikitext.names import CODES
from stoker.pipelines.wikipedia.wikitext.tags import decode_entities


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """Which wiki a dump is of, as its head says it."""

    wiki: str  # the name of its database: enwiki
    language: str
    base: str  # URL of a page is this and its title; empty if unknown
    files: tuple[str, ...] = ()  # names of the namespace of files
    categories: tuple[str, ...] = ()

    def url(self, title: str) -> str:
        """The address of a page; empty if the wiki is not known.

        >>> SiteInfo("enwiki", "en", "https://en.wikipedia.org/wiki/").url("Tin (metal)/α")
        'https://en.wikipedia.org/wiki/Tin_(metal)/%CE%B1'
        """
        return self.base + urllib.parse.quote(title.replace(" ", "_"), safe="/:@!$*(),;'~") if self.base else ""

    def locale(self) -> WikiLocale:
        """What the reader of wikitext must know of this wiki."""
        return WikiLocale.of(self.language, self.files, self.categories)


def read_siteinfo(head: bytes, file: str) -> SiteInfo:
    """The wiki of a dump from its first bytes, or from its file's name where those do not say.

    >>> read_siteinfo(b"<mediawiki><page>", "dewiki-20260101-pages-articles.xml.bz2").url("Zinn")
    'https://de.wikipedia.org/wiki/Zinn'
    """
    text = head.partition(b"<page>")[0].decode("utf-8", "replace")
    found = {name: decode_entities(value) for name, value in _FACT.findall(text)}
    names: dict[int, list[str]] = {}
    for key, name in _NAMESPACE.findall(text):
        names.setdefault(int(key), []).append(decode_entities(name))
    lang = _LANG.search(text)
    from_name = _FILE.match(file)
    wiki = found.get("dbname") or (from_name[1] if from_name else "wiki")
    wiki = re.sub(r"[^A-Za-z0-9_-]", "", wiki)[:40] or "wiki"
    code = wiki.removesuffix("wiki").replace("_", "-")
    language = lang[1] if lang else code if code in CODES else ""
    base = found.get("base", "").rpartition("/")[0]
    if not base and code in CODES:
        base = f"https://{code}.wikipedia.org/wiki"
    safe = base + "/" if base.startswith(("http://", "https://")) else ""
    return SiteInfo(wiki, language, safe, tuple(names.get(6, ())), tuple(names.get(14, ())))


_FACT = re.compile(r"<(dbname|base)>([^<]{1,500})</")
_NAMESPACE = re.compile(r'<namespace key="(-?\d{1,5})"[^>]*>([^<]{1,200})</namespace>')
_LANG = re.compile(r'<mediawiki\b[^>]*\bxml:lang="([A-Za-z0-9-]{1,20})"')
_FILE = re.compile(r"([a-z][a-z0-9_]{0,30}wiki)(?:-|\.|$)")
