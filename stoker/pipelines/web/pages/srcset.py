"""The srcset attribute, split as browsers split it, and the choice among its candidates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SPACE = " \t\n\f\r"
_WIDTH = re.compile(r"([0-9]{1,9})w")
_DENSITY = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]{1,2})?)x")
_HEIGHT = re.compile(r"[0-9]{1,9}h")
MAX_CANDIDATES = 200


@dataclass(frozen=True, slots=True)
class Choice:
    """One size of an image; ``width`` in pixels if told, else its density in pixels per CSS pixel."""

    url: str
    width: int = 0
    density: float = 1.0


def parse(text: str) -> list[Choice]:
    """The candidates in order; those with descriptors that mean nothing are left out, as the standard says.

    A URL may hold commas, but not begin or end with one.
    Source: HTML Living Standard, "Parsing a srcset attribute".

    >>> [(one.url, one.width, one.density) for one in parse("a,b.jpg 640w, c.jpg, d.jpg 2x")]
    [('a,b.jpg', 640, 1.0), ('c.jpg', 0, 1.0), ('d.jpg', 0, 2.0)]
    """
    found: list[Choice] = []
    place = 0
    while len(found) < MAX_CANDIDATES:
        while place < len(text) and text[place] in _SPACE + ",":
            place += 1
        if place >= len(text):
            break
        start = place
        while place < len(text) and text[place] not in _SPACE:
            place += 1
        url = text[start:place]
        descriptors: list[str] = []
        if url.endswith(","):
            url = url.rstrip(",")
        else:
            start = place
            place = _end_of_descriptors(text, place)
            descriptors = text[start:place].split()
        choice = _described(url, descriptors)
        if choice is not None:
            found.append(choice)
    return found


def choose(choices: Sequence[Choice], width: int) -> str | None:
    """The URL of the smallest candidate at least ``width`` pixels wide, else of the largest; 0: of the largest."""
    if not choices:
        return None
    measured = [one for one in choices if one.width]
    if not measured:
        return max(choices, key=lambda one: one.density).url  # the first of equals
    enough = [one for one in measured if width and one.width >= width]
    return min(enough, key=lambda one: one.width).url if enough else max(measured, key=lambda one: one.width).url


def _end_of_descriptors(text: str, place: int) -> int:
    """Where the next comma outside of parentheses is, or the text's end."""
    inside = False
    while place < len(text):
        if text[place] == "(":
            inside = True
        elif text[place] == ")":
            inside = False
        elif text[place] == "," and not inside:
            break
        place += 1
    return place


def _described(url: str, descriptors: Sequence[str]) -> Choice | None:
    width, density = 0, 0.0
    for descriptor in descriptors:
        if (match := _WIDTH.fullmatch(descriptor)) and not width and not density and int(match[1]):
            width = int(match[1])
        elif (match := _DENSITY.fullmatch(descriptor)) and not width and not density:
            density = float(match[1])
        elif not _HEIGHT.fullmatch(descriptor):
            return None
    return Choice(url, width, density or 1.0)
