"""The door before a Prefect server that runs: its owner is let in, and nobody else."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect

from stoker.flows.services import door
from tests.flows.conftest import AUTH, Cli, ask, owner_headers, until
from tests.flows.services.conftest import api
from tests.system.chromium import PROGRAM, chromium

pytestmark = pytest.mark.slow
SOCKETS = (
    "/events/in",
    "/events/out",
    "/logs/out",
    "/task_runs/subscriptions/scheduled",
    "/work_pools/stoker/workers/connect",
)


def status(url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def headers_of(url: str, headers: dict[str, str] | None = None) -> dict[str, str]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=30) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}


def test_every_route_of_the_server_asks_for_the_owners_token(prefect_url: str) -> None:
    owner = owner_headers(AUTH[prefect_url])
    with urllib.request.urlopen(
        urllib.request.Request(f"{prefect_url}/openapi.json", headers=owner), timeout=60
    ) as answer:
        routes = json.load(answer)["paths"]
    assert len(routes) > 100
    wrong = owner_headers("owner:" + "x" * 43)
    answers = {
        (method, path): status(prefect_url + path.replace("{", "").replace("}", ""), method.upper(), None, headers)
        for path, methods in routes.items()
        for method in methods
        for headers in ({}, wrong)
    }
    open_routes = {route for route, code in answers.items() if code != 401}
    assert open_routes == {("get", "/health")}
    root = prefect_url.removesuffix("/api")
    for path in ("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"):
        assert status(root + path) == 403
    for path in (
        "/api",
        "/api/",
        "/api/docs",
        "/api/openapi.json",
        "/api/static/x",
        "/api/ready",
        "/%61pi/flows/count",
    ):
        assert status(root + path) == 401
    assert status(f"{root}/anything", "POST", b"{}") == 403
    assert status(f"{prefect_url}/flows/count", "POST", b"{}", {"Content-Type": "application/json"} | owner) == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:4200"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),  # another port of this machine
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
    ],
)
def test_other_hosts_and_origins_are_refused_even_with_the_token(
    prefect_url: str, headers: dict[str, str], code: int
) -> None:
    named = headers | owner_headers(AUTH[prefect_url])
    for method in ("GET", "POST", "OPTIONS"):
        assert status(f"{prefect_url}/flows/count", method, None, named) == code
    if "Host" in headers or "Origin" in headers:
        assert status(f"{prefect_url}/health", headers=headers) == code
    handshake = {name: value for name, value in named.items() if name != "Host"}
    if "Host" not in headers:
        with pytest.raises(websockets.InvalidStatus, match="403"):
            asyncio.run(first_answer(prefect_url, "/events/out", AUTH[prefect_url], handshake))


def test_a_link_from_elsewhere_shows_a_page_and_no_frame(prefect_url: str) -> None:
    root = prefect_url.removesuffix("/api")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert status(root + door.LOGIN, headers=link) == 200
    assert status(root + door.LOGIN, headers=link | {"Sec-Fetch-Dest": "iframe"}) == 403
    found = headers_of(root + door.LOGIN, link)
    assert "script-src 'self';" in found["content-security-policy"]
    assert "frame-ancestors 'none'" in found["content-security-policy"]
    assert headers_of(f"{root}/ui-settings")["content-security-policy"].startswith("default-src 'self'")


async def first_answer(api: str, path: str, auth: str, headers: dict[str, str] | None = None) -> Any:
    """What the server says to the first message of a websocket."""
    address = api.replace("http://", "ws://") + path
    async with connect(address, subprotocols=["prefect"], additional_headers=headers or {}) as socket:  # type: ignore[list-item]  # a NewType of str
        await socket.send(json.dumps({"type": "auth", "token": auth}))
        return json.loads(await asyncio.wait_for(socket.recv(), 30))


@pytest.mark.parametrize("path", SOCKETS)
def test_a_websocket_without_the_token_is_closed(prefect_url: str, path: str) -> None:
    for wrong in ("", "owner:" + "x" * 43):
        with pytest.raises(websockets.ConnectionClosed) as closed:
            asyncio.run(first_answer(prefect_url, path, wrong))
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    assert asyncio.run(first_answer(prefect_url, path, AUTH[prefect_url])) == {"type": "auth_success"}


def test_a_websocket_outside_the_api_is_refused(prefect_url: str) -> None:
    with pytest.raises(websockets.InvalidStatus, match="403"):
        asyncio.run(first_answer(prefect_url.removesuffix("/api"), "/events/out", AUTH[prefect_url]))


def test_bodies_have_a_limit(prefect_url: str) -> None:
    owner = owner_headers(AUTH[prefect_url])
    assert status(f"{prefect_url}/flows/count", "POST", b"x", owner | {"Content-Length": "99999999999"}) == 413


@pytest.mark.skipif(not PROGRAM, reason="no chromium on this machine (Debian: apt-get install chromium)")
def test_the_owner_logs_in_by_a_link_and_pauses_a_schedule_by_hand(scheduler: Cli, tmp_path: Path) -> None:
    done = scheduler("schedule", scheduler.recipe(["a"], name="clicked"), "--interval", "300d")
    assert done.returncode == 0, done.stderr
    root, token = api(scheduler).removesuffix("/api"), AUTH[api(scheduler)].removeprefix("owner:")
    link = scheduler("open", "prefect", "--print").stdout.strip()
    assert link == f"{root}{door.LOGIN}#{token}&to=/"

    def deployment() -> Any:
        return ask(api(scheduler), "/deployments/filter", deployments={"name": {"any_": ["clicked"]}})[0]

    def becomes(expected: bool) -> bool:
        return bool(until(lambda: active(deployment()) == expected, 60))

    with chromium(tmp_path / "profile") as browser:
        tab = browser.tab(link.replace(token, "x" * 43))
        tab.until("document.body.innerText.includes('not valid any more')")
        assert tab.run("localStorage.length") == 0
        tab = browser.tab(link.replace("to=/", "to=//evil.example/"))
        tab.until("location.pathname.endsWith('/dashboard') && document.body.innerText.includes('Logout')", 90)
        assert tab.run("location.origin") == root
        path = f"/v2/deployments/deployment/{deployment()['id']}"
        file = tmp_path / "login.html"  # as `stoker open` writes it: no token belongs into a browser's arguments
        file.write_text(f'<meta http-equiv="refresh" content="0;url={link.replace("to=/", f"to={path}")}">')
        tab = browser.tab(file.as_uri())
        switch = "document.querySelector('[role=switch]')"
        tab.until(f"location.pathname === '{path}' && {switch} !== null", 90)
        assert token not in tab.run("document.documentElement.outerHTML + location.href")
        before = active(deployment())
        for expected in (not before, before):
            tab.run(f"{switch}.click()")
            assert becomes(expected)
            # The page knows it, too: a click that comes before is lost.
            tab.until(f"{switch}?.getAttribute('aria-checked') === '{str(expected).lower()}'", 60)
        policy = [text for text in browser.console if "Content Security Policy" in text]
        assert not [text for text in policy if "amplitude.com" not in text]  # its analytics service is not asked
    assert scheduler("schedule", "--remove", "clicked").returncode == 0


def active(deployment: Any) -> bool:
    """Whether a deployment runs by its timetable: it has a switch, and so has its schedule."""
    return not deployment["paused"] and bool(deployment["schedules"][0]["active"])
