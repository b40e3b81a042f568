"""Notes and logs: what each level shows, in both formats, without secrets and control characters."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.flows import logs
from stoker.flows.services.prefect_server import free_port
from stoker.pipelines.web.client import Web
from stoker.storage.stores.memory import MemoryStore
from tests.flows.inspected_corpus import Shapes, make

SECRETS = {
    "https://ann:pw12345@example.org/a": "pw12345",
    "https://a.org/x?page=2&X-Amz-Signature=0f1e2d&X-Amz-Credential=AKIA1%2F2026": "0f1e2d AKIA1",
    "https://a.org/x?key=AIzaSy123": "AIzaSy123",
    "http://127.0.0.1:8080/login#s3cretToken&to=/": "s3cretToken",
    "aws_secret_access_key=wJalrX/K7": "wJalrX/K7",
    "{'password': 'hunter2', 'user': 'ann'}": "hunter2",
    "Authorization: Bearer abc.def-123": "abc.def-123",
    "sent Basic b3duZXI6VE9LRU4=": "b3duZXI6VE9LRU4=",
    "api_key=sk-12345&x=1": "sk-12345",
    "token=tok_en/1 and more": "tok_en/1",
}


@pytest.fixture(autouse=True)
def undo() -> Iterator[None]:
    with logs.restored():
        yield


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("stoker.tests.logs")


def shown(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def test_each_level_shows_what_it_says(log: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    expected = {
        "error": ["error: e"],
        "warning": ["a note", "warning: w", "error: e"],
        "info": 4,
        "debug": 5,
    }
    for level, lines in expected.items():
        logs.configure(level=level)
        logs.note("a note")
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")
        found = shown(capfd)
        assert found == lines if isinstance(lines, list) else len(found) == lines
        assert logs.is_quiet() is (level == "error")


def test_json_is_an_object_a_line_with_the_fields_of_the_call(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level="info", format="json")
    log.info("%s again", "https://a.org", extra={"url": "https://ann:pw@a.org", "attempt": 2, "waits": float("nan")})
    logs.note("one\ntwo")
    try:
        raise ValueError("token=abc")
    except ValueError:
        log.exception("it broke")
    first, one, two, broke = map(json.loads, shown(capfd))
    assert first == {
        "url": "https://***@a.org",
        "attempt": 2,
        "waits": None,
        "time": first["time"],
        "level": "info",
        "logger": "stoker.tests.logs",
        "message": "https://a.org again",
    }
    assert (one["message"], two["message"], one["logger"]) == ("one", "two", "stoker")
    assert "Traceback" in broke["exception"]
    assert "abc" not in broke["exception"]


@pytest.mark.parametrize("format_name", logs.FORMATS)
@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_replaced(
    text: str, format_name: str, log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure(format=format_name)
    log.warning("asked %s", text, extra={"given": {"all": [text]}})
    (line,) = shown(capfd)
    assert "***" in line
    assert [secret for secret in SECRETS[text].split() if secret in line] == []


@pytest.mark.parametrize("text", ["no key is called 'a'", "home/token: missing; run `stoker up`", "seed=3, label='x'"])
def test_plain_words_are_not_replaced(text: str) -> None:
    assert logs.redacted(text) == text


@pytest.mark.parametrize("format_name", logs.FORMATS)
def test_control_characters_are_escaped(
    format_name: str, log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure(format=format_name)
    log.warning("\x1b[31mred\x9b\u202e\nnext")
    logs.note("\x07")
    logs.error("of \x1b]0;x\x07")
    assert [line for line in shown(capfd) if not line.isprintable()] == []


def test_in_a_file_every_line_has_its_time(log: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", in_file=True)
    logs.note("started")
    log.info("written")
    for line in shown(capfd):
        assert line[:2] == "20"
        assert " INFO " in line


def test_the_line_about_what_failed_is_one_with_its_time_in_a_file_and_without_secrets_everywhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs.error("https://ann:pw12345@example.org/a:\n away")
    assert shown(capfd) == ["stoker: https://***@example.org/a: away"]
    logs.configure(in_file=True)
    logs.error("https://ann:pw12345@example.org/a: away")
    (line,) = shown(capfd)
    assert line.endswith("Z ERROR   stoker: https://***@example.org/a: away")


def test_a_command_that_a_program_calls_leaves_the_programs_levels_and_format(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level="info", format="json")
    with logs.restored():
        logs.configure(level="error")
    log.info("i")
    assert json.loads(shown(capfd)[0])["message"] == "i"


def test_a_line_goes_to_what_standard_error_is_at_the_time(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure()
    progress_bar = io.StringIO()
    monkeypatch.setattr(sys, "stderr", progress_bar)
    log.warning("above the bar")
    assert progress_bar.getvalue() == "warning: above the bar\n"


def test_the_package_alone_is_silent() -> None:
    code = "import stoker.storage, logging; logging.getLogger('stoker.storage').error('nobody asked')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_command_leaves_no_handler_behind(capfd: pytest.CaptureFixture[str]) -> None:
    from stoker.flows.cli.cli import main

    before = list(logging.getLogger("stoker").handlers)
    assert main(["show", "x", "--store", "memory:"]) == 1
    assert logging.getLogger("stoker").handlers == before
    assert logging.getLogger("stoker").propagate


def test_an_ingest_logs_what_it_writes_uses_again_and_publishes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    caplog.set_level("DEBUG", "stoker")
    make(store, tmp_path, Shapes(), "shapes")
    first = caplog.text
    for expected in ("lease taken", "read 20, kept 18", "train-00000.tar: written, ", "shapes@1: published"):
        assert expected in first
    caplog.clear()
    make(store, tmp_path, Shapes(), "shapes")
    assert "is packed and is used again" in caplog.text
    assert "shapes@1 holds all this" in caplog.text


def test_a_request_that_is_tried_again_is_logged_without_its_secrets(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", format="json")
    port = free_port()
    web = Web(allow_private="127.0.0.1", attempts=2, backoff_s=0.01, requests_per_second=0)
    web.get(f"http://127.0.0.1:{port}/a?token=hunter2", max_size=10)
    lines = [json.loads(line) for line in shown(capfd)]
    assert [line["attempt"] for line in lines if line["logger"] == "stoker.pipelines.web.client"] == [2]
    assert "hunter2" not in json.dumps(lines)
