"""The list of schedules: what is said where Prefect is busy, silent or no Prefect at all."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stoker.flows.runs import incomplete_state
from stoker.flows.schedules import record
from stoker.flows.schedules.api import Reader
from stoker.flows.schedules.overview import Outcome, Overview, Watch, _outcome, read
from stoker.flows.schedules.record import Record
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError
from tests.flows.conftest import Cli, until


@contextmanager
def answering(status: int, payload: bytes = b"{}") -> Iterator[str]:
    """The address of a server that is healthy, and answers everything else with this."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            healthy = self.path.endswith("/health")
            self.send_response(200 if healthy else status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *words: object) -> None:
            pass

    for method in ("GET", "POST", "DELETE", "PATCH"):
        setattr(Handler, f"do_{method}", Handler._answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "payload", "message"),
    [
        (503, b"{}", "the Prefect server answered HTTP 503; it is busy; try again"),
        (401, b"{}", "the Prefect server refuses this user (HTTP 401); set PREFECT_API_AUTH_STRING or "),
        (404, b"{}", "the Prefect server answered HTTP 404; see `stoker up`"),
        (200, b"<html>", "the Prefect server does not answer (Expecting value"),
    ],
)
def test_what_prefect_says_wrong_is_one_line(status: int, payload: bytes, message: str, tmp_path: Path) -> None:
    with answering(status, payload) as api, pytest.raises(StokerError) as refused:
        read(Settings(home=tmp_path), Reader(api))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("words", [("--list",), ("--pause", "a")])  # each way to ask Prefect once
def test_a_prefect_that_is_busy_or_gone_is_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    with answering(503) as api:
        cli.variables["STOKER_PREFECT_URL"] = api
        assert "HTTP 503" in cli.refused("schedule", *words)
    assert "the Prefect server does not answer" in cli.refused("schedule", *words)


def test_a_schedule_that_prefect_lost_is_named(cli: Cli) -> None:
    record.save(cli.folder / ".stoker", "words", Record(nonces=("1",)))
    with answering(200, b"[]") as api:
        cli.variables["STOKER_PREFECT_URL"] = api
        listed = cli("schedule", "--list")
        assert (listed.returncode, listed.stderr) == (0, "")
        assert listed.stdout.splitlines()[1].startswith("  cannot run: the Prefect server does not know it; ")


def test_a_run_left_out_is_told_in_our_words() -> None:
    message = "Deployment concurrency limit reached."
    run = {"state_name": "Cancelled", "state_type": "CANCELLED", "state": {"message": message, "timestamp": ""}}
    assert _outcome(run, UTC).reason == "the run before it was still going on"


def test_a_run_whose_version_is_not_whole_says_so_as_its_last_result() -> None:
    state = incomplete_state("words@1", 2, {"reference": "words@1", "new": True})
    run = {
        "state_name": state.name,
        "state_type": state.type.value,
        "state": {"message": state.message, "timestamp": ""},
    }
    outcome = _outcome(run, UTC)
    assert outcome.state == "Incomplete"
    assert outcome.reason.startswith("words@1 is not whole: 2 pieces of the source could not be read; stoker show")
    done = run | {"state_name": "Completed", "state": {"message": "All states completed.", "timestamp": ""}}
    assert _outcome(done, UTC).reason == ""


def test_a_reason_is_one_line_without_control_characters() -> None:
    text = "Flow run encountered an exception: stoker.pipelines.errors.SourceBroken: a\x1b[31m host\nsaid so"
    run = {
        "state_name": "Failed",
        "state_type": "FAILED",
        "state": {"message": text, "timestamp": "2026-11-26T02:00:00Z"},
    }
    from zoneinfo import ZoneInfo

    outcome = _outcome(run, ZoneInfo("Asia/Tokyo"))
    assert (outcome.state, outcome.at) == ("Failed", "2026-11-26T11:00:00+09:00")
    assert outcome.reason.startswith("a")
    assert outcome.reason.endswith(" host")
    assert "\x1b" not in outcome.reason


def test_the_page_keeps_what_it_knew_and_says_that_it_is_old() -> None:
    answers: list[Overview] = [Overview(error="")]

    def load() -> Overview:
        if not answers:
            raise StokerError("gone")
        return answers.pop()

    watch = Watch(load, refresh_s=0.0)
    assert watch().error == ""
    assert until(lambda: watch().error == "gone", 10)
    json.dumps(watch().to_json())
    assert Outcome("Failed", "").reason == ""
