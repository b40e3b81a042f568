"""The passes over lines of wikitext: emphasis, headings and lists, and the gaps that removed parts left."""

import re

from stoker.pipelines.wikipedia.wikitext.tags import GAP

_HEADING = "\x03"  # begins a heading's line, before its level: ``close_gaps`` drops headings without text
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


def strip_line_markup(text: str, language: str) -> str:
    """The text without markup at the beginnings of lines, emphasis, external links and magic words.

    ``text`` begins with a newline. Headings become lines of ``_HEADING``, level and title, for ``close_gaps``.
    """
    if "\x01" in text:
        text = _UNCLOSED_LINE.sub("", text)
    if "''" in text:
        text = _strip_quotes(text)
    if "[" in text:
        text = _EXTERNAL.sub(_label, text)
    if "__" in text:
        text = _MAGIC.sub(GAP, text)
    if "-{" in text:
        text = _VARIANT.sub(lambda match: _variant(match[1], language), text)
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


def _variant(body: str, language: str) -> str:
    """What -{zh-hans:…; zh-hant:…}- shows: the first form, because a page is written in no single variant."""
    flags, bar, rest = body.partition("|")
    if bar and set(flags.strip()) & set("HTRD-"):
        return rest if "D" in flags or ("R" in flags and "T" not in flags) else ""
    forms = rest if bar else body
    first, _, _ = forms.partition(";")
    code, colon, form = first.partition(":")
    return form.strip() if colon and code.strip().startswith(language.partition("-")[0]) else forms.strip()


def _strip_quotes(text: str) -> str:
    """The text without the quotes that mark bold and italic, line by line, as MediaWiki pairs them."""
    pieces = _QUOTES.split(text)  # text and quotes alternately
    first, bold, italic = 1, 0, 0  # index of the line's first quotes; how many quotes mark bold, and italic
    for index in range(1, len(pieces), 2):
        length = len(pieces[index])
        bold += length in (3, 4) or length >= 5
        italic += length == 2 or length >= 5
        literal = 1 if length == 4 else max(0, length - 5)  # apostrophes beside the mark
        pieces[index] = "'" * literal if literal else pieces[index]
        if "\n" in pieces[index + 1] or index + 2 >= len(pieces):
            _strip_quotes_of_line(pieces, first, index, apostrophe=bool(bold % 2 and italic % 2))
            first, bold, italic = index + 2, 0, 0
    return "".join(pieces)


def _strip_quotes_of_line(pieces: list[str], first: int, last: int, *, apostrophe: bool) -> None:
    """Remove the quotes with indices from ``first`` to ``last``.

    ``apostrophe``: neither bold nor italic is closed, so one ''' is an apostrophe and italic, as in l'''eau''.
    """
    for index in range(first, last + 1, 2):
        if pieces[index] in ("''", "'''", "'''''"):
            before = pieces[index - 1]
            if apostrophe and pieces[index] == "'''" and before[-1:].isalpha() and not before[-2:-1].isalpha():
                pieces[index] = "'"
                apostrophe = False
            else:
                pieces[index] = ""


def close_gaps(text: str) -> str:
    """The text with its gaps closed, single spaces and blank lines, and without headings that have no text."""
    for space in _SPACES:
        if space in text:
            text = text.replace(space, " ")
    if GAP in text:
        text = _join_at_gaps(_GAPS.sub(GAP, text).split(GAP))
    while "  " in text:
        text = text.replace("  ", " ")
    kept: list[str] = []
    # The page is read from its end: is there text below, up to the next heading; that heading's level; a blank line.
    has_text, next_level, blank = False, 0, False
    for line in reversed(text.split("\n")):
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
        if blank and kept:
            kept.append("")
        blank = False
        kept.append(line)
    return "\n".join(reversed(kept))


def _join_at_gaps(pieces: list[str]) -> str:
    """The pieces between gaps, joined without the empty brackets, punctuation and spaces that the gaps leave."""
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
