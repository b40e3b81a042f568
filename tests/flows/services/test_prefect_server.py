"""The temporary Prefect server of a run: started when there is no other, and ended with the run."""

import re
import urllib.request

import pytest

from tests.flows.conftest import Cli, shards, until, versions

pytestmark = pytest.mark.slow
WORDS = [f"word-{number}" for number in range(12)]


def test_without_a_server_a_run_has_one_of_its_own_and_leaves_none(cli: Cli) -> None:
    done = cli("ingest", cli.recipe(WORDS))
    assert done.returncode == 0, done.stderr
    assert len(versions(cli)) == 1
    port = re.search(r"watched at http://127\.0\.0\.1:(\d+)", done.stderr)
    assert port is not None
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/api/health", timeout=5)
    assert not [line for line in done.stderr.splitlines() if "prefect" in line.lower() and "watched" not in line]


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
    errors = [run.communicate(timeout=180)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert versions(cli) == ["words/versions/00000001.json"]
