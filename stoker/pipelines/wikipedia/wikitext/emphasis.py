"""The pass over runs of apostrophes: which are bold and italic marks, and which are text."""

import re

BOUNDARY = "\x04"  # stands where a removed bracket or tag kept two runs of apostrophes apart
_RUN = re.compile(r"(''+)")  # as '{2,}, but with two literal characters to search for: ten times as fast
_BOLD, _BOTH = 3, 5  # apostrophes


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
    pieces = _RUN.split(text)  # text and runs alternately
    first, bolds, italics = 1, 0, 0  # index of the line's first run; how many runs mark bold, and italic
    bold_runs: list[int] = []  # indices of the line's bold marks
    for index in range(1, len(pieces), 2):
        length = len(pieces[index])
        if length == 2:
            italics += 1
            pieces[index] = ""
        elif length <= 4:
            bolds += 1
            bold_runs.append(index)
            pieces[index] = "'" if length == 4 else ""
        else:
            bolds, italics = bolds + 1, italics + 1
            pieces[index] = "'" * (length - _BOTH)
        if index + 2 == len(pieces) or "\n" in pieces[index + 1]:
            if bolds % 2 and italics % 2 and bold_runs:
                pieces[_apostrophe_among(pieces, bold_runs, first)] += "'"
            first, bolds, italics = index + 2, 0, 0
            bold_runs.clear()
    return "".join(pieces).replace(BOUNDARY, "")


def _apostrophe_among(pieces: list[str], bold_runs: list[int], first: int) -> int:
    """The bold mark that is an apostrophe and an italic mark.

    The first one after a word of one letter, else the first after a longer word, else the first after a space.
    """
    after_word = after_space = 0
    for index in bold_runs:
        before = pieces[index - 1]
        if index == first:  # what stands in earlier lines does not count
            before = before[before.rfind("\n") + 1 :]
        before = (before.replace(BOUNDARY, "") if BOUNDARY in before[-3:] else before) + pieces[index]
        if before[-1:] == " ":
            after_space = after_space or index
        elif before[-2:-1] == " ":
            return index
        else:
            after_word = after_word or index
    return after_word or after_space
