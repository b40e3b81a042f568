"""Progress on a terminal, and Ctrl-C."""

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from stoker.flows.progress import TerminalProgress
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, until

pytestmark = pytest.mark.slow
WORDS = [f"word-{number}" for number in range(12)]


def test_ctrl_c_cuts_what_cannot_be_asked_to_stop(served: Cli) -> None:
    recipe = served.recipe(WORDS)
    (served.folder / recipe).write_text((served.folder / recipe).read_text() + "plan_s = 60\n")
    process = served.start("ingest", recipe)
    until(served.journal)
    os.kill(process.pid, signal.SIGINT)
    stderr = process.communicate(timeout=20)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command resumes"
    assert "Traceback" not in stderr


def test_a_second_ctrl_c_ends_at_once(served: Cli) -> None:
    process = served.start("ingest", served.recipe(["a", "wait 60"]))
    until(served.journal)
    os.kill(process.pid, signal.SIGINT)
    assert process.stderr is not None
    while "Ctrl-C again" not in process.stderr.readline():
        pass
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(HANGS_S) == 130
    process.communicate()


def test_a_terminal_does_not_obey_names_of_others(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    name = "[red]a\x1b[2Jb"
    reporter = TerminalProgress()
    reporter.message(name)
    reporter.start_phase(name, 2)
    reporter.advance_to(1, name)
    reporter.close()
    shown = capfd.readouterr().err
    assert "[red]a\\x1b[2Jb" in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("piped", [False, True])
def test_a_line_of_the_result_is_not_folded_and_goes_to_standard_output(cli: Cli, *, piped: bool) -> None:
    code = (
        "from stoker.flows.progress import TerminalProgress\n"
        "reporter = TerminalProgress()\nreporter.start_phase('a', 2)\n"
        "reporter.print('x' * 300)\nreporter.print('y' * 300)\nreporter.close()"
    )
    main_end, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cli.folder, env=cli.environment() | {"TERM": "xterm", "COLUMNS": "80"}, timeout=HANGS_S, check=True,
        stdout=subprocess.PIPE if piped else terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = os.read(main_end, 65536).decode()
    os.close(main_end)
    if piped:
        assert done.stdout.decode() == "x" * 300 + "\n" + "y" * 300 + "\n"
        assert "xx" not in shown
    else:
        lines = [re.sub(r"\x1b\[[0-9?;]*[A-Za-z]|\r", "", line) for line in shown.split("\n")]
        assert [line for line in lines if "x" in line or "y" in line] == ["x" * 300, "y" * 300]


def test_a_refusal_leaves_no_spinner_on_the_terminal(cli: Cli) -> None:
    main_end, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "stoker", "index", "nowhere"],
        cwd=cli.folder, env=cli.environment() | {"TERM": "xterm"}, stdout=terminal, stderr=terminal, timeout=HANGS_S,
        check=False,
    )  # fmt: skip
    os.close(terminal)
    shown = os.read(main_end, 65536).decode()
    os.close(main_end)
    assert done.returncode == 1
    drawn, erase, rest = shown.rpartition("\x1b[1A\x1b[2K")  # the line above is emptied
    assert "looking for tars" in drawn
    assert erase
    assert rest.startswith("stoker: ")
    assert [line for line in rest.splitlines() if not line.isprintable()] == []


def test_a_terminal_gets_a_bar_and_not_prefects_log(served: Cli) -> None:
    command = f"{sys.executable} -m stoker ingest {served.recipe(WORDS)}"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        cwd=served.folder,
        env=served.environment() | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert "words@1: 12 samples" in done.stdout
    assert "━" in done.stdout
    assert "Flow run" not in done.stdout
