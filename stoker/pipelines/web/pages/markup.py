"""HTML as a row of tags and texts, in time linear in its length.

Not the standard library's ``html.parser``: up to Python 3.13 it takes quadratic time on unfinished tags and comments
(1 MB of ``<a <a <a`` runs for minutes; CVE-2025-6069), and raises
AssertionError on ``<![<![``. Pages are hostile input.
"""

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_GAP = re.compile(r"[\s/]*")
_ATTRIBUTE = re.compile(r"=?[^\s/>=]*")  # a name may begin with "=", as the standard has it
_EQUALS = re.compile(r"\s*=\s*")
_BARE = re.compile(r"[^\s>]*")
# Elements whose content is text up to their own end tag.
_RAW = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
_SILENT = frozenset(_RAW) - {"title"}


@dataclass(frozen=True, slots=True)
class Start:
    """A start tag; of a repeated attribute the first counts."""

    name: str  # lower case
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class End:
    """An end tag."""

    name: str  # lower case


def events(text: str) -> Iterator[Start | End | str]:
    """The tags and texts of a page in order, references resolved; comments, scripts and styles are left out.

    >>> list(events('<p class=a>x &lt; y<!-- no --></p>'))
    [Start(name='p', attributes={'class': 'a'}), 'x < y', End(name='p')]
    """
    place = 0
    while place < len(text):
        opened = text.find("<", place)
        if opened < 0:
            opened = len(text)
        if opened > place:
            yield unescaped(text[place:opened])
        after = text[opened + 1 : opened + 2]
        if after.isascii() and after.isalpha():
            start, place = _start(text, opened)
            if start is None:
                return  # the page ends inside of a tag
            yield start
            if start.name in _RAW:
                end = _RAW[start.name].search(text, place)
                stop = end.start() if end else len(text)
                if start.name not in _SILENT:
                    yield unescaped(text[place:stop])
                place = stop
        elif after in ("/", "!", "?"):
            mark = "-->" if text.startswith("<!--", opened) else ">"
            # "<!-->" is a whole comment, so its end is looked for from the second dash on
            closed = text.find(mark, opened + 2)
            if closed < 0:
                return
            name = _NAME.match(text, opened + 2) if after == "/" else None
            if name is not None:
                yield End(name[0].lower())
            place = closed + len(mark)
        else:
            if opened < len(text):
                yield "<"
            place = opened + 1


def unescaped(text: str) -> str:
    """The text with its character references resolved."""
    try:
        return html.unescape(text) if "&" in text else text
    except ValueError:  # a reference of more than 4,300 digits
        return text


def _start(text: str, opened: int) -> tuple[Start | None, int]:
    name = _NAME.match(text, opened + 1)
    assert name is not None  # the caller saw a letter
    attributes: dict[str, str] = {}
    place = name.end()
    while True:
        place = _end(_GAP, text, place)
        if place >= len(text):
            return None, place
        if text[place] == ">":
            return Start(name[0].lower(), attributes), place + 1
        start, place = place, _end(_ATTRIBUTE, text, place)
        attribute, value = text[start:place].lower(), ""
        equals = _EQUALS.match(text, place)
        if equals is not None:
            place = equals.end()
            quote = text[place : place + 1]
            if quote in ("'", '"') and quote:
                closed = text.find(quote, place + 1)
                if closed < 0:
                    return None, len(text)
                value, place = text[place + 1 : closed], closed + 1
            else:
                start, place = place, _end(_BARE, text, place)
                value = text[start:place]
        if attribute not in attributes and len(attributes) < 100:
            attributes[attribute] = unescaped(value)


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place
