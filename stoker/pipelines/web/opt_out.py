"""Opt-outs of site owners from use for machine learning: X-Robots-Tag, meta robots, TDM-Reservation."""

from collections.abc import Mapping

AGENT = "stoker"
# noai, noimageai: DeviantArt's directives; noml: Yandex and others; noindex, noimageindex, none: search
# engines' directives, which img2dataset honours too; TDM-Reservation: W3C TDM Reservation Protocol.
OPT_OUT_DIRECTIVES = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
# Directives that carry a value behind a colon; any other word before a colon names the robot that is meant.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


def find_opt_out(headers: Mapping[str, str]) -> str:
    """The directive in a response's headers (names in lower case) that opts out for us, or "".

    >>> find_opt_out({"x-robots-tag": "googlebot: noindex, noai"})
    ''
    >>> find_opt_out({"x-robots-tag": "max-snippet: 5, noai"})
    'noai'
    >>> find_opt_out({"x-robots-tag": "stoker/1.0: noai"})
    'noai'
    >>> find_opt_out({"tdm-reservation": "1"})
    'tdm-reservation'
    """
    if headers.get("tdm-reservation", "").strip() == "1":
        return "tdm-reservation"
    matching = directives(headers.get("x-robots-tag", "")) & OPT_OUT_DIRECTIVES
    return min(matching) if matching else ""


def directives(text: str) -> frozenset[str]:
    """The directives for us in an X-Robots-Tag or the content of a meta element, in lower case.

    A robot's name before a colon applies to what follows it, up to the next name.
    """
    ours: set[str] = set()
    applies = True
    for piece in text.lower().split(","):
        name, colon, rest = (part.strip() for part in piece.partition(":"))
        if colon and name not in _VALUED:
            applies = name.partition("/")[0].strip() in (AGENT, "*")
            name = rest.partition(":")[0].strip()
        if applies and name:
            ours.add(name)
    return frozenset(ours)
