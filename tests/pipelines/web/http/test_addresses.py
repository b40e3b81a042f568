"""Private addresses are never connected to, however a URL leads there."""

from dataclasses import replace

import pytest

from stoker.pipelines.web.http.addresses import is_public
from stoker.pipelines.web.policy import Fetched
from tests.site import FAST, Reply, Site, get, reason


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.2:{}/", "http://localhost:{}/", "http://0x7f000001:{}/", "http://2130706433:{}/", "http://127.1:{}/",
     "http://[::1]:{}/", "http://[::ffff:127.0.0.1]:{}/", "http://0.0.0.0:{}/", "http://169.254.169.254/latest/meta-data",
     "http://10.0.0.1/", "http://[fe80::1]/", "http://[64:ff9b::7f00:1]/"],
)  # fmt: skip
def test_a_private_address_gets_no_request(site: Site, url: str) -> None:
    web = replace(FAST, allow_private=False)
    assert reason(web.get(url.format(site.port), max_size=100)) in ("private_address", "bad_url")
    assert site.log == []
    web.close()


def test_a_redirect_into_a_private_network_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loopback stands for the open internet here, but for 127.0.0.2.
    monkeypatch.setattr("stoker.pipelines.web.http.addresses.is_public", lambda address: address == "127.0.0.1")
    web = replace(FAST, allow_private=False)
    with Site("127.0.0.2") as inner:
        site.pages["/a"] = Reply(b"", 302, {"Location": inner.url("/secret")})
        assert reason(get(web, site, "/a")) == "private_address"
        assert inner.log == []
    web.close()


def test_a_name_is_resolved_once_so_dns_rebinding_has_no_effect(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # DNS rebinding: the name is public when it is looked up first, and private ever after.
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    monkeypatch.setattr("stoker.pipelines.web.http.addresses.is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr("stoker.pipelines.web.http.addresses._getaddrinfo", lambda host: next(answers))
    web = replace(FAST, allow_private=False)
    site.pages["/a"] = Reply(b"x", headers={"Connection": "close"})
    for _ in range(3):
        assert isinstance(web.get(f"http://rebind.example:{site.port}/a", max_size=100), Fetched)
    assert next(answers) == ["127.0.0.2"], "resolved once"
    web.close()


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "192.168.1.1", "172.16.0.1", "224.0.0.1", "255.255.255.255", "::", "fe80::1%eth0", "2002:7f00:1::",
     "fec0::1", "::7f00:1", "not an address", "192.0.2.1"],
)  # fmt: skip
def test_addresses_outside_of_the_public_internet_are_recognised(address: str) -> None:
    assert not is_public(address)
