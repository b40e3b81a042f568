"""The last passes over wikitext: marks of emphasis, headings and lists, and the gaps that were left."""

import re

from stoker.pipelines.wikipedia.wikitext.tags import GAP

_HEADING = "\x03"
_UNCLOSED_LINE = re.compile("\x01[^\n]*")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|ftps:|mailto:|news:|irc:|//)[^\s\[\]<>\"]*+[ \t]*+([^\[\]\n]*+)\]")
_MAGIC = re.compile(r"__[^\s_a-z]++(?:_[^\s_a-z]++)*+__")
_VARIANT = re.compile(r"-\{([^{}]*+)\}-")
_QUOTES = re.compile(r"('{2,})")
_HEADING_LINE = re.compile(r"\n(=[^\n]*)")
_LIST = re.compile(r"\n(?:[*#:]++|;)[*#:;]*+[ \t]*")
_TERM = re.compile(r"\n;[*#:;]*+[ \t]*([^\n]*)")
_TABLE_LEFT = re.compile(r"\n[ \t]*+(?:\||!(?=[^\n]*(?:!!|\|)))[^\n]*")
_RULE = re.compile(r"\n-{4,}+")
_GAPS = re.compile("\x02(?:[ ;,:]*+\x02)++")
_SPACES = ("\xa0", "\u2009", "\u202f", "\u200a", "\u2002", "\u2003", "&nbsp;", "&thinsp;", "&#160;")


def unmarked(text: str, language: str) -> str:
    """The text without marks at the beginnings of lines, emphasis, outer links and magic words.

    It begins with a newline. Headings stay as lines that begin with a mark and their level, for ``mended``.
    """
    if "\x01" in text:
        text = _UNCLOSED_LINE.sub("", text)
    if "''" in text:
        text = _without_quotes(text)
    if "[" in text:
        text = _EXTERNAL.sub(_label, text)
    if "__" in text:
        text = _MAGIC.sub(GAP, text)
    if "-{" in text:
        text = _VARIANT.sub(lambda found: _variant(found[1], language), text)
    if "\n;" in text:
        text = _TERM.sub(_term, text)
    text = _HEADING_LINE.sub(_heading, text)
    text = _LIST.sub("\n", text)
    if "\n|" in text or "\n!" in text or "\n " in text:
        text = _TABLE_LEFT.sub("\n", text)
    return _RULE.sub("\n", text)


def _label(found: re.Match[str]) -> str:
    return found[1] or GAP


def _term(found: re.Match[str]) -> str:
    """A term, and its definition on a line of its own if it stands on the same one."""
    term, colon, definition = found[1].partition(" : ")
    if not colon:
        term, colon, definition = found[1].partition(": ")
    return f"\n{term}\n{definition}" if colon else f"\n{term}"


def _heading(found: re.Match[str]) -> str:
    line = found[1].rstrip(" \t" + GAP)
    title = line.lstrip("=")
    level = len(line) - len(title)
    shown = title.rstrip("=")
    closing = len(title) - len(shown)
    if not closing or not shown.strip():
        return found[0]
    level = min(level, closing, 6)
    return f"\n{_HEADING}{level}{shown.strip()}"


def _variant(body: str, language: str) -> str:
    """What -{zh-hans:…; zh-hant:…}- shows: the first form, as the page stands in no one variant."""
    flags, bar, rest = body.partition("|")
    if bar and set(flags.strip()) & set("HTRD-"):
        return rest if "D" in flags or ("R" in flags and "T" not in flags) else ""
    forms = rest if bar else body
    first, _, _ = forms.partition(";")
    code, colon, shown = first.partition(":")
    return shown.strip() if colon and code.strip().startswith(language.partition("-")[0]) else forms.strip()


def _without_quotes(text: str) -> str:
    pieces = _QUOTES.split(text)
    first, bold, italic = 1, 0, 0  # the line's first mark, and how many there are of each
    for place in range(1, len(pieces), 2):
        length = len(pieces[place])
        bold += length in (3, 4) or length >= 5
        italic += length == 2 or length >= 5
        kept = 1 if length == 4 else max(0, length - 5)
        pieces[place] = "'" * kept if kept else pieces[place]
        if "\n" in pieces[place + 1] or place + 2 >= len(pieces):
            _end_of_line(pieces, first, place, apostrophe=bool(bold % 2 and italic % 2))
            first, bold, italic = place + 2, 0, 0
    return "".join(pieces)


def _end_of_line(pieces: list[str], first: int, last: int, *, apostrophe: bool) -> None:
    """Take the marks of a line away. Where neither bold nor italic is closed, one ''' was ' and '': l'''eau''."""
    for place in range(first, last + 1, 2):
        if pieces[place] in ("''", "'''", "'''''"):
            before = pieces[place - 1]
            if apostrophe and pieces[place] == "'''" and before[-1:].isalpha() and not before[-2:-1].isalpha():
                pieces[place] = "'"
                apostrophe = False
            else:
                pieces[place] = ""


def mended(text: str) -> str:
    """The text with its gaps closed, blanks and blank lines single, and no heading that has nothing under it."""
    for space in _SPACES:
        if space in text:
            text = text.replace(space, " ")
    if GAP in text:
        text = _closed(_GAPS.sub(GAP, text).split(GAP))
    while "  " in text:
        text = text.replace("  ", " ")
    kept: list[str] = []
    under, next_level, blank = False, 0, False  # of the lines below, as the page is read from its end
    for line in reversed(text.split("\n")):
        line = line.strip(" \t")
        if not line:
            blank = True
            continue
        if line[0] == _HEADING:
            level = int(line[1])
            if not under and next_level <= level:
                continue
            under, next_level, line = False, level, line[2:]
            if not line:
                continue
        else:
            under = True
        if blank and kept:
            kept.append("")
        blank = False
        kept.append(line)
    return "\n".join(reversed(kept))


def _closed(pieces: list[str]) -> str:
    """The pieces between gaps, joined without the brackets, marks and blanks that the gaps leave over."""
    out: list[str] = []
    left = pieces[0]
    for right in pieces[1:]:
        opened = left.rstrip(" ;,:")
        if opened[-3:] in ("(or", "and") and opened.endswith(("(or", "(and")):
            opened = opened[: opened.rindex("(") + 1]
        if opened.endswith(("(", "（")):
            right = right.lstrip(" ;,:")
            if right.startswith((")", "）")):
                left, right = opened[:-1].rstrip(" "), right[1:]
            else:
                left = opened
        elif right[:3].lstrip(" ;,:").startswith((")", "）")):
            left, right = opened, right.lstrip(" ;,:")
        elif right[:2].lstrip(" ")[:1] in _ENDS and right.strip(" ")[:1]:
            left, right = left.rstrip(" "), right.lstrip(" ")
        elif left.endswith((" ", "\n")) or not left:
            right = right.lstrip(" ")
        out.append(left)
        left = right
    out.append(left)
    return "".join(out)


_ENDS = frozenset(".,;:!?。、，；：")
