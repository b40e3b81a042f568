"""Addresses that are not on the public internet: one table, the same on every version of Python.

Sources: the IANA registries of special-purpose addresses for IPv4 and IPv6 and of multicast and reserved space; the RFC
behind each row; the documentation of each cloud for its metadata service, which gives credentials to whoever asks from
inside. ``ipaddress.is_global`` is not used: its answers changed between versions, and it calls some metadata services
public. Where a registry makes exceptions inside a block (192.0.0.0/24, 2001::/23) the whole block is refused: nothing
to collect lies there.
"""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this network": RFC 791
        "10.0.0.0/8",  # private: RFC 1918
        "100.64.0.0/10",  # shared by carriers, and VPNs: RFC 6598
        "127.0.0.0/8",  # loopback: RFC 1122
        "169.254.0.0/16",  # link-local: RFC 3927
        "172.16.0.0/12",  # private: RFC 1918
        "192.0.0.0/24",  # IETF protocol assignments: RFC 6890
        "192.0.2.0/24",  # documentation: RFC 5737
        "192.88.99.0/24",  # 6to4 relays, deprecated: RFC 7526
        "192.168.0.0/16",  # private: RFC 1918
        "198.18.0.0/15",  # benchmarks: RFC 2544
        "198.51.100.0/24",  # documentation: RFC 5737
        "203.0.113.0/24",  # documentation: RFC 5737
        "224.0.0.0/4",  # multicast: RFC 5771
        "240.0.0.0/4",  # reserved, and broadcast: RFC 1112, RFC 8190
    )
)
# All of IPv6 that is public lies in 2000::/3 (RFC 4291); outside are loopback, unique local fc00::/7 (RFC 4193),
# link-local fe80::/10 and site-local fec0::/10 (RFC 4291, RFC 3879), multicast ff00::/8, IPv4-mapped and -compatible
# ::/96 (RFC 4291), discard-only 100::/64 (RFC 6666), dummy 100:0:0:1::/64 (RFC 9780), local-use NAT64 64:ff9b:1::/48
# (RFC 8215) and segment routing 5f00::/16 (RFC 9602). NAT64 (RFC 6052) and IPv4-mapped are judged by what they embed.
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocol assignments, Teredo 2001::/32 among them: RFC 2928, RFC 4380
        "2001:db8::/32",  # documentation: RFC 3849
        "3fff::/20",  # documentation: RFC 9637
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")  # RFC 8215: a network may use any prefix of RFC 6052 below it
_6TO4 = IPv6Network("2002::/16")  # RFC 3056
_TEREDO = IPv6Network("2001::/32")  # RFC 4380
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "fd00:ec2::254",  # AWS, IPv6
        "fd00:ec2::23",  # AWS: EKS pod identity, IPv6
        "168.63.129.16",  # Azure: WireServer; a public address by its number
        "fd20:ce::254",  # Google Cloud, IPv6
        "192.0.0.192",  # Oracle Cloud Classic
        "100.100.100.200",  # Alibaba Cloud
        "100.96.0.96",  # Volcano Engine
        "fd00:a9fe:a9fe::1",  # Linode, IPv6
        "fd00:42::42",  # Scaleway, IPv6
    )
)
# Whole networks, as clouds go on to choose addresses in them: 169.254.169.254 is that of most, 169.254.170.2 and .23 of
# AWS (ECS tasks, EKS pods), 169.254.0.23 of Tencent, 169.254.42.42 of Scaleway, fe80::a9fe:a9fe of OpenStack.
_LINK_LOCAL = (IPv4Network("169.254.0.0/16"), IPv6Network("fe80::/10"))


def parse_address(text: str) -> Address | None:
    """The address as the resolver writes it, without its zone; None if it is none."""
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def is_public(text: str) -> bool:
    """Whether an IP address is on the public internet; an IPv4 address inside an IPv6 one is judged too.

    >>> [is_public(text) for text in ("93.184.216.34", "127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16")]
    [True, False, False, False, False]
    >>> [is_public(text) for text in ("2606:4700::1", "::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "fd00::1")]
    [True, False, False, False, False]
    >>> is_public("64:ff9b::5db8:d822"), is_public("ff02::1")  # NAT64 of 93.184.216.34; multicast
    (True, False)
    """
    address = parse_address(text)
    if address is None or address in _METADATA:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    embedded = embedded_addresses(address)
    if not all(is_public(str(inner)) for inner in embedded):
        return False
    if address in _MAPPED or address in _NAT64:
        return True
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def is_metadata(address: Address) -> bool:
    """Whether it is, or may be, the metadata service of a cloud, in any notation: all link-local addresses may.

    >>> is_metadata(IPv6Address("::ffff:169.254.169.254")), is_metadata(IPv4Address("10.0.0.1"))
    (True, False)
    """
    inner = embedded_addresses(address) if isinstance(address, IPv6Address) else ()
    return any(one in _METADATA or any(one in network for network in _LINK_LOCAL) for one in (address, *inner))


def embedded_addresses(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that packets to an IPv6 address may end at; several where the prefix length is unknown."""
    number = int(address)
    if address in _MAPPED or address in _NAT64 or (address in _COMPATIBLE and number > 1):
        return (IPv4Address(number & 0xFFFFFFFF),)
    if address in _6TO4:
        return (IPv4Address(number >> 80 & 0xFFFFFFFF),)
    if address in _TEREDO:  # the server, and the client with its bits inverted
        return IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(~number & 0xFFFFFFFF)
    if address in _NAT64_LOCAL:
        # RFC 6052, section 2.2: prefixes of 48, 56, 64 and 96 bits; bits 64 to 71 belong to no address.
        joined = number >> 64 << 56 | number & (1 << 56) - 1  # 120 bits
        shifts = {48: 120 - 48 - 32, 56: 120 - 56 - 32, 64: 120 - 64 - 32}
        split = tuple(IPv4Address(joined >> shift & 0xFFFFFFFF) for shift in shifts.values())
        return (*split, IPv4Address(number & 0xFFFFFFFF))
    return ()
