"""``AllowedPrivate``: which private addresses may be fetched from, by names, addresses and networks of their owner."""

import ipaddress
import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address

from stoker.pipelines.web.http.special_addresses import (
    Address,
    Network,
    embedded_addresses,
    is_metadata,
    is_public,
    parse_address,
)
from stoker.pipelines.web.links import ascii_host

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ALL = "true"
_NONE = ("", "false")
_WORDS = {"1": _ALL, "yes": _ALL, "on": _ALL, "0": "", "no": "", "off": "", "false": ""}


@dataclass(frozen=True)
class AllowedPrivate:
    """What ``text`` allows beside the public internet; ``normalise`` makes the text from what people write.

    A name allows any address that it resolves to, an address or a network allows any name that resolves into it.
    Metadata services of clouds are allowed by their own address alone, never by a name, a wider network or "true":
    whoever controls a name could point it there.

    >>> allowed = AllowedPrivate("intranet.example,.lab.example,10.1.0.0/16")
    >>> [allowed.permits(host, "10.9.9.9") for host in ("intranet.example", "x.lab.example", "other.example")]
    [True, True, False]
    >>> allowed.permits("other.example", "10.1.2.3"), allowed.permits("intranet.example", "169.254.169.254")
    (True, False)
    """

    text: str = ""

    def permits(self, host: str, address: str) -> bool:
        """Whether a socket may be connected to this address when a URL names this host."""
        if is_public(address):
            return True
        parsed = parse_address(address)
        if parsed is None:
            return False
        inner = embedded_addresses(parsed) if isinstance(parsed, IPv6Address) else ()
        targets: tuple[Address, ...] = (parsed, *inner)
        if is_metadata(parsed):
            return any(target in network and network.num_addresses == 1 for target in targets for network in self._nets)
        if self.text == _ALL or self._names_allow(host):
            return True
        # Where an IPv6 address embeds an IPv4 one, a network of either kind may allow it, but each that is meant.
        inside = [any(target in network for network in self._nets) for target in targets]
        return inside[0] or (bool(inner) and all(inside[1:]))

    def _names_allow(self, host: str) -> bool:
        name = host.lower().removesuffix(".")
        return any(name.endswith(entry) if entry.startswith(".") else name == entry for entry in self._names)

    @cached_property
    def _nets(self) -> tuple[Network, ...]:
        return tuple(entry for entry in self._entries if not isinstance(entry, str))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(entry for entry in self._entries if isinstance(entry, str))

    @cached_property
    def _entries(self) -> tuple[Network | str, ...]:
        if self.text in (*_NONE, _ALL):
            return ()
        return tuple(_parse_entry(entry) for entry in self.text.split(","))


def normalise(value: object) -> str:
    """The text of ``AllowedPrivate`` from a truth value, a list or comma-separated text. Raises ValueError.

    >>> normalise(True), normalise(False), normalise(["*.Lab.example", "::1"]), normalise(" 10.0.0.0/8, a.example ")
    ('true', '', '.lab.example,::1', '10.0.0.0/8,a.example')
    """
    if isinstance(value, bool):
        return _ALL if value else ""
    if isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        texts = list(value)
    elif isinstance(value, str):
        lower = value.strip().lower()
        if lower == _ALL or lower in _WORDS:
            return _WORDS.get(lower, _ALL)
        texts = value.split(",")
    else:
        raise ValueError("expected true, false, or names, addresses and networks")
    entries = [_parse_entry(text.strip()) for text in texts if text.strip()]
    return ",".join(dict.fromkeys(str(entry).removesuffix("/32" if "." in str(entry) else "/128") for entry in entries))


def _parse_entry(text: str) -> Network | str:
    """A network, a name, or ``.suffix`` for the names below one. Raises ValueError."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    bare = bare.partition("%")[0]  # a zone is this machine's name for a network card
    if "/" in bare or parse_address(bare) is not None:
        try:
            return ipaddress.ip_network(bare)
        except ValueError:
            pass
        try:
            nearest = ipaddress.ip_network(bare, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is no network; expected one such as 10.1.0.0/16 or fd00:1::/32") from None
        raise ValueError(f"{text!r}: the address is not the network's first; did you mean {nearest}?")
    name = text.removeprefix("*") if text.startswith("*.") else text
    suffix = "." if name.startswith(".") else ""
    try:
        name = ascii_host(name.removeprefix(".").removesuffix("."))
    except ValueError:
        name = ""
    labels = name.split(".")
    # A last label of digits alone is an address that lacks something, such as 10.1 or 192.168.1.
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise ValueError(
            f"{text!r} is no host; expected names (intranet.example, .example for all below it), addresses and "
            "networks (10.1.0.0/16) without ports, or true"
        )
    return suffix + name
