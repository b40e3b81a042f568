"""The first pass over wikitext: comments, tags in angle brackets, and HTML entities."""

import re
from functools import cache
from html.entities import html5

from stoker.pipelines.wikipedia.wikitext.emphasis import BOUNDARY

GAP = "\x02"  # marks where something was removed from a line, for ``lines.strip_lines``
SOFT_BREAK = "\x0b"  # a new line that a tag makes: for bold and italic marks the line goes on. str.strip() takes it off


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


# Tags that are removed with their contents.
_DROPPED = word_set("""
    categorytree dynamicpagelist gallery graph hiero imagemap includeonly indicator inputbox mapframe maplink ref
    references score templatedata templatestyles timeline
""")
# Tags whose contents are shown literally: nothing in them is markup.
_LITERAL = word_set("ce chem math nowiki pre source syntaxhighlight")
_FORMULAS = word_set("ce chem math")
# Tags that break the line.
_BREAKING = word_set("""
    blockquote br caption center dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p poem table tbody td tfoot th thead tr ul
""")
# Tags that are removed and whose contents stay.
_STRIPPED = word_set("""
    abbr b bdi bdo big cite code data del dfn em font i ins kbd languages mark noinclude onlyinclude q rb rp rt rtc
    ruby s samp section small span strike strong sub sup time translate tt tvar u var wbr
""")
_NAMES = "|".join(sorted(_DROPPED | _LITERAL | _BREAKING | _STRIPPED))
# Groups: a comment's dashes, a closing tag's slash, the name, the attributes.
# A quoted attribute may hold ">". A match for one tag ends before the next "<", so every character is read once. That
# needs the possessive quantifiers (*+), which never backtrack.
_TAG = re.compile(
    rf"""<(?:(!--)|(/?)({_NAMES})(?=[\s/>])((?:[^<>"']|"[^"<\n]*+"|'[^'<\n]*+'|["'])*+|[^<>]*+)>)""", re.IGNORECASE
)
_NOWIKI = re.compile(r"</?nowiki\s*/?>", re.IGNORECASE)
_TABLE = re.compile(r"<(/?)table\b", re.IGNORECASE)
_EXPONENT = re.compile(r"([0-9+\-−–n]{1,12})</sup\s*>", re.IGNORECASE)
_RAISED = str.maketrans("0123456789+-−–n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻ⁿ")
# Characters that a later pass would take for markup, as entities; the last pass decodes them.
_PROTECTED = {ord(sign): f"&#{ord(sign)};" for sign in "[]{}|'=*#:;<>~_()-!&"}
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def strip_tags(text: str) -> str:
    """The wikitext without comments and tags; formulas, code and <nowiki> are kept and protected from later passes.

    Linear in the text's length for any input: the closing tag of a name is searched for once, not once a tag.

    >>> strip_tags("Tin<!-- Sn --><ref name='a>b'>Smith</ref> melts<br/>at 10<sup>2</sup> K, <nowiki>[[x]]</nowiki>")
    'Tin melts\\x0bat 10² K, &#91;&#91;x&#93;&#93;'
    """
    if "<" not in text:
        return text
    return _TagPass(text).run()


def decode_entities(text: str) -> str:
    """The text with its HTML entities decoded once: ``&amp;lt;`` gives ``&lt;``. Unknown entities stay.

    >>> decode_entities("AT&amp;T &ndash; &#8364;9 &amp;lt; &unknown; ?a=1&copy=2")
    'AT&T – €9 &lt; &unknown; ?a=1&copy=2'
    """
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    name = match[1]
    if name[0] != "#":
        return html5.get(name + ";", match[0])
    point = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    if point in (9, 10):
        return " "
    if point < 32 or 0x7F <= point < 0xA0 or 0xD800 <= point < 0xE000 or point > 0x10FFFF:
        return ""  # a control character, a surrogate, or none at all
    return chr(point)


class _TagPass:
    def __init__(self, text: str) -> None:
        self.text = text
        self.out: list[str] = []
        self.closers: dict[str, re.Match[str] | None] = {}  # name → its last closing tag that was searched for
        self.tables: dict[int, int] | None = None  # where each HTML table begins → where it ends

    def run(self) -> str:
        text, out = self.text, self.out
        position = 0
        search = _TAG.search
        while (match := search(text, position)) is not None:
            out.append(text[position : match.start()])
            if match[1]:
                position = self._comment(match)
            else:
                position = self._tag(match)
                if text.startswith("'", position):
                    out.append(BOUNDARY)
        out.append(text[position:])
        return "".join(out)

    def _comment(self, match: re.Match[str]) -> int:
        """The end of a comment; as in MediaWiki, one that is not closed runs to the end of the text."""
        end = self.text.find("-->", match.end())
        return len(self.text) if end < 0 else end + 3

    def _tag(self, match: re.Match[str]) -> int:
        """Append what is kept of a tag, and return where the text goes on."""
        name, end = match[3].lower(), match.end()
        if name == "ref":
            return self._ref(match)
        if name == "table" and not match[2]:
            return self._table(match)
        if name == "sup" and not match[2] and (raised := _EXPONENT.match(self.text, end)) is not None:
            self.out.append(raised[1].translate(_RAISED))
            return raised.end()
        if name in _BREAKING:
            self.out.append(SOFT_BREAK)
        elif (name in _DROPPED or name in _LITERAL) and not match[2] and not match[4].endswith("/"):
            closer = self._closer(name, end)
            if closer is None:
                return end
            if name in _LITERAL:
                self._literal(name, self.text[end : closer.start()])
            return closer.end()
        return end

    def _ref(self, match: re.Match[str]) -> int:
        """The end of a footnote; one that is not closed before the next one opens ends with its line."""
        if match.start() and self.text[match.start() - 1] == " ":
            self.out.append(GAP)
        if match[2] or match[4].endswith("/"):
            return match.end()
        closer = self._closer("ref", match.end())
        last = closer.start() if closer is not None else len(self.text)
        position = match.end()
        while closer is not None and (position := self.text.find("<ref", position, last)) >= 0:
            inner = _TAG.match(self.text, position)
            if inner is not None and inner[3].lower() == "ref" and not inner[4].endswith("/"):
                closer = None
            position += 4
        if closer is not None:
            return closer.end()
        following = self.text.find("<ref", match.end())  # first: many of them on a line each search to the next alone
        stop = following if following >= 0 else len(self.text)
        end = self.text.find("\n", match.end(), stop)
        return end if end >= 0 else stop

    def _literal(self, name: str, content: str) -> None:
        """Append the contents of a tag, protected from later passes."""
        if name in _FORMULAS:
            self.out.append(" ".join(content.split()).translate(_PROTECTED))
        elif name == "nowiki":
            self.out.append(decode_entities(content).translate(_PROTECTED))
        else:
            lines = decode_entities(_NOWIKI.sub("", content)).translate(_PROTECTED).strip("\n")
            self.out.append("\n" + lines.replace("\n ", "\n&#32;").replace("  ", " &#32;") + "\n")

    def _table(self, match: re.Match[str]) -> int:
        """The end of an HTML table, which is left out."""
        if self.tables is None:
            self.tables = {}
            open_tables: list[int] = []
            for tag in _TABLE.finditer(self.text):
                if not tag[1]:
                    open_tables.append(tag.start())
                elif open_tables:
                    self.tables[open_tables.pop()] = tag.end()
        self.out.append("\n")
        end = self.tables.get(match.start())
        if end is None:
            return match.end()
        after = self.text.find(">", end)
        return after + 1 if after >= 0 else len(self.text)

    def _closer(self, name: str, start: int) -> re.Match[str] | None:
        """The first closing tag at or after ``start``, which only grows: each is searched for once."""
        if name not in self.closers or ((known := self.closers[name]) is not None and known.start() < start):
            self.closers[name] = _closing_tag(name).search(self.text, start)
        return self.closers[name]


@cache
def _closing_tag(name: str) -> re.Pattern[str]:
    return re.compile(rf"</{name}\s*>", re.IGNORECASE)
