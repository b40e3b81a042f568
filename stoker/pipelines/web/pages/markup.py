"""An HTML tokenizer: start tags, end tags and texts, in time linear in the length of the page.

Why not the standard library's ``html.parser``: up to Python 3.13 it takes quadratic time on unfinished tags and
comments (1 MB of ``<a <a <a`` runs for minutes; CVE-2025-6069), and raises AssertionError on ``<![<![``. Pages may be
hostile.
"""

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_SEPARATOR = re.compile(r"[\s/]*")
_ATTRIBUTE = re.compile(r"=?[^\s/>=]*")  # a name may begin with "=", as the standard has it
_EQUALS = re.compile(r"\s*=\s*")
_UNQUOTED = re.compile(r"[^\s>]*")
# Elements whose content is text up to their own end tag.
_RAW_TEXT = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
_SKIPPED = frozenset(_RAW_TEXT) - {"title"}


@dataclass(frozen=True, slots=True)
class StartTag:
    """A start tag; of a repeated attribute the first value counts."""

    name: str  # lower case
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EndTag:
    """An end tag."""

    name: str  # lower case


def tokenize(text: str) -> Iterator[StartTag | EndTag | str]:
    """The tags and texts of a page in order, character references decoded; without comments, scripts and styles.

    >>> list(tokenize('<p class=a>x &lt; y<!-- no --></p>'))
    [StartTag(name='p', attributes={'class': 'a'}), 'x < y', EndTag(name='p')]
    """
    position = 0
    while position < len(text):
        tag_start = text.find("<", position)
        if tag_start < 0:
            tag_start = len(text)
        if tag_start > position:
            yield decode_references(text[position:tag_start])
        following = text[tag_start + 1 : tag_start + 2]
        if following.isascii() and following.isalpha():
            tag, position = _start_tag(text, tag_start)
            if tag is None:
                return  # the page ends inside of a tag
            yield tag
            if tag.name in _RAW_TEXT:
                end = _RAW_TEXT[tag.name].search(text, position)
                stop = end.start() if end else len(text)
                if tag.name not in _SKIPPED:
                    yield decode_references(text[position:stop])
                position = stop
        elif following in ("/", "!", "?"):
            terminator = "-->" if text.startswith("<!--", tag_start) else ">"
            # "<!-->" is a whole comment, so its end is searched for from the second dash on
            tag_end = text.find(terminator, tag_start + 2)
            if tag_end < 0:
                return
            name = _NAME.match(text, tag_start + 2) if following == "/" else None
            if name is not None:
                yield EndTag(name[0].lower())
            position = tag_end + len(terminator)
        else:
            if tag_start < len(text):
                yield "<"
            position = tag_start + 1


def decode_references(text: str) -> str:
    """The text with its character references (``&amp;``) decoded."""
    try:
        return html.unescape(text) if "&" in text else text
    except ValueError:  # a reference of more than 4,300 digits
        return text


def _start_tag(text: str, tag_start: int) -> tuple[StartTag | None, int]:
    """The start tag at a position and the position behind it; None if the page ends inside of it."""
    name = _NAME.match(text, tag_start + 1)
    assert name is not None  # the caller saw a letter
    attributes: dict[str, str] = {}
    position = name.end()
    while True:
        position = _match_end(_SEPARATOR, text, position)
        if position >= len(text):
            return None, position
        if text[position] == ">":
            return StartTag(name[0].lower(), attributes), position + 1
        start, position = position, _match_end(_ATTRIBUTE, text, position)
        attribute, value = text[start:position].lower(), ""
        equals = _EQUALS.match(text, position)
        if equals is not None:
            position = equals.end()
            quote = text[position : position + 1]
            if quote in ("'", '"') and quote:
                closing = text.find(quote, position + 1)
                if closing < 0:
                    return None, len(text)
                value, position = text[position + 1 : closing], closing + 1
            else:
                start, position = position, _match_end(_UNQUOTED, text, position)
                value = text[start:position]
        if attribute not in attributes and len(attributes) < 100:
            attributes[attribute] = decode_references(value)


def _match_end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
