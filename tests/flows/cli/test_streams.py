"""Standard output that is full or closed, and paths that no file system takes: one line, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import Cli


def _run(cli: Cli, redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "stoker", *words]
    return subprocess.run(
        command, cwd=cli.folder, env=cli.environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk for everybody is Linux's")
@pytest.mark.parametrize("words", [("help",), ("list", "--json"), ("--help",), ("--version",)], ids=" ".join)
def test_a_full_disk_under_standard_output_is_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    done = _run(cli, ">/dev/full", *words)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device; free some space, and run again" in done.stderr


def test_a_standard_file_that_is_closed_is_as_good_as_none(cli: Cli) -> None:
    done = _run(cli, ">&-", "help")
    assert (done.returncode, done.stderr) == (0, "")
    done = _run(cli, "2>&-", "show", "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert _run(cli, "<&- >&- 2>&-", "example", "digits").returncode == 0
    assert (cli.folder / "digits.toml").read_text().startswith("#")


@pytest.mark.parametrize("words", [("--store", "LONG", "list"), ("index", "LONG"), ("check", "LONG")], ids=" ".join)
def test_a_path_that_is_too_long_is_one_line(cli: Cli, words: tuple[str, ...]) -> None:
    done = cli(*(os.fspath(cli.folder / ("a" * 5000)) if word == "LONG" else word for word in words))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert "File name too long" in done.stderr.splitlines()[-1]
