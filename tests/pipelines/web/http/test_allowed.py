"""Which private addresses a list of names, addresses and networks allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.web.http.allowed import AllowedPrivate, normalise

LIST = AllowedPrivate(normalise("intranet.example, .lab.example, *.dev.example, 10.1.0.0/16, 192.168.7.7, fd00:1::/32"))


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("intranet.example", "10.9.9.9", True),
        ("INTRANET.example.", "10.9.9.9", True),
        ("intranet.example", "127.0.0.1", True),
        ("intranet.example", "::1", True),
        ("a.intranet.example", "10.9.9.9", False),
        ("xintranet.example", "10.9.9.9", False),
        ("a.lab.example", "10.9.9.9", True),
        ("a.b.lab.example", "10.9.9.9", True),
        ("lab.example", "10.9.9.9", False),
        ("xlab.example", "10.9.9.9", False),
        ("a.dev.example", "10.9.9.9", True),
        ("evil.example", "10.1.2.3", True),  # a network allows any name that resolves into it
        ("evil.example", "10.2.0.0", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("evil.example", "192.168.7.7", True),
        ("evil.example", "192.168.7.8", False),
        ("evil.example", "::ffff:10.1.2.3", True),
        ("evil.example", "64:ff9b::10.1.2.3", True),
        ("evil.example", "2002:a01:203::1", True),
        ("evil.example", "::ffff:10.2.2.3", False),
        ("evil.example", "fd00:1::5", True),
        ("evil.example", "fd00:2::5", False),
        ("evil.example", "93.184.216.34", True),
        ("intranet.example", "169.254.169.254", False),  # never by a name: it could be pointed there
        ("intranet.example", "::ffff:169.254.169.254", False),
        ("intranet.example", "fd00:ec2::254", False),
        ("a.lab.example", "168.63.129.16", False),
        ("intranet.example", "not an address", False),
    ],
)
def test_a_list_allows_its_hosts_and_networks_and_nothing_else(host: str, address: str, allowed: bool) -> None:
    assert LIST.permits(host, address) is allowed


@pytest.mark.parametrize("text", ["true", "0.0.0.0/0,::/0", "169.254.0.0/16", ".example,metadata.example"])
def test_metadata_services_are_allowed_by_their_own_address_alone(text: str) -> None:
    assert not AllowedPrivate(text).permits("metadata.example", "169.254.169.254")
    assert AllowedPrivate(f"{text.replace('true', '10.0.0.0/8')},169.254.169.254").permits("a", "169.254.169.254")


def test_true_allows_every_other_address_and_nothing_allows_the_public_ones_alone() -> None:
    assert AllowedPrivate("true").permits("a.example", "127.0.0.1")
    assert not AllowedPrivate("").permits("a.example", "127.0.0.1")
    assert AllowedPrivate("").permits("a.example", "1.1.1.1")


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, ""), ("TRUE", "true"), ("yes", "true"), ("1", "true"), ("0", ""), ("off", ""), ("", ""),
     (" a.example , ,10.0.0.0/8,", "a.example,10.0.0.0/8"), (["a.example", "a.example"], "a.example"),
     ("[::1]", "::1"), ("fd00::/8", "fd00::/8"),
     ("*.A.example", ".a.example"), ("bücher.example", "xn--bcher-kva.example")],
)  # fmt: skip
def test_what_people_write_has_one_form(value: object, text: str) -> None:
    assert normalise(value) == text
    assert normalise(text) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [("10.1.2.3/16", "did you mean 10.1.0.0/16?"), ("10.0.0.0/33", "no network"), ("10.1", "no host"),
     ("a.example:80", "no host"),
     ("http://a.example", "no network"), ("*", "or true"), ("a..example", "no host"), (3, "expected true, false"),
     ([1], "expected true, false"), ("a b", "no host"), ("*.*.example", "no host")],
)  # fmt: skip
def test_what_cannot_be_a_host_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        normalise(value)


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_a_network_allows_what_its_bits_say(base: object, length: int, address: object) -> None:
    import ipaddress

    from stoker.pipelines.web.http.special_addresses import is_metadata, is_public

    network = ipaddress.ip_network(f"{base}/{length}", strict=False)
    inside = int(ipaddress.IPv4Address(str(address))) >> (32 - length) == int(network.network_address) >> (32 - length)
    parsed = ipaddress.IPv4Address(str(address))
    expected = is_public(str(address)) or (inside and (length == 32 or not is_metadata(parsed)))
    assert AllowedPrivate(normalise(str(network))).permits("a.example", str(address)) is expected
