"""SPDX identifiers of Creative Commons licences, from their URLs."""

import re

_CREATIVE_COMMONS = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)(?:/([0-9]\.[0-9]))?(?:[/?#]|$)",
    re.IGNORECASE,
)


def spdx_id(text: str) -> str:
    """The SPDX identifier for the URL of a Creative Commons licence; any other text unchanged.

    >>> spdx_id("https://creativecommons.org/licenses/by-sa/4.0/deed.de"), spdx_id("All rights reserved")
    ('CC-BY-SA-4.0', 'All rights reserved')
    >>> spdx_id("http://creativecommons.org/publicdomain/zero/1.0/")
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
