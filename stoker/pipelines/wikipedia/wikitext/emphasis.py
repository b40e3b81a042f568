"""The pass over runs of apostrophes: which are bold and italic marks, and which are text."""

import re

BOUNDARY = "\x04"  # stands where a removed bracket or tag kept two runs of apostrophes apart
_RUN = re.compile(r"''+")  # as '{2,}, but with two literal characters to search for: ten times as fast
_BOTH = 5  # apostrophes
_MAX_PIECES = 4096  # of text that are held one by one


def strip_emphasis(text: str) -> str:
    """The text without bold and italic marks, line by line; apostrophes that MediaWiki shows stay.

    The rules are those of ``Parser::doQuotes`` in MediaWiki: of four apostrophes the first is text, of more than five
    all but the last five; and where a line opens an odd number of both bold and italic, one bold mark is an apostrophe
    and an italic mark.

    >>> strip_emphasis("''Ann'''s book"), strip_emphasis("de l'''eau''"), strip_emphasis("'''''both''' it'' ''''I'''")
    ("Ann's book", "de l'eau", "both it 'I")
    """
    if "''" not in text:
        return text.replace(BOUNDARY, "")
    apostrophes = _find_apostrophes(text)
    parts: list[str] = []
    pieces: list[str] = []
    end = 0  # of the run before
    for match in _RUN.finditer(text):
        start, stop = match.span()
        length = stop - start
        pieces.append(text[end:start])
        end = stop
        if length > 3 or start in apostrophes:
            pieces.append("'" * ((length == 4) + max(0, length - _BOTH) + (start in apostrophes)))
        if len(pieces) > _MAX_PIECES:
            parts.append("".join(pieces))
            pieces.clear()
    return "".join([*parts, *pieces, text[end:]]).replace(BOUNDARY, "")


def _find_apostrophes(text: str) -> set[int]:
    """Where the bold marks begin that are an apostrophe and an italic mark, at most one a line."""
    found: set[int] = set()
    begin = end = 0  # of the line; of the run before
    bolds = italics = 0  # how many runs of the line mark bold, and italic
    for match in _RUN.finditer(text):
        start, stop = match.span()
        if (line := text.rfind("\n", end, start)) >= 0:
            if bolds % 2 and italics % 2:
                found.add(_apostrophe_in(text, begin, end))
            begin, bolds, italics = line + 1, 0, 0
        length = stop - start
        if length == 2:
            italics += 1
        else:
            bolds += 1
            italics += length > 4
        end = stop
    if bolds % 2 and italics % 2:
        found.add(_apostrophe_in(text, begin, end))
    return found


def _apostrophe_in(text: str, begin: int, end: int) -> int:
    """Where the bold mark of a line begins that is an apostrophe and an italic mark; -1 if it has none.

    The first one after a word of one letter, else the first after a longer word, else the first after a space.
    """
    after_word = after_space = -1
    for match in _RUN.finditer(text, begin, end):
        start, stop = match.span()
        if stop - start in (3, 4):
            before = text[max(begin, start - 3) : start]
            if BOUNDARY in before:
                before = text[begin:start].replace(BOUNDARY, "")
            before += "'" * (stop - start - 3)
            if before[-1:] == " ":
                after_space = start if after_space < 0 else after_space
            elif before[-2:-1] == " ":
                return start
            else:
                after_word = start if after_word < 0 else after_word
        begin = stop
    return after_word if after_word >= 0 else after_space
