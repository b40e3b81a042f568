"""Opt-outs of site owners from use for machine learning: X-Robots-Tag, meta robots, TDM-Reservation."""

import re
from collections.abc import Iterable

AGENT = "stoker"
HEADERS = ("x-robots-tag", "tdm-reservation")
# noai, noimageai: DeviantArt's directives; noml: Yandex and others; noindex, noimageindex, none: search
# engines' directives, which img2dataset honours too; TDM-Reservation: W3C TDM Reservation Protocol.
OPT_OUT_DIRECTIVES = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
# Directives that carry a value behind a colon; any other word before a colon names the robot that is meant.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


def find_opt_out(robots_tags: Iterable[str], reservations: Iterable[str]) -> str:
    """The directive that opts out for us, or "", from the lines of the two ``HEADERS`` of a response.

    Each line is read for itself: a robot's name applies up to the end of its line.

    >>> find_opt_out(["googlebot: noindex, noai"], [])
    ''
    >>> find_opt_out(["googlebot: noindex", "noai"], [])
    'noai'
    >>> find_opt_out(["max-snippet: 5, noai"], []), find_opt_out(["stoker/1.0: noai"], [])
    ('noai', 'noai')
    >>> find_opt_out([], ["1"]), find_opt_out([], ["0", "1"]), find_opt_out([], ["0"])
    ('tdm-reservation', 'tdm-reservation', '')
    """
    if any(is_reserved(line) for line in reservations):
        return "tdm-reservation"
    matching = frozenset[str]().union(*map(directives, robots_tags)) & OPT_OUT_DIRECTIVES
    return min(matching) if matching else ""


def is_reserved(text: str) -> bool:
    """Whether a TDM-Reservation, of a header line or a meta element, reserves the rights: 1, perhaps in a list."""
    return any(value.partition(";")[0].strip() == "1" for value in text.split(","))


def directives(text: str) -> frozenset[str]:
    """The directives for us in a line of X-Robots-Tag or the content of a meta element, in lower case.

    A robot's name before a colon applies to what follows it, up to the next name. What has a space is no name, but part
    of a date: ``unavailable_after: Friday, 25-Jun-2010 15:00:00 UTC``.

    >>> sorted(directives("unavailable_after: Friday, 25-Jun-2010 15:00:00 UTC, noai") & OPT_OUT_DIRECTIVES)
    ['noai']
    """
    ours: set[str] = set()
    applies = True
    for piece in text.lower().split(","):
        name, colon, rest = (part.strip() for part in piece.partition(":"))
        if colon and name not in _VALUED:
            robot = name.partition("/")[0].strip()
            if not re.search(r"\s", robot):
                applies = robot in (AGENT, "*")
            name = rest.partition(":")[0].strip()
        if applies and name:
            ours.add(name)
    return frozenset(ours)
