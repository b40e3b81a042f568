"""What owners say about use by machines: X-Robots-Tag, meta robots, TDM-Reservation."""

from collections.abc import Mapping

AGENT = "stoker"
# noai, noimageai: DeviantArt's directives; noml: Yandex's and others' wish; noindex, noimageindex, none: search
# engines' directives, which img2dataset honours too; TDM-Reservation: W3C TDM Reservation Protocol.
REFUSALS = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
# Directives that carry a value behind a colon; any other word before a colon names the robot that is meant.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


def refusal(headers: Mapping[str, str]) -> str:
    """The directive in an answer's headers (names in lower case) that refuses us, or "".

    >>> refusal({"x-robots-tag": "googlebot: noindex, noai"}), refusal({"x-robots-tag": "max-snippet: 5, noai"})
    ('', 'noai')
    >>> refusal({"tdm-reservation": "1"})
    'tdm-reservation'
    """
    if headers.get("tdm-reservation", "").strip() == "1":
        return "tdm-reservation"
    found = directives(headers.get("x-robots-tag", "")) & REFUSALS
    return min(found) if found else ""


def directives(text: str) -> frozenset[str]:
    """The directives for us in an X-Robots-Tag or the content of a meta element, in lower case.

    A robot's name before a colon holds for what follows it, up to the next name.
    """
    found: set[str] = set()
    ours = True
    for piece in text.lower().split(","):
        name, colon, rest = (part.strip() for part in piece.partition(":"))
        if colon and name not in _VALUED:
            ours = name in (AGENT, "*")
            name = rest.partition(":")[0].strip()
        if ours and name:
            found.add(name)
    return frozenset(found)
