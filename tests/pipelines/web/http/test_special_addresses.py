"""Known answers for addresses that are not public, and IPv4 addresses hidden in IPv6 ones."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.web.http.special_addresses import embedded_addresses, is_metadata, is_public

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255",
    "192.0.1.0", "192.0.3.0", "192.31.196.1", "192.88.98.255", "192.167.255.255", "192.169.0.0", "198.17.255.255",
    "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "168.63.129.15", "168.63.129.17", "2000::1",
    "2001:200::1", "2001:4860:4860::8888", "2606:4700::1111", "2620:4f:8000::1", "2a00:1450::1", "3ffe:ffff::1",
    "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
]  # fmt: skip
NOT_PUBLIC = [
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1",
    "127.255.255.255", "169.254.0.1", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.1", "192.0.0.9",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "169.254.169.254",
    "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "::", "::1", "::2", "100::1",
    "100:0:0:1::1", "64:ff9b:1::808:808", "2001::1", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1",
    "2001:db8::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:a9fe:a9fe", "::127.0.0.1", "::8.8.8.8",
    "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b::a83f:8110", "2002:7f00:1::", "2002:a00:1::5",
    "2001:0:808:808:0:0:f7f7:f7f7", "", "not an address", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5",
]  # fmt: skip
addresses_v4 = st.ip_addresses(v=4)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


@given(addresses_v4)
def test_an_address_is_judged_alike_in_every_notation_that_leads_to_it(address: IPv4Address) -> None:
    number = int(address)
    mapped, translated = IPv6Address(0xFFFF << 32 | number), IPv6Address(0x64FF9B << 96 | number)
    in_6to4 = IPv6Address(0x2002 << 112 | number << 80 | 1)
    for notation in (mapped, translated, in_6to4):
        assert embedded_addresses(notation) == (address,)
        assert is_public(str(notation)) == is_public(notation.exploded) == is_public(str(address))
        assert is_metadata(notation) == is_metadata(address)


@given(addresses_v4, st.sampled_from([48, 56, 64, 96]))
def test_local_nat64_is_never_public_whatever_it_embeds(address: IPv4Address, length: int) -> None:
    # RFC 6052, section 2.2: the 32 bits follow the prefix, around bits 64 to 71.
    bits = f"{int(address):032b}"
    prefix = f"{int(IPv6Address('64:ff9b:1::')):0128b}"[:length]
    text = prefix + bits if length == 96 else (prefix + bits)[:64] + "0" * 8 + (prefix + bits)[64:]
    notation = IPv6Address(int(text.ljust(128, "0"), 2))
    assert address in embedded_addresses(notation)
    assert not is_public(str(notation))


@given(addresses_v4, addresses_v4)
def test_teredo_embeds_its_server_and_its_client(server: IPv4Address, client: IPv4Address) -> None:
    teredo = IPv6Address(0x20010000 << 96 | int(server) << 64 | int(client) ^ 0xFFFFFFFF)
    assert teredo.teredo == embedded_addresses(teredo) == (server, client)
    assert not is_public(str(teredo))


@given(st.ip_addresses())
def test_no_address_is_public_that_the_interpreter_calls_private(address: IPv4Address | IPv6Address) -> None:
    """One way only: our table is the stricter one, and the same for all versions of Python."""
    assert not (is_public(str(address)) and address.is_private and not embedded_of(address))


def embedded_of(address: IPv4Address | IPv6Address) -> bool:
    return isinstance(address, IPv6Address) and bool(embedded_addresses(address))


def test_metadata_services_are_known() -> None:
    known = (
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "100.100.100.200",
        "fd00:ec2::254",
        "::ffff:a9fe:a9fe",
        "169.254.0.23",
        "169.254.170.2",
        "fd00:a9fe:a9fe::1",
        "fe80::a9fe:a9fe",
        "100.96.0.96",
        "fd00:ec2::23",
    )
    assert all(is_metadata(ipaddress.ip_address(address)) for address in known)
    assert not is_metadata(ipaddress.ip_address("169.253.1.1"))
