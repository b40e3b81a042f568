"""The command line: quick to answer, one line for what a user did wrong, nothing written then."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stoker.flows.services import prefect_server, seaweed
from tests.conftest import BUCKET
from tests.flows.conftest import Cli

HEAVY = {"torch", "prefect", "pyarrow", "numpy", "boto3", "PIL", "fastapi", "httpx", "pydantic", "ray", "rich"}
WORDS = ["one", "two", "three"]


def test_help_answers_in_under_half_a_second_and_imports_nothing_heavy(cli: Cli) -> None:
    def seconds() -> float:
        begun = time.monotonic()
        assert cli("--help").returncode == 0
        return time.monotonic() - begun

    assert min(seconds() for _ in range(5)) < 0.5
    code = "import sys; from stoker.flows.cli.cli import parser; parser().format_help(); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert HEAVY & set(shown.split()) == set()


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


def refused(cli: Cli, *words: str) -> str:
    """The one line of a refusal, after which nothing is in the store."""
    done = cli(*words)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("stoker: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert cli.objects() == {}
    return lines[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('corpus = "a"\n[source]\nname = "linse"\npath = "x"', "no source is called 'linse'; did you mean 'lines'?"),
        ('corpus = "a"\n[source]\nname = "lines"\npaht = "x"', "no option 'paht'; did you mean 'path'?"),
        ('corpus = "a"\n[source]\nname = "lines"\npath = "x"\neach = "two"', "each"),
        ('corpus = "A b"\n[source]\nname = "lines"\npath = "x"', "corpus 'A b'"),
        ('corpus = "a"\nstep = []\n[source]\nname = "lines"\npath = "x"', "unknown key 'step'; did you mean 'steps'?"),
        ('corpus = "a', "not TOML"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_says_what_and_where(text: str, expected: str, cli: Cli) -> None:
    (cli.folder / "a.toml").write_text(text)
    for command in ("check", "ingest"):
        line = refused(cli, command, "a.toml")
        assert expected in line
        assert "a.toml" in line


def test_a_recipe_that_is_not_there_is_one_line(cli: Cli) -> None:
    assert refused(cli, "ingest", "none.toml") == "stoker: none.toml: no such file; expected a recipe in TOML"


def test_check_says_what_a_recipe_is_made_of_and_fetches_nothing(cli: Cli) -> None:
    done = cli("check", cli.recipe(WORDS))
    assert done.returncode == 0, done.stderr
    assert "corpus words, source lines" in done.stdout
    assert cli.journal() == []


def test_a_missing_input_is_one_line(served: Cli) -> None:
    recipe = served.recipe(WORDS)
    (served.folder / "words.txt").unlink()
    assert "words.txt: no such file" in refused(served, "ingest", recipe)


def test_a_store_of_no_known_kind_is_one_line(cli: Cli) -> None:
    assert "gs" in refused(cli, "ingest", cli.recipe(WORDS), "--store", "gs://bucket")


def test_no_such_bucket_is_one_line(cli: Cli, s3_server: seaweed.Server) -> None:
    cli.variables |= {
        "STOKER_S3_ENDPOINT": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
    }
    line = refused(cli, "ingest", cli.recipe(WORDS), "--store", "s3://no-such-bucket")
    assert "no-such-bucket" in line
    assert s3_server.secret_key not in line


def test_wrong_credentials_are_one_line_without_the_secret(cli: Cli, s3_server: seaweed.Server) -> None:
    cli.variables |= {
        "STOKER_S3_ENDPOINT": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": "wrong-secret-wrong-secret",
    }
    line = refused(cli, "ingest", cli.recipe(WORDS), "--store", f"s3://{BUCKET}/a")
    assert "wrong-secret" not in line


def test_no_credentials_are_one_line(cli: Cli, s3_server: seaweed.Server) -> None:
    cli.variables["STOKER_S3_ENDPOINT"] = s3_server.endpoint
    assert "credentials" in refused(cli, "ingest", cli.recipe(WORDS), "--store", f"s3://{BUCKET}/a").lower()


def test_a_server_that_is_down_is_one_line(cli: Cli) -> None:
    cli.variables |= {
        "STOKER_S3_ENDPOINT": f"http://127.0.0.1:{prefect_server.free_port()}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    assert "127.0.0.1" in refused(cli, "ingest", cli.recipe(WORDS), "--store", "s3://bucket-x")


def test_a_prefect_server_that_is_down_is_one_line(cli: Cli) -> None:
    cli.variables["STOKER_PREFECT_URL"] = f"http://127.0.0.1:{prefect_server.free_port()}/api"
    assert "Prefect server does not answer" in refused(cli, "ingest", cli.recipe(WORDS))


def test_a_schedule_without_services_says_to_start_them(cli: Cli) -> None:
    recipe = cli.recipe(WORDS)
    for words in (("--interval", "1h"), ("--cron", "0 3 * * *")):
        assert "`stoker up` is not running" in refused(cli, "schedule", recipe, *words)
    assert "`stoker up` is not running" in refused(cli, "schedule", "--list")
    assert "expected five fields" in refused(cli, "schedule", recipe, "--cron", "at three")
    assert "for example 90s" in refused(cli, "schedule", recipe, "--interval", "soon")
    assert "Europe/Berlin" in refused(cli, "schedule", recipe, "--cron", "0 3 * * *", "--timezone", "Berlin")


@pytest.mark.parametrize("words", [("show", "none"), ("verify", "none@3"), ("why", "none", "key"), ("diff", "a", "b")])
def test_a_corpus_that_is_not_there_is_one_line(words: tuple[str, ...], cli: Cli) -> None:
    assert refused(cli, *words)


def test_down_with_nothing_running_is_no_error(cli: Cli) -> None:
    done = cli("down")
    assert (done.returncode, done.stderr) == (0, "nothing was running\n")


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
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command resumes"
    assert "Traceback" not in stderr
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(cli.folder).encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
