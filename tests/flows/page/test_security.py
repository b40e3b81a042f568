"""Who is answered by the page: its owner, and nobody else; the order of the checks, and what a refusal says."""

import re
from base64 import b64encode
from collections.abc import Iterator

import httpx
import pytest

from stoker.flows.page.security import HEADERS, OPEN, RequestGuard, accepted_hosts
from stoker.flows.page.web import make_app
from stoker.storage.stores.memory import MemoryStore
from tests.flows.inspected_corpus import make_all
from tests.flows.page.serving import TOKEN, serve

BROWSER = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "accept": "text/html"}
PROTECTED = ("/", "/c/shapes", "/c/shapes/thumb/shape-0", "/signed-in", "/api/corpora", "/api/openapi.json", "/nowhere")


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client without the token."""
    store = MemoryStore()
    make_all(store, tmp_path_factory.mktemp("made"))
    app = make_app(store, token=TOKEN, hosts=accepted_hosts("0.0.0.0", ["data.example.org"]))
    with serve(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer wrong-owner-token-0123456789",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN} {TOKEN}",
        f"Token {TOKEN}",
        TOKEN,
        basic("owner", "wrong-owner-token-0123456789"),
        basic("owner", ""),
        basic("", TOKEN),
        basic("root", TOKEN),
        "Basic " + "A" * 60000,
        "Bearer t\xe9st",
    ],
)
def test_who_does_not_know_the_token_learns_nothing(site: httpx.Client, authorization: str) -> None:
    headers = [(b"authorization", authorization.encode("latin-1"))] if authorization else []
    for path in PROTECTED:
        response = site.get(path, headers=headers)
        assert response.status_code == 401, path
        assert "shape" not in response.text
        assert "`stoker open`" in response.text
        challenges = response.headers.get_list("www-authenticate")
        assert challenges == ['Basic realm="stoker open", charset="UTF-8"', 'Bearer realm="stoker open"']
        assert response.headers["content-security-policy"] == HEADERS["content-security-policy"]
        assert response.headers["cache-control"] == "no-store"


def test_two_tokens_in_one_request_are_none(site: httpx.Client) -> None:
    headers = [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer other")]
    assert site.get("/api/corpora", headers=headers).status_code == 401


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic("owner", TOKEN)])
def test_the_owner_is_answered_as_a_program_and_as_a_browser(site: httpx.Client, authorization: str) -> None:
    headers = {"authorization": authorization}
    assert site.get("/signed-in", headers=headers).status_code == 204
    assert "shapes" in site.get("/api/corpora", headers=headers).text
    assert site.get("/c/shapes/thumb/shape-0", headers=headers).headers["content-type"].startswith("image/")
    head = site.head("/c/shapes", headers=headers)
    assert (head.status_code, head.content) == (200, b"")


def test_a_refusal_of_the_api_has_the_form_of_its_errors(site: httpx.Client) -> None:
    headers = {"accept": "text/html"}
    for change, status in (({}, 401), ({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403)):
        response = site.get("/api/corpora", headers=headers | change)
        assert response.status_code == status
        assert (response.json()["ok"], response.json()["status"]) == (False, status)


def test_a_browser_is_shown_what_to_do_and_asked_for_a_password_only_by_the_login_page(site: httpx.Client) -> None:
    response = site.get("/c/shapes", headers=BROWSER)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="stoker open"')
    assert "<code>stoker open</code>" in response.text
    assert "<script" not in response.text
    image = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert "Basic" not in site.get("/c/shapes/thumb/shape-0", headers=image).headers["www-authenticate"]
    script = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
    assert "Basic" in site.get("/signed-in", headers=script).headers["www-authenticate"]


@pytest.mark.parametrize("authorization", ["", f"Bearer {TOKEN}", basic("owner", TOKEN)])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "data.example.org.evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"host": "data.example.org", "origin": "https://other.example.org"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
    ],
)
def test_a_page_of_another_origin_is_refused_even_with_the_token_and_not_asked_for_it(
    site: httpx.Client, headers: dict[str, str], status: int, authorization: str
) -> None:
    for path in ("/", "/api/corpora", "/login", "/static/login.js"):
        response = site.get(path, headers=headers | ({"authorization": authorization} if authorization else {}))
        assert response.status_code == status
        assert "www-authenticate" not in response.headers
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("own", [("origin", "http://data.example.org"), ("sec-fetch-site", "same-origin")])
@pytest.mark.parametrize("first", [True, False])
def test_no_second_header_hides_a_foreign_one(site: httpx.Client, own: tuple[str, str], first: bool) -> None:
    foreign = (own[0], {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}[own[0]])
    pair = [own, foreign] if first else [foreign, own]
    headers = [("host", "data.example.org"), ("authorization", f"Bearer {TOKEN}"), *pair]
    assert site.get("/api/corpora", headers=headers).status_code == 403
    assert site.get("/api/corpora", headers=[*headers[:2], own]).status_code == 200


@pytest.mark.parametrize("origin", ["", "http://data.example.org:8443", "https://data.example.org:8443"])
def test_a_name_of_the_settings_is_answered_over_http_and_behind_tls(site: httpx.Client, origin: str) -> None:
    headers = {"host": "data.example.org:8443", "authorization": f"Bearer {TOKEN}"} | (
        {"origin": origin} if origin else {}
    )
    assert site.get("/api/corpora", headers=headers).status_code == 200
    del headers["authorization"]
    assert site.get("/api/corpora", headers=headers).status_code == 401  # behind a proxy too


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_no_method_changes_anything_whoever_asks(site: httpx.Client, method: str) -> None:
    for path in ("/c/shapes", "/api/corpora", "/signed-in"):
        assert site.request(method, path).status_code == 401
        assert site.request(method, path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 405
    assert site.request(method, "/login").status_code == 405


def test_what_is_open_is_the_same_for_everybody_and_names_no_corpus(site: httpx.Client) -> None:
    for path in OPEN:
        response = site.get(path)
        assert response.status_code == 200, path
        assert response.content == site.get(path, headers={"authorization": f"Bearer {TOKEN}"}).content
        assert "shapes" not in response.text
        assert "memory:" not in response.text
        assert "set-cookie" not in response.headers


def test_only_the_login_page_may_run_a_script_and_only_its_own(site: httpx.Client) -> None:
    page = site.get("/login")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'; connect-src 'self'" in policy
    assert "unsafe" not in policy
    (address,) = re.findall(r'<script src="([^"]+)" defer></script>', page.text)
    assert site.get(address).headers["content-type"].startswith("text/javascript")
    assert page.text.count("<script") == 1
    for path in PROTECTED:
        response = site.get(path, headers={"authorization": f"Bearer {TOKEN}"})
        assert "script-src" not in response.headers["content-security-policy"]


def test_a_health_check_needs_no_name_and_no_token(site: httpx.Client) -> None:
    response = site.get("/healthz", headers={"host": "10.244.0.7:8080"})
    assert (response.status_code, response.text) == (200, "ok\n")
    assert site.get("/healthz/", headers={"host": "10.244.0.7:8080"}).status_code == 421


@pytest.mark.parametrize("token", ["", "short", "t\xe9" * 20])
def test_a_page_without_a_good_token_does_not_start(token: str) -> None:
    app = make_app(MemoryStore(), token=token)
    with pytest.raises(ValueError, match="token"):
        app.build_middleware_stack()


def test_the_guard_has_no_default_that_lets_everybody_in() -> None:
    with pytest.raises(TypeError, match="token"):
        RequestGuard(lambda *_: None, hosts=())  # type: ignore[call-arg,arg-type]  # what is missing is what is tested
