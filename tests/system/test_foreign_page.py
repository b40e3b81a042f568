"""A page of another origin, in a real browser whose user is signed in, against the services of one `stoker up`.

It reads nothing and changes nothing, and gets neither the token nor a cookie.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from stoker.flows import private, running
from stoker.flows.services.door import auth_string
from stoker.flows.settings import load
from stoker.testing import sample_corpus
from tests.conftest import HANGS_S
from tests.flows.conftest import AUTH, Cli, ask, services_up
from tests.system.chromium import PROGRAM, Chromium, chromium
from tests.system.foreign_page import ForeignPage, Write, foreign_page, show, statuses

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="no chromium on this machine (Debian: apt-get install chromium)"),
]
REFUSED = {401, 403, 405, 421}  # 400 besides, of an upload by a form that S3 does not take


class Target(NamedTuple):
    """What a page of another origin would like to do with a service."""

    reads: tuple[str, ...]
    writes: tuple[Write, ...]


FLOW = '{"name": "planted"}'
TARGETS = {
    "web": Target(("/c/numbers", "/api/corpora"), (Write("POST", "/api/corpora", FLOW), Write("DELETE", "/c/numbers"))),
    "s3": Target(
        ("/stoker?list-type=2", "/stoker/numbers/versions/00000001.json"),
        (
            Write("PUT", "/stoker/planted", FLOW),
            Write("POST", "/stoker", FLOW),
            Write("DELETE", "/stoker/numbers/versions/00000001.json"),
        ),
    ),
    "prefect": Target(
        ("/api/admin/version", "/api/flows/count"),
        (Write("POST", "/api/flows/", FLOW), Write("DELETE", "/api/work_pools/stoker")),
    ),
}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A folder whose services run, with a corpus in their store; `stoker open` notes what the browser would get."""
    cli = Cli(tmp_path_factory.mktemp("up"))
    noted = cli.folder / "browser"
    noted.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {cli.folder}/opened\n')
    noted.chmod(0o700)
    cli.variables["BROWSER"] = str(noted)
    with services_up(cli, timeout=HANGS_S):
        corpus, _ = sample_corpus(8)
        store = load(environ={"STOKER_HOME": str(home(cli))}, cwd=cli.folder).open_store()
        for stored in corpus.list():
            store.write(stored.key, corpus.read(stored.key))
        yield cli


@pytest.fixture(scope="module")
def browser(up: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser that `stoker open numbers` has signed in."""
    with chromium(tmp_path_factory.mktemp("profile"), "--host-resolver-rules=MAP evil.example 127.0.0.1") as started:
        tab = started.tab(opened(up, "numbers"))
        tab.until("document.title === 'numbers@1 · Stoker'")
        prefect = started.tab(opened(up, "prefect"))
        prefect.until("location.pathname.endsWith('/dashboard') && document.body.innerText.includes('Logout')", 90)
        assert tab.run("location.href") == f"{url(up, 'web')}/c/numbers"  # the token is gone from the address
        yield started


@pytest.fixture(scope="module")
def foreign() -> Iterator[ForeignPage]:
    with foreign_page() as page:
        yield page


def home(cli: Cli) -> Path:
    return cli.folder / ".stoker"


def url(cli: Cli, service: str) -> str:
    return running.load(home(cli)).running[service].url


def opened(cli: Cli, *words: str) -> str:
    """The address that `stoker open` gives to the browser."""
    done = cli("open", *words)
    assert done.returncode == 0, done.stderr
    assert private.owner_token(home(cli)) not in done.stdout + done.stderr
    return (cli.folder / "opened").read_text()


def objects(cli: Cli) -> dict[str, str]:
    """Everything in the store, with what changes when it is written again."""
    store = load(environ={"STOKER_HOME": str(home(cli))}, cwd=cli.folder).open_store()
    return {stored.key: f"{stored.size} {stored.change_token}" for stored in store.list()}


@pytest.mark.parametrize("service", TARGETS)
def test_a_foreign_page_reads_nothing_and_changes_nothing(
    up: Cli, browser: Chromium, foreign: ForeignPage, service: str
) -> None:
    before, target = objects(up), url(up, service)
    api = f"{url(up, 'prefect')}/api"
    AUTH[api] = auth_string(private.owner_token(home(up)))
    flows = ask(api, "/flows/filter")
    browser.requests.clear()
    findings = foreign.attack(browser, target, reads=TARGETS[service].reads, writes=TARGETS[service].writes)
    assert len(findings) > 40
    assert [finding for finding in findings if finding.text or finding.loaded] == []
    answered = statuses(browser, target)
    assert {method for method, _, status in answered if status} >= {"GET", "POST", "OPTIONS"}
    others = {key for key in answered if key[2] not in (0, *REFUSED)}
    assert {key for key in others if service != "s3" or key[::2] != ("POST", 400)} == set()
    assert objects(up) == before
    assert ask(api, "/flows/filter") == flows
    assert [pool["name"] for pool in ask(api, "/work_pools/filter")] == ["stoker"]


def test_neither_the_token_nor_a_cookie_reaches_another_port(up: Cli, browser: Chromium, foreign: ForeignPage) -> None:
    tab = browser.tab(f"{url(up, 'web')}/")
    tab.until("document.title === 'Corpora · Stoker'")  # the attacks have not signed the owner out
    show(tab, foreign.url)  # as a link would lead there
    # Prefect's UI counts its visits in a cookie of its own, AMP_...: it opens nothing.
    assert [cookie for cookie in browser.cookies() if not cookie["name"].startswith("AMP_")] == []
    assert foreign.received
    assert not [headers for headers in foreign.received if "authorization" in headers]
    assert not [headers for headers in foreign.received if not headers.get("cookie", "AMP_").startswith("AMP_")]
    token = private.owner_token(home(up))
    sent = str(foreign.received) + "".join(unquote(_decoded(cookie["value"])) for cookie in browser.cookies())
    assert token not in sent
    assert b64encode(auth_string(token).encode()).decode() not in sent


def _decoded(value: str) -> str:
    return b64decode(unquote(value) + "==").decode(errors="replace")


def test_a_foreign_name_that_resolves_to_this_machine_is_answered_by_no_service(up: Cli, browser: Chromium) -> None:
    for service in TARGETS:
        address = url(up, service).replace("127.0.0.1", "evil.example")
        browser.requests.clear()
        text = show(browser.tab("about:blank"), f"{address}{TARGETS[service].reads[0]}")
        assert "numbers" not in text
        assert {status for _, _, status in statuses(browser, address)} - {0} <= REFUSED


def test_a_link_of_before_the_last_start_signs_nobody_in(up: Cli, browser: Chromium) -> None:
    page = Path(opened(up).removeprefix("file://")).read_text()
    (link,) = re.findall(r"url=([^\"]+)", page)
    wrong = unescape(link).replace(private.owner_token(home(up)), "x" * 43)
    tab = browser.tab(wrong)
    tab.until("document.querySelector('h1').textContent === 'Not signed in'")
    assert tab.run("location.href") == f"{url(up, 'web')}/login"
    assert "stoker open" in tab.run("document.body.innerText")


@pytest.mark.parametrize(
    "destination", ["//evil.example/", "/%5Cevil.example/", "/%09/evil.example", "https://evil.example", "javascript:1"]
)
def test_a_link_with_the_token_leads_to_no_other_origin(up: Cli, browser: Chromium, destination: str) -> None:
    web = url(up, "web")
    tab = browser.tab(f"{web}/login#{private.owner_token(home(up))}&to={destination}")
    tab.until("location.pathname !== '/login'")
    assert tab.run("location.origin") == web
