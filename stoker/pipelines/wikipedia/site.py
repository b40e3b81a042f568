"""The wiki that a dump is of, from its head or from its file's name."""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
    namespaces: Mapping[str, int] = field(default_factory=dict)  # numbers by name in lower case

    @property
    def is_known(self) -> bool:
        """Whether the wiki has a name and a language."""
        return self.wiki != _UNKNOWN and self.language != ""

    def url(self, title: str) -> str:
        """The URL of a page; empty if the wiki is not known.

        >>> SiteInfo("enwiki", "en", "https://en.wikipedia.org/wiki/").url("Tin (metal)/α")
        'https://en.wikipedia.org/wiki/Tin_(metal)/%CE%B1'
        """
        return self.base + urllib.parse.quote(title.replace(" ", "_"), safe="/:@!$*(),;'~") if self.base else ""

    def namespace_of(self, title: str) -> int:
        """The namespace that a title is in, by its first part; 0 if that names none.

        >>> SiteInfo("dewiki", "de", "", namespaces={"diskussion": 1}).namespace_of("Diskussion:Zinn")
        1
        >>> [SiteInfo("enwiki", "en", "").namespace_of(title) for title in ("Mission: Impossible", "Talk:Tin")]
        [0, 1]
        """
        name, colon, _ = title.partition(":")
        name = " ".join(name.replace("_", " ").lower().split())
        others = _NAMESPACES if self.namespaces else _NAMESPACES | _OF_WIKIPEDIAS
        return self.namespaces.get(name, others.get(name, 0)) if colon else 0

    def locale(self, variant: str = "") -> WikiLocale:
        """The language and namespaces that ``plain_text`` needs; ``variant``: what pages are read in."""
        return WikiLocale.of(self.language, self.files, self.categories, variant=variant)


def site_named(file_name: str, language: str = "") -> SiteInfo:
    """The wiki of a dump whose siteinfo is lost, as its siteinfo would say, from its name or that of its file.

    >>> site_named("nowiki-20260101.xml.bz2").language, site_named("dump.xml.bz2", "de").is_known
    ('nb', False)
    """
    info = read_siteinfo(b"", file_name)
    return replace(info, language=language or _LANGUAGES.get(info.language, info.language))


def has_siteinfo(head: bytes) -> bool:
    """Whether the first bytes of a dump's XML hold all of its siteinfo."""
    return b"<mediawiki" in head and b"</siteinfo>" in head


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
    wiki = elements.get("dbname") or (in_file_name[1] if in_file_name else _UNKNOWN)
    wiki = re.sub(r"[^A-Za-z0-9_-]", "", wiki)[:40] or _UNKNOWN
    code = wiki.removesuffix("wiki").replace("_", "-")
    language = xml_lang[1] if xml_lang else code if code in CODES else ""
    base = elements.get("base", "").rpartition("/")[0]
    if not base and code in CODES:
        base = f"https://{code}.wikipedia.org/wiki"
    base = base + "/" if base.startswith(("http://", "https://")) else ""
    numbers = {" ".join(name.lower().split()): key for key, found in names.items() for name in found}
    return SiteInfo(wiki, language, base, tuple(names.get(6, ())), tuple(names.get(14, ())), numbers)


_UNKNOWN = "wiki"  # the name of a wiki that has none
# Wikis whose language has another code than the wiki.
# Source: Wikimedia, "Special language codes", meta.wikimedia.org, and MediaWiki 1.39, LanguageCode.php.
_LANGUAGES = {
    "als": "gsw", "bat-smg": "sgs", "be-x-old": "be-tarask", "fiu-vro": "vro", "no": "nb", "roa-rup": "rup",
    "simple": "en", "zh-classical": "lzh", "zh-min-nan": "nan", "zh-yue": "yue",
}  # fmt: skip
# The names that every wiki accepts, whatever it calls them itself.
# Source: MediaWiki's manual, "Manual:Namespace", built-in namespaces.
_NAMESPACES = {"media": -2, "special": -1, "talk": 1, "image": 6, "image talk": 7} | {
    f"{name}{talk}": 2 * number + len(talk) // 5
    for number, name in enumerate(("user", "project", "file", "mediawiki", "template", "help", "category"), 1)
    for talk in ("", " talk")
}
_OF_WIKIPEDIAS = {"wikipedia": 4, "wikipedia talk": 5, "portal": 100, "portal talk": 101}  # in English
_ELEMENT = re.compile(r"<(dbname|base)>([^<]{1,500})</")
_NAMESPACE = re.compile(r'<namespace key="(-?\d{1,5})"[^>]*>([^<]{1,200})</namespace>')
_XML_LANG = re.compile(r'<mediawiki\b[^>]*\bxml:lang="([A-Za-z0-9-]{1,20})"')
_WIKI_OF_FILE = re.compile(r"([a-z][a-z0-9_]{0,30}wiki)(?:-|\.|$)")
