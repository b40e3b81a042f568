"""Private addresses are never connected to, however a URL leads there."""

from dataclasses import replace

import pytest

from stoker.pipelines.rejected import Rejected
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


def test_the_reject_names_host_and_address_and_the_setting_that_allows_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.pipelines.web.http.addresses._getaddrinfo", lambda host: ["127.0.0.1"])
    web = replace(FAST, allow_private=False, robots=False)
    for host, text in (("nas.example", "nas.example is 127.0.0.1, no public"), ("127.0.0.1", "127.0.0.1 is no public")):
        rejected = web.get(f"http://{host}:{site.port}/", max_size=100)
        assert isinstance(rejected, Rejected)
        assert rejected.detail == f"{text} address; if it is your own: STOKER_ALLOW_PRIVATE={host}"
    web.close()


def test_a_redirect_into_a_private_network_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loopback stands for the open internet here, but for 127.0.0.2.
    monkeypatch.setattr("stoker.pipelines.web.http.allowed.is_public", lambda address: address == "127.0.0.1")
    web = replace(FAST, allow_private=False)
    with Site("127.0.0.2") as inner:
        site.pages["/a"] = Reply(b"", 302, {"Location": inner.url("/secret")})
        assert reason(get(web, site, "/a")) == "private_address"
        assert inner.log == []
    web.close()


def test_a_name_is_resolved_once_so_dns_rebinding_has_no_effect(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # DNS rebinding: the name is public when it is looked up first, and private ever after.
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    monkeypatch.setattr("stoker.pipelines.web.http.allowed.is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr("stoker.pipelines.web.http.addresses._getaddrinfo", lambda host: next(answers))
    web = replace(FAST, allow_private=False)
    site.pages["/a"] = Reply(b"x", headers={"Connection": "close"})
    for _ in range(3):
        assert isinstance(web.get(f"http://rebind.example:{site.port}/a", max_size=100), Fetched)
    assert next(answers) == ["127.0.0.2"], "resolved once"
    web.close()


def test_an_allowed_name_may_be_private_and_a_redirect_from_it_may_not_leave_for_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.pipelines.web.http.addresses._getaddrinfo", lambda host: ["127.0.0.1"])
    web = replace(FAST, allow_private="intranet.example,.lab.example")
    site.pages["/a"] = Reply(b"x")
    site.pages["/away"] = Reply(b"", 302, {"Location": f"http://other.example:{site.port}/a"})
    site.pages["/within"] = Reply(b"", 302, {"Location": f"http://x.lab.example:{site.port}/a"})
    fetched = {path: web.get(f"http://intranet.example:{site.port}{path}", max_size=100) for path in site.pages}
    web.close()
    assert isinstance(fetched["/a"], Fetched)
    assert isinstance(fetched["/within"], Fetched)
    assert reason(fetched["/away"]) == "private_address"
    assert [request.path for request in site.log if request.headers["host"].startswith("other")] == []


def test_an_allowed_name_that_is_pointed_at_a_metadata_service_is_not_followed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.pipelines.web.http.addresses._getaddrinfo", lambda host: ["169.254.169.254"])
    connected: list[object] = []
    monkeypatch.setattr("socket.create_connection", lambda *address, **_: connected.append(address))
    for allowed in ("intranet.example", True, "169.254.0.0/16"):
        web = replace(FAST, allow_private=allowed)
        assert reason(web.get(f"http://intranet.example:{site.port}/", max_size=100)) == "private_address"
        web.close()
    assert connected == []


def test_an_allowed_network_is_judged_by_the_address_that_is_connected_to(site: Site) -> None:
    site.pages["/a"] = Reply(b"x")
    for allowed, expected in (("127.0.0.0/8", True), ("127.0.0.1", True), ("127.0.0.2", False), ("10.0.0.0/8", False)):
        web = replace(FAST, allow_private=allowed)
        answer = web.get(f"http://0x7f000001:{site.port}/a", max_size=100)
        assert isinstance(answer, Fetched) is expected
        web.close()
