"""The same flow on threads, processes, a local Ray cluster and a local Dask cluster, by one setting."""

import importlib.util
import os
import signal

import pytest

from tests.flows.conftest import Cli, shards, until, versions

pytestmark = pytest.mark.slow
LINES = [*(f"word-{number}" for number in range(12)), "busy 1", "x"]


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


RUNNERS = [
    "threads",
    "processes",
    pytest.param("ray", marks=needs("prefect_ray")),
    pytest.param("dask", marks=needs("prefect_dask")),
]


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_makes_the_same_shards_and_retries(
    runner: str, served: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = served.recipe(LINES)
    done = served("ingest", recipe, "--runner", runner, "--workers", "2", timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("words@1: 13 samples")
    assert served.journal().count("lines-12") == 2
    plain = Cli(tmp_path_factory.mktemp("plain"), served.variables)
    plain.recipe(LINES)
    assert plain("ingest", recipe).returncode == 0
    assert shards(served) == shards(plain)


@pytest.mark.parametrize("runner", RUNNERS[1:])
def test_every_runner_reports_a_partition_that_failed_in_one_line(runner: str, served: Cli) -> None:
    done = served("ingest", served.recipe(["a", "b", "c", "broken"]), "--runner", runner, timeout=240)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("stoker: words: 1 of 2 partitions failed and nothing was published")
    assert "Traceback" not in done.stderr
    assert versions(served) == []


@pytest.mark.parametrize("runner", RUNNERS[1:])
def test_ctrl_c_reaches_the_tasks_of_every_runner(runner: str, served: Cli) -> None:
    lines = [line for number in range(40) for line in (f"w{number}", "wait 0.5")]
    process = served.start("ingest", served.recipe(lines), "--runner", runner, "--workers", "2")
    assert until(lambda: len(served.journal()) >= 2, 90)
    os.killpg(os.getpgid(process.pid), signal.SIGINT)  # as a terminal does it: to the whole group
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command resumes"
    assert "Traceback" not in stderr
    assert len(served.journal()) < 20


def test_a_runner_that_is_not_installed_is_one_line(served: Cli) -> None:
    blocked = served.folder / "prefect_ray.py"
    blocked.write_text("raise ImportError('not here')\n")
    served.variables["PYTHONPATH"] = f"{served.folder}:{served.environment()['PYTHONPATH']}"
    done = served("ingest", served.recipe(["a"]), "--runner", "ray")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'stoker: runner "ray" is not installed; pip install "stoker[ray]"'
