"""The temporary Prefect server of a run: started when there is no other, and ended with the run."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import FastAPI

from stoker.flows import private
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
from tests.conftest import HANGS_S
from tests.flows.conftest import AUTH, Cli, shards, until, versions
from tests.flows.page.serving import serve

pytestmark = pytest.mark.slow
WORDS = [f"word-{number}" for number in range(12)]


def test_without_a_server_a_run_has_one_of_its_own_and_leaves_none(cli: Cli) -> None:
    # Nobody is at this proxy: what goes to it fails, and the owner's token must not.
    cli.variables |= {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    # Prefect takes settings from these files of the working directory; this one names code to run.
    planted = {"version": 1, "handlers": {"h": {"class": "subprocess.Popen", "args": ["touch", "planted"]}}}
    (cli.folder / "logging.yml").write_text(json.dumps(planted | {"root": {"handlers": ["h"]}}))
    setting = f'"{cli.folder / "logging.yml"}"'
    (cli.folder / ".env").write_text(f"PREFECT_LOGGING_SETTINGS_PATH={setting}\n")
    (cli.folder / "pyproject.toml").write_text(f"[tool.prefect.logging]\nsettings_path = {setting}\n")
    (cli.folder / "prefect.toml").write_text(f"[logging]\nsettings_path = {setting}\n")
    done = cli("ingest", cli.recipe(WORDS))
    assert done.returncode == 0, done.stderr
    assert len(versions(cli)) == 1
    assert not (cli.folder / "planted").exists()
    port = re.search(r"watched at http://127\.0\.0\.1:(\d+)", done.stderr)
    assert port is not None
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/api/health", timeout=5)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("still waiting for a Prefect server")]
    assert not [line for line in lines if "prefect" in line.lower() and "watched" not in line]


def test_a_wait_is_told_after_a_while_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = 0.0
    waiting = prefect_server.Waiting("a server to start", clock=lambda: seconds)
    told: list[float] = []
    for seconds in (0.0, 9.0, 10.0, 11.0, 19.0, 20.0, 39.0, 41.0, 79.0, 85.0):
        waiting.go_on()
        if line := capsys.readouterr().err:
            assert line == f"still waiting for a server to start, for {seconds:.0f} s\n"
            told.append(seconds)
    assert told == [10, 20, 41, 85]


def test_a_server_of_ones_own_that_cannot_be_used_is_one_line(served: Cli, prefect_url: str) -> None:
    recipe = served.recipe(WORDS)
    served.variables["PREFECT_API_AUTH_STRING"] = "owner:of-another-server"
    refused = f"stoker: {prefect_url}: the Prefect server refuses this user (HTTP 401); set PREFECT_API_AUTH_STRING or "
    assert served.refused("ingest", recipe).startswith(refused)
    done = served("schedule", "--list")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(refused)
    other = FastAPI()
    other.get("/health")(lambda: "well")
    with serve(other) as address:
        for url, message in (
            ("http://127.0.0.1:1/api", "the Prefect server does not answer"),
            ("http://127.0.0.1:x/api", "the Prefect server does not answer"),
            (address, "no API of a Prefect server (HTTP 404)"),
        ):
            served.variables["STOKER_PREFECT_URL"] = url
            assert message in served.refused("ingest", recipe)


def test_the_token_is_in_no_log_and_no_argument(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    token = AUTH[prefect_url].removeprefix("owner:")
    logs = list(tmp_path_factory.getbasetemp().glob("prefect*/logs/*.log"))
    assert logs  # of this server
    assert not [log for log in logs if token.encode() in log.read_bytes()]
    if Path("/proc/self/cmdline").exists():
        arguments = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # a process that ended
                arguments.append(path.read_bytes())
        assert [line for line in arguments if b"prefect-temporary" in line]
        assert not [line for line in arguments if token.encode() in line]
    assert token not in repr(prefect_server.Api(prefect_url, AUTH[prefect_url]))


def test_a_killed_run_leaves_no_server_behind_and_is_resumed(
    cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [line for number in range(10) for line in (f"w{number}", "wait 0.2")]
    recipe = cli.recipe(lines)
    process = cli.start("ingest", recipe)
    until(lambda: len(cli.journal()) >= 4, 60)
    process.kill()
    stderr = process.communicate()[1]
    port = re.search(r"watched at http://127\.0\.0\.1:(\d+)", stderr)
    assert port is not None

    def gone() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/api/health", timeout=5).close()
        except OSError:
            return True
        return False

    assert until(gone)
    assert cli("ingest", recipe).returncode == 0
    undisturbed = Cli(tmp_path_factory.mktemp("undisturbed"))
    undisturbed.recipe(lines)
    assert undisturbed("ingest", recipe).returncode == 0
    assert shards(cli) == shards(undisturbed)


def test_two_runs_at_once_both_end_and_nothing_is_lost(cli: Cli) -> None:
    recipe = cli.recipe([line for number in range(8) for line in (f"w{number}", "wait 0.2")])
    runs = [cli.start("ingest", recipe) for _ in range(2)]  # each with a temporary server on the same new database
    errors = [run.communicate(timeout=HANGS_S)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert versions(cli) == ["words/versions/00000001.json"]


def test_no_other_user_can_take_the_port_of_a_server_that_starts(tmp_path: Path) -> None:
    private.new_owner_token(tmp_path)
    with prefect_server.listen() as listener:
        port = listener.getsockname()[1]
        process = prefect_server.start_child(
            Settings(home=tmp_path), "web", listener, log=tmp_path / "web.log", tied=False
        )
    try:
        deadline, answer = time.monotonic() + 60, b""
        while not answer and time.monotonic() < deadline:
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    thief.bind(("127.0.0.1", port))
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as response:
                answer = response.read()
        assert answer == b"ok\n"
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads the environment of a process in /proc")
@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9/api"])
def test_only_a_scheduler_of_a_server_of_ones_own_signs_in_as_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:pw")
    settings = Settings(home=tmp_path / "home", prefect_url=url)
    found = {}
    for name in ("schedule", "prefect"):
        process = prefect_server.start_child(settings, name, None, log=tmp_path / "log", tied=False)
        try:
            # Empty until the kernel has set up the new program.
            environment = until(Path(f"/proc/{process.pid}/environ").read_bytes).split(b"\0")
            found[name] = b"PREFECT_API_AUTH_STRING=admin:pw" in environment
        finally:
            process.kill()
            process.wait()
    assert found == {"schedule": bool(url), "prefect": False}


def test_reports_to_a_server_that_is_gone_are_dropped_in_silence_and_hold_nobody(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from stoker.flows import logs
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
logs.configure()
prefect_server.enter(Settings(home=Path({str(tmp_path)!r})), prefect_server.Api("http://127.0.0.1:9/api"))
from prefect.events import emit_event
from prefect.logging.handlers import APILogWorker
for number in range(20):
    emit_event(event="test", resource={{"prefect.resource.id": f"test.{{number}}"}})
APILogWorker.instance().send({{"message": "lost"}})
prefect_server._flush()
print(time.monotonic())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_S, check=False)
    ended = time.monotonic()
    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 10  # one of these reports takes 7 s
