"""The command line: quick to answer, one line for what a user did wrong, nothing written then."""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from stoker.flows.cli.cli import parser
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli

HEAVY = {"torch", "prefect", "pyarrow", "numpy", "boto3", "PIL", "fastapi", "httpx", "pydantic", "ray", "rich"}
WORDS = ["one", "two", "three"]


def test_help_answers_in_under_half_a_second_and_imports_nothing_heavy(cli: Cli) -> None:
    def seconds() -> float:
        begun = os.times()
        assert cli("--help").returncode == 0
        ended = os.times()  # of the CPU: a busy machine makes others wait
        return ended.children_user + ended.children_system - begun.children_user - begun.children_system

    assert min(seconds() for _ in range(5)) < 0.5
    code = "import sys; from stoker.flows.cli.cli import parser; parser().format_help(); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert HEAVY & set(shown.split()) == set()


def test_a_commands_tables_lie_in_mallocs_memory_unless_the_user_chose_another(tmp_path: Path) -> None:
    code = (
        "import sys; from stoker.flows.cli.cli import main; main(sys.argv[1:])\n"
        "import pyarrow; print(pyarrow.default_memory_pool().backend_name, *pyarrow.supported_memory_backends())"
    )
    command = [sys.executable, "-c", code, "--store", str(tmp_path / "store"), "curate", "photos.toml"]
    free = {name: text for name, text in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}

    def used(**chosen: str) -> list[str]:
        found = subprocess.run(
            command, cwd=tmp_path, env=free | chosen, capture_output=True, text=True, timeout=HANGS_S, check=True
        )
        assert "photos.toml" in found.stderr  # the command itself ran
        return found.stdout.split()

    pool, *supported = used()
    assert pool == "system"
    other = next(name for name in supported if name != "system")
    assert used(ARROW_DEFAULT_MEMORY_POOL=other)[0] == other


def test_every_command_names_a_function() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]  # argparse's own
    for command in commands.values():  # type: ignore[union-attr]  # a dictionary: argparse types it as an iterable
        module, _, function = command.get_default("run").partition(":")
        assert callable(getattr(import_module(module), function))


def test_every_command_has_help(cli: Cli) -> None:
    top = cli("--help").stdout
    for name in ("up", "down", "check", "ingest", "schedule", "list", "show", "diff", "why", "verify", "train", "demo"):
        assert f"\n    {name} " in top
        assert cli(name, "--help").stdout.startswith(f"usage: stoker {name}")


@pytest.mark.parametrize(
    "words", [(), ("ingset", "a.toml"), ("ingest",), ("ingest", "a.toml", "--runer", "x"), ("schedule",)]
)
def test_wrong_usage_ends_with_2(words: tuple[str, ...], cli: Cli) -> None:
    done = cli(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("show", "none"), ("verify", "none@3"), ("why", "none", "key"), ("diff", "a", "b")])
def test_a_corpus_that_is_not_there_is_one_line(words: tuple[str, ...], cli: Cli) -> None:
    assert cli.refused(*words)


def test_a_bug_shows_its_traceback(served: Cli) -> None:
    done = served("ingest", served.recipe(["one", "bug"]))
    assert done.returncode == 1
    assert "ZeroDivisionError: a bug" in done.stderr
    assert "Traceback" in done.stderr


def test_ctrl_c_before_the_work_has_begun_ends_with_130(cli: Cli) -> None:
    process = cli.start("ingest", cli.recipe(WORDS))
    assert process.stderr is not None
    assert process.stderr.readline() == "starting\n"  # its temporary Prefect server needs seconds
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    stderr = process.communicate(timeout=HANGS_S)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command resumes"
    assert "Traceback" not in stderr
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(cli.folder).encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_ctrl_c_in_the_first_moments_shows_no_traceback(cli: Cli) -> None:
    codes = set()
    for delay_s in (0.08, 0.12, 0.16, 0.2, 0.3, 0.5):
        process = cli.start("show", "none", "--store", "memory:")
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=HANGS_S)[1]
        # Python itself may still be starting, which shows a traceback of Python's own.
        assert "stoker/flows" not in stderr, stderr
        codes.add(process.returncode)
    assert codes <= {130, 1, -signal.SIGINT}


def _run(cli: Cli, redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "stoker", *words]
    return subprocess.run(
        command, cwd=cli.folder, env=cli.environment(), capture_output=True, text=True, timeout=HANGS_S, check=False
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
