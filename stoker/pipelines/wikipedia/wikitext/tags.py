"""The first pass over wikitext: comments, and tags in angle brackets with what they hold."""

import re
from functools import cache
from html.entities import html5

GAP = "\x02"  # stands where something was taken out of a line, so that the text around it can be mended


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


# Tags whose content is no prose.
_DROPPED = words("""
    categorytree dynamicpagelist gallery graph hiero imagemap includeonly indicator inputbox mapframe maplink ref
    references score templatedata templatestyles timeline
""")
# Tags whose content is shown as it stands: nothing in it is markup.
_LITERAL = words("ce chem math nowiki pre source syntaxhighlight")
_FORMULAS = words("ce chem math")
# Tags that end a line.
_BREAKING = words("""
    blockquote br caption center dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p poem table tbody td tfoot th thead tr ul
""")
_STRIPPED = words("""
    abbr b bdi bdo big cite code data del dfn em font i ins kbd languages mark noinclude onlyinclude q rb rp rt rtc
    ruby s samp section small span strike strong sub sup time translate tt tvar u var wbr
""")
_NAMES = "|".join(sorted(_DROPPED | _LITERAL | _BREAKING | _STRIPPED))
# A quoted attribute may hold ">". Whatever is read for one tag ends before the next "<", so all tags together are
# read once. The possessive quantifiers (*+) are what keeps it so: nothing is tried a second way.
_TAG = re.compile(
    rf"""<(?:(!--)|(/?)({_NAMES})(?=[\s/>])((?:[^<>"']|"[^"<\n]*+"|'[^'<\n]*+'|["'])*+|[^<>]*+)>)""", re.IGNORECASE
)
_NOWIKI = re.compile(r"</?nowiki\s*/?>", re.IGNORECASE)
_TABLE = re.compile(r"<(/?)table\b", re.IGNORECASE)
_EXPONENT = re.compile(r"([0-9+\-−–n]{1,12})</sup\s*>", re.IGNORECASE)
_RAISED = str.maketrans("0123456789+-−–n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻ⁿ")
# Characters that a later pass would take for markup, as entities, which the last pass decodes.
_PROTECTED = {ord(sign): f"&#{ord(sign)};" for sign in "[]{}|'=*#:;<>~_()-!&"}
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def without_tags(text: str) -> str:
    """The wikitext without comments and tags; formulas, code and <nowiki> are kept, safe from later passes.

    Linear in the text's length, whatever it holds: an opener without its closer is looked for only once.

    >>> without_tags("Tin<!-- Sn --><ref name='a>b'>Smith</ref> melts<br/>at 10<sup>2</sup> K, <nowiki>[[x]]</nowiki>")
    'Tin melts\\nat 10² K, &#91;&#91;x&#93;&#93;'
    """
    if "<" not in text:
        return text
    return _Tags(text).run()


def decode_entities(text: str) -> str:
    """The text with its entities as characters, once: ``&amp;lt;`` gives ``&lt;``. Unknown ones stay.

    >>> decode_entities("AT&amp;T &ndash; &#8364;9 &amp;lt; &unknown; ?a=1&copy=2")
    'AT&T – €9 &lt; &unknown; ?a=1&copy=2'
    """
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    name = found[1]
    if name[0] != "#":
        return html5.get(name + ";", found[0])
    point = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    if point in (9, 10):
        return " "
    if point < 32 or 0x7F <= point < 0xA0 or 0xD800 <= point < 0xE000 or point > 0x10FFFF:
        return ""  # no character that a text may hold
    return chr(point)


class _Tags:
    def __init__(self, text: str) -> None:
        self.text = text
        self.out: list[str] = []
        self.closers: dict[str, re.Match[str] | None] = {}  # the next closer of each name, as far as it was looked for
        self.tables: dict[int, int] | None = None  # where an HTML table begins → where it ends

    def run(self) -> str:
        text, out = self.text, self.out
        place = 0
        search = _TAG.search
        while (found := search(text, place)) is not None:
            out.append(text[place : found.start()])
            place = self._comment(found) if found[1] else self._tag(found)
        out.append(text[place:])
        return "".join(out)

    def _comment(self, found: re.Match[str]) -> int:
        """Where the text goes on. As in MediaWiki, a comment that is not closed runs to the end."""
        end = self.text.find("-->", found.end())
        return len(self.text) if end < 0 else end + 3

    def _tag(self, found: re.Match[str]) -> int:
        """Add what is kept of a tag; the place where the text goes on."""
        name, end = found[3].lower(), found.end()
        if name == "ref":
            return self._ref(found)
        if name == "table" and not found[2]:
            return self._table(found)
        if name == "sup" and not found[2] and (raised := _EXPONENT.match(self.text, end)) is not None:
            self.out.append(raised[1].translate(_RAISED))
            return raised.end()
        if name in _BREAKING:
            self.out.append("\n")
        elif (name in _DROPPED or name in _LITERAL) and not found[2] and not found[4].endswith("/"):
            closer = self._closer(name, end)
            if closer is None:
                return end
            if name in _LITERAL:
                self._literal(name, self.text[end : closer.start()])
            return closer.end()
        return end

    def _ref(self, found: re.Match[str]) -> int:
        """Skip a note. One that is not closed before the next one opens was forgotten: it ends with its line."""
        if found.start() and self.text[found.start() - 1] == " ":
            self.out.append(GAP)
        if found[2] or found[4].endswith("/"):
            return found.end()
        closer = self._closer("ref", found.end())
        last = closer.start() if closer is not None else len(self.text)
        place = found.end()
        while closer is not None and (place := self.text.find("<ref", place, last)) >= 0:
            inner = _TAG.match(self.text, place)
            if inner is not None and inner[3].lower() == "ref" and not inner[4].endswith("/"):
                closer = None
            place += 4
        if closer is not None:
            return closer.end()
        end = self.text.find("\n", found.end())
        following = self.text.find("<ref", found.end(), end if end >= 0 else len(self.text))
        return following if following >= 0 else end if end >= 0 else len(self.text)

    def _literal(self, name: str, content: str) -> None:
        if name in _FORMULAS:
            self.out.append(" ".join(content.split()).translate(_PROTECTED))
        elif name == "nowiki":
            self.out.append(decode_entities(content).translate(_PROTECTED))
        else:
            lines = decode_entities(_NOWIKI.sub("", content)).translate(_PROTECTED).strip("\n")
            self.out.append("\n" + lines.replace("\n ", "\n&#32;").replace("  ", " &#32;") + "\n")

    def _table(self, found: re.Match[str]) -> int:
        if self.tables is None:
            self.tables = {}
            open_tables: list[int] = []
            for one in _TABLE.finditer(self.text):
                if not one[1]:
                    open_tables.append(one.start())
                elif open_tables:
                    self.tables[open_tables.pop()] = one.end()
        self.out.append("\n")
        end = self.tables.get(found.start())
        if end is None:
            return found.end()
        after = self.text.find(">", end)
        return after + 1 if after >= 0 else len(self.text)

    def _closer(self, name: str, start: int) -> re.Match[str] | None:
        """The first closer at or behind a place; each is searched for once, as the places only grow."""
        if name not in self.closers or ((known := self.closers[name]) is not None and known.start() < start):
            self.closers[name] = _closing(name).search(self.text, start)
        return self.closers[name]


@cache
def _closing(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}\s*>", re.IGNORECASE)
