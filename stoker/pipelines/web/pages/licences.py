"""Licences by their SPDX names where a page links to them."""

import re

_CREATIVE_COMMONS = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)(?:/([0-9]\.[0-9]))?(?:[/?#]|$)",
    re.IGNORECASE,
)


def spdx(text: str) -> str:
    """The SPDX name of a Creative Commons licence given by its URL; any other text as it is.

    >>> spdx("https://creativecommons.org/licenses/by-sa/4.0/deed.de"), spdx("All rights reserved")
    ('CC-BY-SA-4.0', 'All rights reserved')
    >>> spdx("http://creativecommons.org/publicdomain/zero/1.0/")
    'CC0-1.0'
    """
    text = text.strip()
    match = _CREATIVE_COMMONS.match(text)
    if match is None:
        return text
    kind, name, version = match[1].lower(), match[2].lower(), match[3] or ""
    if kind == "publicdomain":
        name = {"zero": "CC0", "mark": "CC-PDM"}.get(name, name)
        return f"{name}-{version or '1.0'}"
    return f"CC-{name.upper()}" + (f"-{version}" if version else "")
