"""Parse the srcset attribute as browsers do, and choose one of its images by width."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SPACE = " \t\n\f\r"
_WIDTH = re.compile(r"([0-9]{1,9})w")
_DENSITY = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]{1,2})?)x")
_HEIGHT = re.compile(r"[0-9]{1,9}h")
MAX_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class SrcsetEntry:
    """One size of an image: its width in pixels if given (else 0), or its density in pixels per CSS pixel."""

    url: str
    width: int = 0
    density: float = 1.0


def parse(text: str) -> list[SrcsetEntry]:
    """The entries in order; those with invalid descriptors are left out, as the standard says.

    A URL may hold commas, but not begin or end with one.
    Source: HTML Living Standard, "Parsing a srcset attribute".

    >>> [(entry.url, entry.width, entry.density) for entry in parse("a,b.jpg 640w, c.jpg, d.jpg 2x")]
    [('a,b.jpg', 640, 1.0), ('c.jpg', 0, 1.0), ('d.jpg', 0, 2.0)]
    """
    entries: list[SrcsetEntry] = []
    position = 0
    while len(entries) < MAX_ENTRIES:
        while position < len(text) and text[position] in _SPACE + ",":
            position += 1
        if position >= len(text):
            break
        start = position
        while position < len(text) and text[position] not in _SPACE:
            position += 1
        url = text[start:position]
        descriptors: list[str] = []
        if url.endswith(","):
            url = url.rstrip(",")
        else:
            start = position
            position = _end_of_descriptors(text, position)
            descriptors = text[start:position].split()
        entry = _entry(url, descriptors)
        if entry is not None:
            entries.append(entry)
    return entries


def choose(entries: Sequence[SrcsetEntry], width: int) -> str | None:
    """The URL of the smallest image at least ``width`` pixels wide, else of the largest; 0: of the largest."""
    chosen = choose_entry(entries, width)
    return None if chosen is None else chosen.url


def choose_entry(entries: Sequence[SrcsetEntry], width: int) -> SrcsetEntry | None:
    """As ``choose``, the entry itself. The choice of a list can stand for the list in a longer one."""
    if not entries:
        return None
    with_width = [entry for entry in entries if entry.width]
    if not with_width:
        return max(entries, key=lambda entry: entry.density)  # the first of equals
    wide_enough = [entry for entry in with_width if width and entry.width >= width]
    if wide_enough:
        return min(wide_enough, key=lambda entry: entry.width)
    return max(with_width, key=lambda entry: entry.width)


def _end_of_descriptors(text: str, position: int) -> int:
    """The position of the next comma outside of parentheses, or of the text's end."""
    in_parentheses = False
    while position < len(text):
        if text[position] == "(":
            in_parentheses = True
        elif text[position] == ")":
            in_parentheses = False
        elif text[position] == "," and not in_parentheses:
            break
        position += 1
    return position


def _entry(url: str, descriptors: Sequence[str]) -> SrcsetEntry | None:
    """The entry; None if a descriptor is invalid."""
    width, density = 0, 0.0
    for descriptor in descriptors:
        if (match := _WIDTH.fullmatch(descriptor)) and not width and not density and int(match[1]):
            width = int(match[1])
        elif (match := _DENSITY.fullmatch(descriptor)) and not width and not density:
            density = float(match[1])
        elif not _HEIGHT.fullmatch(descriptor):
            return None
    return SrcsetEntry(url, width, density or 1.0)
