"""The passes over lines of wikitext: emphasis, headings and lists, and the gaps that removed parts left."""

import re
from collections.abc import Iterator

from stoker.pipelines.wikipedia.wikitext.emphasis import BOUNDARY, strip_emphasis
from stoker.pipelines.wikipedia.wikitext.tags import GAP, SOFT_BREAK, decode_entities

_HEADING = "\x03"  # begins a heading's line, before its level: ``strip_lines`` drops headings without text
_UNCLOSED_LINE = re.compile(f"\x01[^\n{SOFT_BREAK}]*")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|ftps:|mailto:|news:|irc:|//)[^\s\[\]<>\"]*+[ \t]*+([^\[\]\n]*+)\]")
_MAGIC = re.compile(r"__[^\s_a-z]++(?:_[^\s_a-z]++)*+__")
_HEADING_LINE = re.compile(r"\n(=[^\n]*)")
_LIST = re.compile(r"\n(?:[*#:]++|;)[*#:;]*+[ \t]*")
_TERM = re.compile(r"\n;[*#:;]*+[ \t]*([^\n]*)")
_TABLE_LEFT = re.compile(r"\n[ \t]*+(?:\||!(?=[^\n]*(?:!!|\|)))[^\n]*")
_RULE = re.compile(r"\n----+")
_GAPS = re.compile("\x02(?:[ ;,:、，；：]*+\x02)++")
_SPACE_RUN = re.compile("   *")  # two spaces or more
_SPACES = ("\xa0", "\u2009", "\u202f", "\u200a", "\u2002", "\u2003", "&nbsp;", "&thinsp;", "&#160;")


_CHUNK = 1 << 18  # characters


def chunks(pieces: list[str]) -> Iterator[str]:
    """The text of pieces in chunks that end before a new line: a long page is worked on a chunk at a time.

    One character of four bytes makes each character of its string as large, so in one piece such a page is large. The
    pieces are taken out of their list.
    """
    pending: list[str] = []
    size = 0
    if sum(map(len, pieces)) <= _CHUNK:
        pending, pieces = pieces, []
    pieces.reverse()
    while pieces:
        piece, start = pieces.pop(), 0
        while size + len(piece) - start > _CHUNK:
            stop = piece.find("\n", start + max(0, _CHUNK - size))
            if stop < 0:
                break
            yield "".join([*pending, piece[start:stop]])
            pending, size, start = [], 0, stop
        pending.append(piece[start:])
        size += len(piece) - start
    yield "".join(pending)


def strip_line_markup(text: str) -> str:
    """The text without markup at the beginnings of lines, emphasis, external links and magic words.

    ``text`` begins with a newline. Headings become lines of ``_HEADING``, level and title, for ``strip_lines``.
    """
    if "\x01" in text:
        text = _UNCLOSED_LINE.sub("", text)
    if "''" in text or BOUNDARY in text:
        text = strip_emphasis(text)
    if SOFT_BREAK in text:
        text = text.replace(SOFT_BREAK, "\n")
    if "[" in text:
        text = _EXTERNAL.sub(_label, text)
    if "__" in text:
        text = _MAGIC.sub(GAP, text)
    if "\n;" in text:
        text = _TERM.sub(_term, text)
    text = _HEADING_LINE.sub(_heading, text)
    text = _LIST.sub("\n", text)
    if "\n|" in text or "\n!" in text or "\n " in text:
        text = _TABLE_LEFT.sub("\n", text)
    return _RULE.sub("\n", text)


def _label(match: re.Match[str]) -> str:
    return match[1] or GAP


def _term(match: re.Match[str]) -> str:
    """The term of a definition list; a definition on the same line gets a line of its own."""
    term, colon, definition = match[1].partition(" : ")
    if not colon:
        term, colon, definition = match[1].partition(": ")
    return f"\n{term}\n{definition}" if colon else f"\n{term}"


def _heading(match: re.Match[str]) -> str:
    line = match[1].rstrip(" \t" + GAP)
    title_and_close = line.lstrip("=")
    title = title_and_close.rstrip("=")
    closing = len(title_and_close) - len(title)
    if not closing or not title.strip():
        return match[0]
    level = min(len(line) - len(title_and_close), closing, 6)
    return f"\n{_HEADING}{level}{title.strip()}"


def strip_lines(page: list[str]) -> str:
    """The text without line markup, gaps and headings that have no text, with single spaces, blank lines and entities.

    ``page``: chunks that each begin with a newline, if no markup took it; they are taken out.
    """
    parts: list[str] = []
    # The page is read from its end: is there text below, up to the next heading; that heading's level; a blank line.
    has_text, next_level, blank = False, 0, False
    while page:
        kept: list[str] = []
        for line in reversed(_close_gaps(strip_line_markup(page.pop())).removeprefix("\n").split("\n")):
            line = line.strip(" \t")
            if not line:
                blank = True
                continue
            if line[0] == _HEADING:
                level = int(line[1])
                if not has_text and next_level <= level:
                    continue
                has_text, next_level, line = False, level, line[2:]
                if not line:
                    continue
            else:
                has_text = True
            if blank and (kept or parts):
                kept.append("")
            blank = False
            kept.append(line)
        if kept:
            parts.append(decode_entities("\n".join(reversed(kept))))
    return "\n".join(reversed(parts))


def _close_gaps(text: str) -> str:
    for space in _SPACES:
        if space in text:
            text = text.replace(space, " ")
    if GAP in text:
        text = _join_at_gaps(_GAPS.sub(GAP, text).split(GAP))
    return _SPACE_RUN.sub(" ", text)


def _join_at_gaps(pieces: list[str]) -> str:
    """The pieces between gaps, joined without the empty brackets, punctuation and spaces that the gaps leave."""
    out: list[str] = []
    left = pieces[0]
    for right in pieces[1:]:
        opened = left.rstrip(_BETWEEN)
        if opened[-3:] in ("(or", "and") and opened.endswith(("(or", "(and")):
            opened = opened[: opened.rindex("(") + 1]
        if opened.endswith(("(", "（")):
            right = right.lstrip(_BETWEEN)
            if right.startswith((")", "）")):
                left, right = opened[:-1].rstrip(" "), right[1:]
            else:
                left = opened
        elif right[:3].lstrip(_BETWEEN).startswith((")", "）")):
            left, right = opened, right.lstrip(_BETWEEN)
        elif right[:2].lstrip(" ")[:1] in _ENDS and right.strip(" ")[:1]:
            left, right = _join_punctuation(left.rstrip(" "), right.lstrip(" "))
        elif left[-2:].rstrip(" ")[-1:] in _COMMAS and right.lstrip(" ")[:1] in ("", "\n"):
            left = left.rstrip(" ")[:-1]
        elif left.endswith((" ", "\n")) or not left:
            right = right.lstrip(" ")
        out.append(left)
        left = right
    out.append(left)
    return "".join(out)


def _join_punctuation(left: str, right: str) -> tuple[str, str]:
    """Both sides of a gap with one sign between them: ``2009,`` and ``.`` give ``2009`` and ``.``."""
    before, after = _STRENGTH.get(left[-1:], 0), _STRENGTH[right[0]]
    if not left or left[-1] == "\n":
        return left, right[1:].lstrip(" ") if after < _FULL else right
    if before and before < after:
        return left[:-1].rstrip(" "), right
    if before and (before < _FULL or right[0] == left[-1]) and right[:2] != "..":
        return left, right[1:]
    return left, right


_BETWEEN = " ;,:、，；："  # signs between the members of a list
_COMMAS = frozenset(",、，")
_FULL = 3
_STRENGTH = dict.fromkeys(_COMMAS, 1) | dict.fromkeys(";:；：", 2) | dict.fromkeys(".!?。", _FULL)
_ENDS = frozenset(_STRENGTH)
