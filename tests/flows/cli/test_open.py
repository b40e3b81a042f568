"""`stoker open`: which address, how the token gets to the browser, and what is said where it cannot."""

import json
import os
import re
import stat
import webbrowser
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from stoker.flows import private, running
from stoker.flows.cli.cli import main
from stoker.flows.running import Process, Services, this_process
from stoker.storage.stores.directory import DirectoryStore
from stoker.testing import sample_corpus

WEB, PREFECT = "http://127.0.0.1:18080", "http://127.0.0.1:14200"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `stoker up` runs, as far as others can tell; BROWSER writes its arguments to a file."""
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(variable, raising=False)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/opened\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(browser))
    monkeypatch.setattr(webbrowser, "_tryorder", None)  # it reads the environment once in a process
    monkeypatch.setattr(webbrowser, "_browsers", {})
    folder = tmp_path / "home"
    here = this_process()
    services = {"web": Process(here.pid, here.started, WEB), "prefect": Process(here.pid, here.started, PREFECT)}
    running.save(folder, Services(here, services, ready=True))
    private.new_owner_token(folder)
    return folder


@pytest.fixture
def run(home: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(["open", "--home", str(home), *words])
        return (code, *capfd.readouterr())

    return call


def link_of(home: Path) -> str:
    """The address to which the file for the browser leads."""
    (link,) = re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', (home / "open.html").read_text())
    return unescape(link)


def test_the_browser_gets_a_private_file_and_no_command_line_or_output_the_token(home: Path, run: Run) -> None:
    code, stdout, stderr = run()
    token = private.owner_token(home)
    assert (code, stdout, stderr) == (0, f"{WEB}/\n", "if the browser may not read the file: stoker open --print\n")
    assert (home.parent / "opened").read_text().splitlines() == [(home / "open.html").as_uri()]
    assert link_of(home) == f"{WEB}/login#{token}&to=/"
    assert stat.S_IMODE((home / "open.html").stat().st_mode) == 0o600


def test_a_second_call_and_one_after_another_start_lead_to_the_token_of_then(home: Path, run: Run) -> None:
    run()
    first = link_of(home)
    run()
    assert link_of(home) == first
    token = private.new_owner_token(home)
    run()
    assert link_of(home) == f"{WEB}/login#{token}&to=/" != first


def test_a_corpus_and_a_version_of_it_are_found_and_an_unknown_one_is_one_line(
    home: Path, run: Run, tmp_path: Path
) -> None:
    corpus, _ = sample_corpus(4)
    store = DirectoryStore(home / "store")
    for stored in corpus.list():
        store.write(stored.key, corpus.read(stored.key))
    for reference in ("numbers", "numbers@1"):
        assert run(reference)[:2] == (0, f"{WEB}/c/{reference}\n")
        assert link_of(home).endswith(f"&to=/c/{reference}")
    opened = (tmp_path / "opened").read_text()
    for wrong, words in (
        ("number", "did you mean 'numbers'?"),
        ("numbers@9", "it has 1"),
        ("/etc", "names no corpus"),
    ):
        code, stdout, stderr = run(wrong)
        assert (code, stdout, stderr.count("\n")) == (1, "", 1)
        assert words in stderr
    assert (tmp_path / "opened").read_text() == opened


def test_prefect_has_a_login_of_its_own(home: Path, run: Run) -> None:
    assert run("prefect")[:2] == (0, f"{PREFECT}/\n")
    assert link_of(home) == f"{PREFECT}/door/login#{private.owner_token(home)}&to=/"


def test_a_prefect_server_of_the_users_own_is_opened_without_our_token(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_PREFECT_URL", "https://prefect.example.org/api")
    assert run("prefect") == (0, "https://prefect.example.org\n", "")
    assert (home.parent / "opened").read_text() == "https://prefect.example.org\n"
    assert not (home / "open.html").exists()


def test_without_a_display_one_line_says_what_to_do_and_print_gives_the_link(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROWSER")
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
    code, stdout, stderr = run("prefect")
    assert (code, stdout) == (1, f"{PREFECT}/\n")
    assert stderr == (
        "stoker: no browser can be opened here; `stoker open prefect --print` prints a link for one elsewhere\n"
    )
    code, stdout, stderr = run("--print")
    assert (code, stdout) == (0, f"{WEB}/login#{private.owner_token(home)}&to=/\n")
    assert "ssh -L 18080:127.0.0.1:18080 " in stderr
    assert max(map(len, stderr.splitlines())) <= 80


def test_where_nothing_runs_or_not_yet_one_line_says_so(home: Path, run: Run, tmp_path: Path) -> None:
    services = json.loads((home / "services.json").read_text())
    (home / "services.json").write_text(json.dumps(services | {"ready": False}))
    code, _, stderr = run()
    assert (code, stderr.count("\n")) == (1, 1)
    assert "not ready yet" in stderr
    (home / "services.json").write_text(json.dumps(services | {"supervisor": {"pid": os.getpid(), "started": "then"}}))
    for words in ((), ("shapes",), ("prefect",)):
        code, stdout, stderr = run(*words)
        assert (code, stdout, stderr) == (1, "", f"stoker: nothing runs for {home}; run `stoker up --detach` first\n")
    assert not (tmp_path / "opened").exists()
