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
    title = title_of(text)
    if len(lines) > 1 and _UNDERLINE.fullmatch(lines[1]):
        lines = lines[2:]
    body, notes = _footnotes(lines)
    page = _PageConverter(title, titles, notes)
    rendered = list(page.render(body, ""))
    if notes:
        rendered += ["", "== Notes ==", "<references />"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(rendered)).strip("\n")


def _footnotes(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """The lines before the footnotes, and the footnotes by number."""
    start = next((index for index, line in enumerate(lines) if line.startswith("-[ Footnotes ]-")), len(lines))
    notes: dict[str, str] = {}
    number = ""
    for line in lines[start + 1 :]:
        match = _FOOTNOTE.match(line)
        if match:
            number = match[1]
            notes[number] = line[match.end() :]
        elif number and line.strip():
            notes[number] = _joined([notes[number], line])
    return lines[:start], notes


@dataclass
class _PageConverter:
    """Converts the text of one page; remembers the heading styles, links and footnotes that it has used."""

    title: str
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
                if other is not None and other != self.title:
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

    def _level(self, underline: str) -> int:
        if underline not in self.levels:
            self.levels.append(underline)
        return min(self.levels.index(underline) + 2, 6)

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
            self._code(piece, links) if index % 2 else self._prose(piece, links) for index, piece in enumerate(pieces)
        )

    def _code(self, piece: str, links: bool) -> str:
        shown = f"<nowiki>{escape(piece, quote=False)}</nowiki>" if _SPECIAL.search(piece) else piece
        title = self.titles.get(piece.lower())
        if links and title is not None and self._first_link(title):
            return f"<code>[[{title}|{shown}]]</code>"
        return f"<code>{shown}</code>"

    def _prose(self, piece: str, links: bool) -> str:
        text = escape(piece, quote=False).replace("[[", "&#91;&#91;").replace("{{", "&#123;&#123;")
        text = _PEP.sub(lambda match: f"[https://peps.python.org/pep-{int(match[1]):04d}/ PEP {match[1]}]", text)
        text = re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"'''\1'''", text)
        text = re.sub(r"(?<![\w*])\*(\S(?:[^*]*\S)?)\*(?![\w*])", r"''\1''", text)
        text = re.sub(r"\[(\d+)\]", self._cite, text)
        return _SECTION.sub(self._see, text) if links else text

    def _see(self, match: re.Match[str]) -> str:
        """A link if the words after "see" or "section" begin with another page's title."""
        words = match[2].split()
        for count in range(len(words), 1, -1):
            title = self.titles.get(" ".join(words[:count]).lower())
            if title is not None and self._first_link(title):
                shown, rest = " ".join(words[:count]), " ".join(["", *words[count:]])
                link = f"[[{title}]]" if shown == title else f"[[{title}|{shown}]]"
                return f"{match[1]} {link}{rest}"
        return match[0]

    def _first_link(self, title: str) -> bool:
        """Whether to link to the page: wikis link only its first mention."""
        if title == self.title or title in self.linked:
            return False
        self.linked.add(title)
        return True

    def _cite(self, match: re.Match[str]) -> str:
        number = match[1]
        if number not in self.notes:
            return match[0]
        if number in self.cited:
            return f'<ref name="note{number}" />'
        self.cited.add(number)
        return f'<ref name="note{number}">{self._inline(self.notes[number], links=False)}</ref>'


def _blocks(lines: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The blocks of dedented text: kind, marker, and the block's lines, dedented."""
    index = 0
    while index < len(lines):
        line = lines[index]
        following = lines[index + 1] if index + 1 < len(lines) else ""
        start, item = index, _ITEM.match(line)
        index += 1
        if not line.strip():
            continue
        if line.startswith(" "):
            index = _indented(lines, index)
            yield "inner", "", _dedented(lines[start:index])
        elif _UNDERLINE.fullmatch(line):
            yield "rule", "", [line]
        elif line.startswith("+-"):
            while index < len(lines) and lines[index].startswith(("+", "|")):
                index += 1
            yield "table", "", lines[start:index]
        elif _UNDERLINE.fullmatch(following) and len(following) >= len(line) - 2:
            index += 1
            yield "heading", following[0], [line]
        elif item is not None:
            index = _indented(lines, index)
            yield "item", item[1], [line[item.end() :], *_dedented(lines[start + 1 : index], most=item.end())]
        elif following.startswith(" "):
            yield "term", "", [line]
        else:
            while index < len(lines) and lines[index].strip() and not lines[index].startswith(" "):
                index += 1
            yield "paragraph", "", lines[start:index]


def _indented(lines: list[str], index: int) -> int:
    """The end of the run of indented (or blank) lines that starts at ``index``."""
    end = index
    while index < len(lines) and (not lines[index].strip() or lines[index].startswith(" ")):
        index += 1
        if lines[index - 1].strip():
            end = index
    return end


def _dedented(lines: list[str], *, most: int = 80) -> list[str]:
    depth = min([most, *(len(line) - len(line.lstrip()) for line in lines if line.strip())])
    return [line[depth:] for line in lines]


def _joined(lines: list[str]) -> str:
    """The lines as one paragraph; a word that was broken after its hyphen is joined again."""
    return re.sub(r"(?<=\w-) (?=\w)", "", " ".join(line.strip() for line in lines))


def _table(lines: list[str]) -> Iterator[str]:
    """A grid table as a wikitable; cells of several lines are joined."""
    edges = [index for index, character in enumerate(lines[0]) if character == "+"]
    rows: list[list[str]] = []
    yield '{| class="wikitable"'
    for line in lines[1:]:
        if not line.startswith(("+", "|=")):
            cells = [line[left + 1 : right].strip() for left, right in pairwise(edges)]
            rows.append(cells)
            continue
        mark = "!" if "=" in line else "|"
        joined = [" ".join(filter(None, column)) for column in zip(*rows, strict=True)]
        if any(joined):
            yield "|-"
            yield from (
                f"{mark} {escape(cell.replace(chr(34), ''), quote=False).replace('|', '&#124;')}" for cell in joined
            )
        rows = []
    yield "|}"
