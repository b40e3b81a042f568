"""The Python handbook's plain text as wikitext: headings, lists, definitions, code, tables, links, footnotes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

_UNDERLINE = re.compile(r"([*=\-~^\"'+.])\1{2,}")
_ITEM = re.compile(r"(\*|\d+\.|#\.) +")
_CAPTION = re.compile(r"(Note|Warning|Important|Tip|See also|Example|Examples)s?:?")
_VERSION = re.compile(
    r"(New|Added|Changed|Deprecated since|Deprecated) (?:in )?(?:version )?(\d+\.\d+)(?:\.\d+)?[:.] *"
)
_FOOTNOTE = re.compile(r"\[(\d+)\] +")
_PEP = re.compile(r"\*\*PEP (\d+)\*\*")
_SECTION = re.compile(r"\b([Ss]ee|[Ss]ections?|in) ([A-Z][\w-]+(?: [\w-]+){0,5})")
_SPECIAL = re.compile(r"[\[\]{}<>&']|~~~|__")
_TEMPLATES = {"New": "Added in", "Added": "Added in", "Changed": "Changed in"}


def title_of(text: str) -> str:
    """The page title in the text's first line: without quotes, with a capital, as MediaWiki would have it.

    >>> title_of('"pdb" — The Python Debugger' + chr(10) + "*****")
    'Pdb — The Python Debugger'
    """
    first = text.lstrip().partition("\n")[0]
    plain = re.sub(r"[\"“”*#<>\[\]|{}_]", "", first).strip()
    return plain[:1].upper() + plain[1:]


def convert(text: str, titles: Mapping[str, str]) -> str:
    """The wikitext of a handbook page, without its title.

    ``titles`` maps what other pages are called in the text (in lower case) to their titles: the first mention of
    each becomes a link, and a section that is a page of its own becomes a pointer to that page.
    """
    lines = text.strip("\n").splitlines()
    own = title_of(text)
    if len(lines) > 1 and _UNDERLINE.fullmatch(lines[1]):
        lines = lines[2:]
    body, notes = _footnotes(lines)
    page = _Page(own, titles, notes)
    written = list(page.render(body, ""))
    if notes:
        written += ["", "== Notes ==", "<references />"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(written)).strip("\n")


def _footnotes(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """The lines before the footnotes, and the footnotes by number."""
    start = next((place for place, line in enumerate(lines) if line.startswith("-[ Footnotes ]-")), len(lines))
    notes: dict[str, str] = {}
    number = ""
    for line in lines[start + 1 :]:
        found = _FOOTNOTE.match(line)
        if found:
            number = found[1]
            notes[number] = line[found.end() :]
        elif number and line.strip():
            notes[number] = _joined([notes[number], line])
    return lines[:start], notes


@dataclass
class _Page:
    own: str
    titles: Mapping[str, str]
    notes: Mapping[str, str]
    levels: list[str] = field(default_factory=list)  # underline characters in order of their first use
    linked: set[str] = field(default_factory=set)
    cited: set[str] = field(default_factory=set)

    def render(self, lines: list[str], prefix: str) -> Iterator[str]:
        """The lines of wikitext for dedented lines; ``prefix`` is the list that they stand in, such as ``*:``."""
        after_colon = False
        hidden = 0  # level of the heading whose section is a page of its own
        for kind, marker, block in _blocks(lines):
            if kind == "heading":
                level = self._level(marker)
                if hidden and level > hidden:
                    continue
                hidden = 0
                other = self.titles.get(title_of(block[0]).lower())
                yield from ("", f"{'=' * level} {self._inline(block[0], links=False)} {'=' * level}")
                if other is not None and other != self.own:
                    hidden = level
                    yield f"{{{{Main|{other}}}}}"
            elif hidden:
                continue
            elif kind == "rule":
                yield "----"
            elif kind == "table":
                yield from _table(block)
            elif kind == "item":
                yield from self._item(marker, block, prefix)
            elif kind == "inner":
                yield from self._inner(block, prefix, literal=after_colon)
            else:
                yield from self._paragraph(block, prefix, term=kind == "term")
            after_colon = kind == "paragraph" and block[-1].endswith(":") and not _CAPTION.fullmatch(block[-1])

    def _level(self, mark: str) -> int:
        if mark not in self.levels:
            self.levels.append(mark)
        return min(self.levels.index(mark) + 2, 6)

    def _item(self, marker: str, block: list[str], prefix: str) -> Iterator[str]:
        inside = prefix + ("*" if marker == "*" else "#")
        first, *others = list(self.render(block, "")) or [""]
        yield f"{inside} {first}"
        verbatim = False
        for line in others:
            verbatim = verbatim or line.startswith(("<syntaxhighlight", "<pre"))
            if verbatim:
                yield line
            elif line:  # further paragraphs of an item are indented under it
                yield f"{inside}{line if line.startswith(('*', '#', ':', ';')) else f': {line}'}"
            verbatim = verbatim and not line.startswith("</")

    def _inner(self, block: list[str], prefix: str, *, literal: bool) -> Iterator[str]:
        text = "\n".join(block)
        if "::=" in text:
            yield from ("<pre>", f"<nowiki>{text}</nowiki>", "</pre>")
        elif literal or text.startswith((">>>", "...", "def ", "class ", "import ", "from ")):
            yield from ('<syntaxhighlight lang="python">', text, "</syntaxhighlight>")
        else:
            yield from self.render(block, prefix + ":")
        if not prefix:
            yield ""

    def _paragraph(self, block: list[str], prefix: str, *, term: bool) -> Iterator[str]:
        text = _joined(block)
        if term or _CAPTION.fullmatch(text):
            yield f"{prefix}; {self._inline(text)}"
        else:
            yield f"{prefix} {self._inline(text)}".strip()
        if not prefix and not term:
            yield ""

    def _inline(self, text: str, *, links: bool = True) -> str:
        version = _VERSION.match(text)
        head = ""
        if version is not None:
            head = f"{{{{{_TEMPLATES.get(version[1], 'Deprecated in')}|{version[2]}}}}} "
            text = text[version.end() :]
        pieces = re.split(r'"([^"]+)"', text)
        return head + "".join(
            self._code(piece, links) if place % 2 else self._prose(piece, links) for place, piece in enumerate(pieces)
        )

    def _code(self, piece: str, links: bool) -> str:
        shown = f"<nowiki>{escape(piece, quote=False)}</nowiki>" if _SPECIAL.search(piece) else piece
        title = self.titles.get(piece.lower())
        if links and title is not None and self._fresh(title):
            return f"<code>[[{title}|{shown}]]</code>"
        return f"<code>{shown}</code>"

    def _prose(self, piece: str, links: bool) -> str:
        text = escape(piece, quote=False).replace("[[", "&#91;&#91;").replace("{{", "&#123;&#123;")
        text = _PEP.sub(lambda found: f"[https://peps.python.org/pep-{int(found[1]):04d}/ PEP {found[1]}]", text)
        text = re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"'''\1'''", text)
        text = re.sub(r"(?<![\w*])\*(\S(?:[^*]*\S)?)\*(?![\w*])", r"''\1''", text)
        text = re.sub(r"\[(\d+)\]", self._cite, text)
        return _SECTION.sub(self._see, text) if links else text

    def _see(self, found: re.Match[str]) -> str:
        """A link where the words after "see" or "section" begin with another page's title."""
        words = found[2].split()
        for count in range(len(words), 1, -1):
            title = self.titles.get(" ".join(words[:count]).lower())
            if title is not None and self._fresh(title):
                shown, rest = " ".join(words[:count]), " ".join(["", *words[count:]])
                link = f"[[{title}]]" if shown == title else f"[[{title}|{shown}]]"
                return f"{found[1]} {link}{rest}"
        return found[0]

    def _fresh(self, title: str) -> bool:
        """Whether the page has not been linked to before, as the custom is."""
        if title == self.own or title in self.linked:
            return False
        self.linked.add(title)
        return True

    def _cite(self, found: re.Match[str]) -> str:
        number = found[1]
        if number not in self.notes:
            return found[0]
        if number in self.cited:
            return f'<ref name="note{number}" />'
        self.cited.add(number)
        return f'<ref name="note{number}">{self._inline(self.notes[number], links=False)}</ref>'


def _blocks(lines: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The blocks of dedented text: kind, mark, and the block's own lines, dedented."""
    place = 0
    while place < len(lines):
        line = lines[place]
        following = lines[place + 1] if place + 1 < len(lines) else ""
        start, item = place, _ITEM.match(line)
        place += 1
        if not line.strip():
            continue
        if line.startswith(" "):
            place = _indented(lines, place)
            yield "inner", "", _dedented(lines[start:place])
        elif _UNDERLINE.fullmatch(line):
            yield "rule", "", [line]
        elif line.startswith("+-"):
            while place < len(lines) and lines[place].startswith(("+", "|")):
                place += 1
            yield "table", "", lines[start:place]
        elif _UNDERLINE.fullmatch(following) and len(following) >= len(line) - 2:
            place += 1
            yield "heading", following[0], [line]
        elif item is not None:
            place = _indented(lines, place)
            yield "item", item[1], [line[item.end() :], *_dedented(lines[start + 1 : place], most=item.end())]
        elif following.startswith(" "):
            yield "term", "", [line]
        else:
            while place < len(lines) and lines[place].strip() and not lines[place].startswith(" "):
                place += 1
            yield "paragraph", "", lines[start:place]


def _indented(lines: list[str], place: int) -> int:
    """The end of the run of indented (or blank) lines from a place on."""
    end = place
    while place < len(lines) and (not lines[place].strip() or lines[place].startswith(" ")):
        place += 1
        if lines[place - 1].strip():
            end = place
    return end


def _dedented(lines: list[str], *, most: int = 80) -> list[str]:
    depth = min([most, *(len(line) - len(line.lstrip()) for line in lines if line.strip())])
    return [line[depth:] for line in lines]


def _joined(lines: list[str]) -> str:
    """One paragraph: a word that was broken at its hyphen is whole again."""
    return re.sub(r"(?<=\w-) (?=\w)", "", " ".join(line.strip() for line in lines))


def _table(lines: list[str]) -> Iterator[str]:
    """A grid table as a wikitable; cells of several lines are joined."""
    edges = [place for place, character in enumerate(lines[0]) if character == "+"]
    rows: list[list[str]] = []
    yield '{| class="wikitable"'
    for line in lines[1:]:
        if not line.startswith(("+", "|=")):
            cells = [line[left + 1 : right].strip() for left, right in pairwise(edges)]
            rows.append(cells)
            continue
        mark = "!" if "=" in line else "|"
        whole = [" ".join(filter(None, column)) for column in zip(*rows, strict=True)]
        if any(whole):
            yield "|-"
            yield from (
                f"{mark} {escape(cell.replace(chr(34), ''), quote=False).replace('|', '&#124;')}" for cell in whole
            )
        rows = []
    yield "|}"
