"""A run that cannot start: one line, before anything is started."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stoker.flows import start
from stoker.flows.progress import ProgressReporter
from stoker.flows.services import prefect_server, seaweed
from tests.conftest import BUCKET, HANGS_S
from tests.flows.conftest import Cli, until

WORDS = ["one", "two", "three"]


def test_a_store_of_no_known_kind_is_one_line(cli: Cli) -> None:
    assert "gs" in cli.refused("ingest", cli.recipe(WORDS), "--store", "gs://bucket", code=2)


@pytest.mark.parametrize("words", [("list",), ("show", "words"), ("why", "words", "x"), ("gc",), ("verify", "words")])
def test_a_store_that_cannot_be_one_is_one_line_for_commands_that_read(words: tuple[str, ...], cli: Cli) -> None:
    for store, message, code in (
        ("s3:/x", "stoker: --store: s3:/x: no URL; did you mean s3://x?", 2),
        ("/etc/passwd", "store /etc/passwd: a file", 1),
        ("nowhere", "no such folder", 1),
    ):
        assert message in cli.refused(*words, "--store", store, code=code)
    assert not (cli.folder / "nowhere").exists()


def test_the_default_store_that_is_not_there_yet_is_empty(cli: Cli) -> None:
    done = cli("list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "holds no corpus yet" in " ".join(done.stdout.split())


def test_no_such_bucket_is_one_line(cli: Cli, s3_server: seaweed.Server) -> None:
    access_key, secret_key = s3_server.administrator
    cli.variables |= {
        "STOKER_S3_ENDPOINT": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
    }
    line = cli.refused("ingest", cli.recipe(WORDS), "--store", "s3://no-such-bucket")
    assert "no-such-bucket" in line
    assert secret_key not in line


def test_wrong_credentials_are_one_line_without_the_secret(cli: Cli, s3_server: seaweed.Server) -> None:
    cli.variables |= {
        "STOKER_S3_ENDPOINT": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": "wrong-secret-wrong-secret",
    }
    line = cli.refused("ingest", cli.recipe(WORDS), "--store", f"s3://{BUCKET}/a")
    assert "wrong-secret" not in line


def test_no_credentials_are_one_line(cli: Cli, s3_server: seaweed.Server) -> None:
    cli.variables["STOKER_S3_ENDPOINT"] = s3_server.endpoint
    assert "credentials" in cli.refused("ingest", cli.recipe(WORDS), "--store", f"s3://{BUCKET}/a").lower()


def test_a_server_that_is_down_is_one_line(cli: Cli) -> None:
    cli.variables |= {
        "STOKER_S3_ENDPOINT": f"http://127.0.0.1:{prefect_server.free_port()}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    assert "127.0.0.1" in cli.refused("ingest", cli.recipe(WORDS), "--store", "s3://bucket-x")


def test_a_prefect_server_that_is_down_is_one_line(cli: Cli) -> None:
    cli.variables["STOKER_PREFECT_URL"] = f"http://127.0.0.1:{prefect_server.free_port()}/api"
    assert "Prefect server does not answer" in cli.refused("ingest", cli.recipe(WORDS))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_same_command_resumes(served: Cli) -> None:
    recipe = served.recipe(["big 3000000", "x"])
    limited = ["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", sys.executable, "-m", "stoker", "ingest", recipe]
    done = subprocess.run(
        limited,
        cwd=served.folder,
        env=served.environment(),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "the limit of a file's size is reached" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    again = served("ingest", recipe, timeout=HANGS_S)
    assert again.returncode == 0, again.stderr


@pytest.fixture
def small_disk(cli: Cli) -> Iterator[Path]:
    """A disk of 60 MB that has the home."""
    disk = cli.folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("no disk may be mounted here")
    cli.variables |= {"STOKER_HOME": str(disk / "home"), "STOKER_STORE": str(cli.folder / "corpora")}
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all room of a disk."""
    with (disk / "filling").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    return disk / "filling"


def test_a_prefect_server_that_a_full_disk_ended_is_told_as_a_full_disk(cli: Cli, small_disk: Path) -> None:
    session = start._Session(ProgressReporter(), "http://127.0.0.1:9/api", small_disk)
    assert "does not answer any more" in str(session.lost())
    fill(small_disk)
    assert "is full: free some space" in str(session.lost())


@pytest.mark.slow
def test_a_full_disk_under_the_home_is_one_line_before_the_run(cli: Cli, small_disk: Path) -> None:
    fill(small_disk)
    done = cli("ingest", cli.recipe(WORDS))
    assert done.returncode == 1
    assert "is full: free some space, or set STOKER_HOME" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_disk_that_fills_up_under_the_home_is_one_line_and_the_same_command_resumes(
    cli: Cli, small_disk: Path
) -> None:
    recipe = cli.recipe([line for number in range(40) for line in (f"w{number}", "wait 0.5")])
    process = cli.start("ingest", recipe)
    assert until(lambda: len(cli.journal()) > 5, 120)
    filling = fill(small_disk)
    _, stderr = process.communicate(timeout=HANGS_S)
    assert process.returncode == 1, stderr
    assert "is full: free some space, or set STOKER_HOME" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    filling.unlink()
    again = cli("ingest", recipe)
    assert again.returncode == 0, again.stderr
    assert "40 samples" in again.stdout
