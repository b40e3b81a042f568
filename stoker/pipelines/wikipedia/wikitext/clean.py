"""Plain text from wikitext: prose, headings, lists and labels of links, as a reader of the page sees them.

Kept: quantities, dates, foreign words and quotations in templates, formulas as TeX, code. Left out: footnotes,
infoboxes, navigation, files and their captions, categories, tables (unless asked for), and headings with nothing
under them.

Five passes: tags (``tags``), brackets (here), line markup (``lines``), gaps (``lines``), entities (``tags``). Each is
linear in the page's length for any input, because no regular expression backtracks.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from stoker.pipelines.wikipedia.wikitext.emphasis import BOUNDARY
from stoker.pipelines.wikipedia.wikitext.lines import chunks, strip_lines
from stoker.pipelines.wikipedia.wikitext.names import CODES, REDIRECT_WORDS
from stoker.pipelines.wikipedia.wikitext.namespaces import (
    ENGLISH_CATEGORIES,
    ENGLISH_FILES,
    ENGLISH_OPTIONS,
    has_file_option,
    is_picture,
    namespaces_of,
    normalise_namespace,
)
from stoker.pipelines.wikipedia.wikitext.tags import GAP, SOFT_BREAK, strip_tags
from stoker.pipelines.wikipedia.wikitext.templates import normalise_name, render_list_item, render_template
from stoker.pipelines.wikipedia.wikitext.variants import choose_variants, variants_of

UNCLOSED = "\x01"  # marks where a template opens, in case it is never closed
_MAX_DEPTH = 48  # of nested brackets; MediaWiki gives up at 40
_MAX_STACK = 4096  # open brackets; those beyond are only counted

# A link or template without another inside is one token. Possessive quantifiers ([^…]*+) never backtrack.
_SIMPLE = r"\[\[[^\[\]{}|:#\n]*+(?:\|[^\[\]{}\n]*+)?+\]\]|\{\{[^{}\[\]]*+\}\}|\[\[|\]\]|\{\{|\}\}"
_BRACKETS = re.compile(rf"({_SIMPLE})")
_BRACKETS_AND_TABLES = re.compile(rf"({_SIMPLE}|\n[ \t:*#]*+\{{\||\n[ \t]*+\|\}}(?!\}}))")
_STRETCH = 1 << 18  # characters of which the tokens are held
_ORDINARY = re.compile(r"[^\[\]{}|\s:;*#]")  # before it the text may be split: no bracket or mark of a list goes on
_REDIRECT = re.compile(r"\s*#([^\s\[#]{2,40})\s*:?\s*\[\[[^\[\]\n]{1,512}\]\]")
_LIST_MARKS = frozenset("*#:")
_CLOSERS = {"[[": "]]", "{{": "}}", "{|": ""}


@dataclass(frozen=True)
class WikiLocale:
    """A wiki's language and the names of its namespaces of files and categories, from a dump's siteinfo."""

    language: str = "en"
    files: frozenset[str] = ENGLISH_FILES  # in lower case
    categories: frozenset[str] = ENGLISH_CATEGORIES  # in lower case
    file_options: frozenset[str] = ENGLISH_OPTIONS  # words that make a thumbnail or a frame
    variant: str = ""  # that marks such as -{zh-hans:…; zh-hant:…}- are read in; empty: the wiki has no variants

    @classmethod
    def of(
        cls, language: str, files: Iterable[str] = (), categories: Iterable[str] = (), *, variant: str = ""
    ) -> "WikiLocale":
        """The locale of a wiki whose namespaces have these names beside the English ones, which every wiki accepts.

        ``variant``: what pages are read in, on wikis that convert variants; by default the wiki's first.
        """
        known = namespaces_of(language)
        variants = variants_of(language)
        chosen = next((name for name in (variant, language) if name in variants), variants[0] if variants else "")
        return cls(
            language,
            known.files.union(normalise_namespace(name) for name in files),
            known.categories.union(normalise_namespace(name) for name in categories),
            known.options,
            chosen,
        )


ENGLISH = WikiLocale()


def plain_text(
    wikitext: str, locale: WikiLocale = ENGLISH, *, tables: bool = False, dropped: Counter[str] | None = None
) -> str:
    """The page's text: paragraphs separated by a blank line, one line for each heading and list item.

    With ``tables`` the cells of tables are kept, one row a line, cells separated by tabs. Empty for a redirect.
    ``dropped`` counts the templates that show nothing, by name in lower case. Never raises.

    >>> plain_text("'''Tin''' ({{lang-la|stannum}}) is a [[metal]].<ref>Smith</ref> It melts at {{convert|232|C|F}}.")
    'Tin (Latin: stannum) is a metal. It melts at 232 °C.'
    """
    if redirect_target(wikitext) is not None:
        return ""
    text = strip_tags(_without_controls(wikitext))
    if locale.variant and "-{" in text:
        text = choose_variants(text, locale.variant)
    pieces = _BracketPass(locale, tables, dropped).run(text)
    if locale.variant and "-{" in (text := "".join(pieces)):  # those that hold templates
        pieces = [choose_variants(text, locale.variant)]
    del text
    return strip_lines(list(chunks(pieces)))


def redirect_target(wikitext: str) -> str | None:
    """The title that a page redirects to; None if it is no redirect.

    >>> redirect_target("#REDIRECT [[Tin#History]]"), redirect_target("# [[Tin]] is a metal")
    ('Tin#History', None)
    """
    match = _REDIRECT.match(wikitext)
    if match is None:
        return None
    word = match[1].rstrip(":")
    if word.lower() not in REDIRECT_WORDS and not (word.isupper() and len(word) > 4):
        return None
    target, _, _ = match[0].partition("[[")[2].removesuffix("]]").partition("|")
    return target.strip()


_CONTROLS = bytes([*range(9), *range(0x0B, 0x20), 0x7F])


def _without_controls(text: str) -> str:
    """The text without control characters, some of which the passes use as marks."""
    encoded = text.encode("utf-8", "surrogatepass")  # bytes are looked through three times as fast as by a pattern
    kept = encoded.translate(None, _CONTROLS)
    return text if len(kept) == len(encoded) else kept.decode("utf-8", "surrogatepass")


class _BracketPass:
    """The pass over [[links]], {{templates}} and {| tables |}.

    Keeps one list of text pieces and a stack of open brackets with their indices in it. When a bracket closes, its
    pieces are taken off the end of the list, rendered, and appended as one piece.
    """

    def __init__(self, locale: WikiLocale, tables: bool, dropped: Counter[str] | None) -> None:
        self.locale = locale
        self.tables = tables
        self.dropped = dropped
        self.out: list[str] = []
        self.stack: list[tuple[str, int]] = []  # open brackets, and where in ``out`` their contents begin
        self.merged = 0  # up to this index ``out`` is merged
        self.ignored = 0  # brackets that are open and not on the stack, for it is full
        self.open = {"[[": 0, "{{": 0, "{|": 0}  # how many of each kind are on the stack

    def run(self, text: str) -> list[str]:
        """The text after a newline, in pieces."""
        pattern = _BRACKETS
        if "{|" in text:
            pattern = _BRACKETS_AND_TABLES
            text = text.replace(f"{SOFT_BREAK}{{|", "\n{|").replace(f"{SOFT_BREAK}|}}", "\n|}")
        start = 0
        while start < len(text):  # a long page is split a stretch at a time: tokens take ten times the text's memory
            ordinary = _ORDINARY.search(text, start + _STRETCH, start + 2 * _STRETCH)
            stop = ordinary.start() if ordinary is not None else start + 2 * _STRETCH
            self._run(pattern.split("\n" + text[:stop] if start == 0 else text[start:stop]))
            self._merge()
            start = stop
        return self.out or ["\n"]

    def _merge(self) -> None:
        """Join what the innermost open bracket holds since the last call, for small pieces take much memory."""
        start = max(self.merged, self.stack[-1][1] if self.stack else 0)
        self.out[start:] = ["".join(self.out[start:])]
        self.merged = len(self.out)

    def _run(self, pieces: list[str]) -> None:
        """One stretch of the text, split into text and tokens alternately."""
        out, open_counts = self.out, self.open
        out.append(pieces[0])
        dropped_tables = not self.tables
        for token, after in zip(pieces[1::2], pieces[2::2], strict=True):
            kind = token[:2]
            if len(token) > 3 and token[-1] in "]}" and token[0] != "\n":
                if dropped_tables and open_counts["{|"]:
                    pass  # it is in a table that is left out
                elif kind == "{{":
                    out.append(self._template(token[2:-2], out[-1]))
                elif "|" in token or "'" in token:
                    out.append(self._link(token[2:-2]))
                else:  # most links are so simple, and the call costs more than the rest
                    out.append(token[2:-2].strip(" \n"))
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

    def _push(self, kind: str) -> None:
        self.out.append(UNCLOSED if kind == "{{" else "\n" if kind == "{|" else "")
        if len(self.stack) == _MAX_STACK:
            self.ignored += 1
            return
        self.stack.append((kind, len(self.out)))
        self.open[kind] += 1

    def _close(self, kind: str) -> str:
        """Close the innermost open bracket of a kind and return its contents.

        Brackets still open inside it were never closed: their contents stay as text. A closing bracket without an
        opening one is text, too; the end of a table is not.
        """
        if self.ignored:
            self.ignored -= 1
            return ""
        if not self.open[kind]:
            self.out.append(_CLOSERS[kind])
            return ""
        while True:
            innermost, start = self.stack.pop()
            self.open[innermost] -= 1
            if innermost == kind:
                break
        out = self.out
        body = ""
        if len(self.stack) >= _MAX_DEPTH:  # every level copies its contents: without a limit, quadratic
            rendered = GAP
        elif kind == "{|":
            rendered = "\n\n" + _render_table("".join(out[start:])) + "\n" if self.tables else "\n"
        else:
            body = "".join(out[start:])
            if kind == "[[":
                rendered = self._link(body)
            else:
                rendered = self._template(body.replace(UNCLOSED, ""), out[start - 2])
        del out[start - 1 :]
        self.merged = min(self.merged, start - 1)
        out.append(rendered)
        return body

    def _template(self, body: str, before: str) -> str:
        """What a template shows; a cited work only where a list item begins with it. ``before``: the text before it."""
        shown = render_template(body, self.locale.language)
        if shown != GAP:
            return shown
        marks = before.rstrip(" \t")
        if marks[-1:] in _LIST_MARKS and not marks[marks.rfind("\n") + 1 :].strip("*#:; \t"):
            shown = render_list_item(body, self.locale.language)
        if shown == GAP and self.dropped is not None:
            self.dropped[normalise_name(body.partition("|")[0].partition(":")[0])] += 1
        return shown

    def _link(self, body: str) -> str:
        """What a link shows; nothing for files, categories and links to other languages."""
        target, bar, label = body.partition("|")
        if ":" in target:
            prefix, _, rest = target.partition(":")
            name = normalise_namespace(prefix)
            if name in self.locale.files or name in self.locale.categories:
                return GAP
            if not name:  # [[:Category:Metals]]
                target = rest
            elif prefix in CODES or self._is_file(name, rest, label):
                return GAP
            elif name in ("http", "https"):
                return body.partition(" ")[2]
            if bar and not label.strip():
                target = rest
        if not bar:
            shown = target.strip(" \n")
        elif not label.strip():  # the pipe trick: [[Rome, Italy|]]
            shown = target.partition(" (")[0].partition(",")[0].strip()
        elif "|" not in label:
            shown = label
        elif has_file_option(label.split("|"), self.locale.file_options):
            return GAP
        else:
            shown = label.replace("|", "&#124;")
        return f"{BOUNDARY}{shown}{BOUNDARY}" if "'" in shown else shown

    def _is_file(self, namespace: str, title: str, label: str) -> bool:
        """Whether a link to a namespace that is not known is one to a file, by its title or its options."""
        return (namespace != "media" and is_picture(title)) or (
            label != "" and has_file_option(label.split("|"), self.locale.file_options)
        )


def _render_table(body: str) -> str:
    """The cells of a table: one row a line, cells separated by tabs."""
    rows: list[list[str]] = [[]]
    lines = body.replace(SOFT_BREAK, " ").split("\n")
    for line in lines[1:]:  # the first holds the table's attributes
        line = line.strip()
        mark, rest = line[:1], line[1:]
        if line[:2] in ("|-", "|+"):
            rows.append([])
            if line[1] == "+":
                rows[-1].append(_cell_text(line[2:]))
                rows.append([])
        elif mark in ("|", "!") and mark:
            cells = rest.replace("!!", "||").split("||") if mark == "!" else rest.split("||")
            rows[-1].extend(_cell_text(cell) for cell in cells)
        elif line and rows[-1]:
            rows[-1][-1] = f"{rows[-1][-1]} {line}".strip()
    return "\n".join("\t".join(row) for row in rows if any(row))


def _cell_text(cell: str) -> str:
    attributes, bar, text = cell.partition("|")
    return (text if bar and "=" in attributes else cell).strip()
