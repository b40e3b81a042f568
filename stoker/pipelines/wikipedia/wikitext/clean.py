"""The text that a reader of a wiki page sees, from its wikitext: prose, headings, lists and labels of links.

Kept: quantities, dates, foreign words and quotations that templates hold, formulas as TeX, code. Left out: notes,
boxes, navigation, files and their captions, categories, tables (unless asked for), and headings with nothing
under them. Five passes, each linear in the page's length whatever it holds, because nothing is tried a second way.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from stoker.pipelines.wikipedia.wikitext.lines import mended, unmarked
from stoker.pipelines.wikipedia.wikitext.names import CATEGORIES, CODES, FILES, REDIRECT_WORDS
from stoker.pipelines.wikipedia.wikitext.tags import GAP, decode_entities, without_tags
from stoker.pipelines.wikipedia.wikitext.templates import render

UNCLOSED = "\x01"  # stands where a template begins that does not end
_DEEPEST = 48  # brackets in brackets; MediaWiki gives up at 40

# A link or template without another inside is one token; [^…]*+ never tries a second way.
_SIMPLE = r"\[\[[^\[\]{}|:#\n]*+(?:\|[^\[\]{}\n]*+)?+\]\]|\{\{[^{}\[\]]*+\}\}|\[\[|\]\]|\{\{|\}\}"
_BRACKETS = re.compile(rf"({_SIMPLE})")
_BRACKETS_AND_TABLES = re.compile(rf"({_SIMPLE}|\n[ \t:*#]*+\{{\||\n[ \t]*+\|\}}(?!\}}))")
_REDIRECT = re.compile(r"\s*#([^\s\[#]{2,40})\s*:?\s*\[\[[^\[\]\n]{1,512}\]\]")
_FILES = frozenset(("file", "image"))
_CATEGORIES = frozenset(("category",))


@dataclass(frozen=True)
class WikiLocale:
    """What must be known of a wiki to read its pages; a dump's siteinfo says it."""

    language: str = "en"
    files: frozenset[str] = field(default=_FILES)  # names of the namespace of files, in small letters
    categories: frozenset[str] = field(default=_CATEGORIES)

    @classmethod
    def of(cls, language: str, files: Iterable[str] = (), categories: Iterable[str] = ()) -> "WikiLocale":
        """A wiki whose namespaces have these names beside the English ones, which every wiki understands."""
        files = [*files, *FILES.get(language, "").split()]
        categories = [*categories, *CATEGORIES.get(language, "").split()]
        return cls(
            language, _FILES | {_folded(name) for name in files}, _CATEGORIES | {_folded(name) for name in categories}
        )


ENGLISH = WikiLocale()


def plain_text(wikitext: str, wiki: WikiLocale = ENGLISH, *, tables: bool = False) -> str:
    """The page's text: paragraphs apart by a blank line, a line for each heading and point of a list.

    Never raises. With ``tables`` the cells are kept, a row to a line, cells apart by tabs. Empty for a redirect.

    >>> plain_text("'''Tin''' ({{lang-la|stannum}}) is a [[metal]].<ref>Smith</ref> It melts at {{convert|232|C|F}}.")
    'Tin (Latin: stannum) is a metal. It melts at 232 °C.'
    """
    if redirect_target(wikitext) is not None:
        return ""
    text = wikitext.translate(_CONTROLS) if _CONTROL.search(wikitext) else wikitext
    text = without_tags(text)
    text = _Brackets(wiki, tables).run("\n" + text)
    return decode_entities(mended(unmarked(text, wiki.language)))


def redirect_target(wikitext: str) -> str | None:
    """Where a page leads on to, if it is a redirect.

    >>> redirect_target("#REDIRECT [[Tin#History]]"), redirect_target("# [[Tin]] is a metal")
    ('Tin#History', None)
    """
    found = _REDIRECT.match(wikitext)
    if found is None:
        return None
    word = found[1].rstrip(":")
    if word.lower() not in REDIRECT_WORDS and not (word.isupper() and len(word) > 4):
        return None
    target, _, _ = found[0].partition("[[")[2].removesuffix("]]").partition("|")
    return target.strip()


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_CONTROLS = dict.fromkeys([*range(9), *range(0x0B, 0x20), 0x7F])


def _folded(name: str) -> str:
    return name.strip().replace("_", " ").lower()


class _Brackets:
    """The pass over [[links]], {{templates}} and {| tables |}.

    One list of pieces, and a stack of the places in it where something is open: what closes is taken off the end
    of the list, rendered, and put back as one piece.
    """

    def __init__(self, wiki: WikiLocale, tables: bool) -> None:
        self.wiki = wiki
        self.tables = tables
        self.out: list[str] = []
        self.stack: list[tuple[str, int]] = []  # what is open, and where in ``out`` its content begins
        self.open = {"[[": 0, "{{": 0, "{|": 0}

    def run(self, text: str) -> str:
        pattern = _BRACKETS_AND_TABLES if "{|" in text else _BRACKETS
        pieces = pattern.split(text)
        out, opened = self.out, self.open
        out.append(pieces[0])
        dropped_tables = not self.tables
        for token, after in zip(pieces[1::2], pieces[2::2], strict=True):
            kind = token[:2]
            if len(token) > 3 and token[-1] in "]}" and token[0] != "\n":
                if not (dropped_tables and opened["{|"]):  # nobody will see it
                    out.append(self._link(token[2:-2]) if kind == "[[" else render(token[2:-2], self.wiki.language))
            elif kind == "]]":
                self._close("[[")
            elif kind == "}}":
                if self._close("{{").startswith("{") and after[:1] == "}":  # {{{parameter|default}}}
                    after = after[1:]
            elif kind[0] != "\n":
                self._push(kind)
            elif token[-1] == "|":
                self._push("{|")
            else:
                self._close("{|")
            out.append(after)
        return "".join(out)

    def _push(self, kind: str) -> None:
        self.out.append(UNCLOSED if kind == "{{" else "\n" if kind == "{|" else "")
        self.stack.append((kind, len(self.out)))
        self.open[kind] += 1

    def _close(self, kind: str) -> str:
        """Close the nearest of a kind; what is open inside it was not meant so. A closer of nothing is no text.

        Returns what stood in it.
        """
        if not self.open[kind]:
            return ""
        while True:
            found, start = self.stack.pop()
            self.open[found] -= 1
            if found == kind:
                break
        out = self.out
        body = ""
        if len(self.stack) >= _DEEPEST:  # every level copies what it holds
            shown = GAP
        elif kind == "{|":
            shown = "\n\n" + _table("".join(out[start:])) + "\n" if self.tables else "\n"
        else:
            body = "".join(out[start:])
            shown = self._link(body) if kind == "[[" else render(body.replace(UNCLOSED, ""), self.wiki.language)
        del out[start - 1 :]
        out.append(shown)
        return body

    def _link(self, body: str) -> str:
        target, bar, label = body.partition("|")
        if ":" in target:
            prefix, _, rest = target.partition(":")
            name = _folded(prefix)
            if name in self.wiki.files or name in self.wiki.categories:
                return GAP
            if not name:  # [[:Category:Metals]]
                target = rest
            elif prefix in CODES:
                return GAP
            elif name in ("http", "https"):
                return body.partition(" ")[2]
            if bar and not label.strip():
                target = rest
        if not bar:
            return target.strip(" \n")
        if not label.strip():  # the pipe trick: [[Rome, Italy|]]
            return target.partition(" (")[0].partition(",")[0].strip()
        return label.replace("|", "&#124;")


def _table(body: str) -> str:
    """The cells of a table, a row to a line, cells apart by tabs."""
    rows: list[list[str]] = [[]]
    lines = body.split("\n")
    for line in lines[1:]:  # the first holds the table's attributes
        line = line.strip()
        mark, rest = line[:1], line[1:]
        if line[:2] in ("|-", "|+"):
            rows.append([])
            if line[1] == "+":
                rows[-1].append(_cell(line[2:]))
                rows.append([])
        elif mark in ("|", "!") and mark:
            cells = rest.replace("!!", "||").split("||") if mark == "!" else rest.split("||")
            rows[-1].extend(_cell(cell) for cell in cells)
        elif line and rows[-1]:
            rows[-1][-1] = f"{rows[-1][-1]} {line}".strip()
    return "\n".join("\t".join(row) for row in rows if any(row))


def _cell(cell: str) -> str:
    attributes, bar, text = cell.partition("|")
    return (text if bar and "=" in attributes else cell).strip()
