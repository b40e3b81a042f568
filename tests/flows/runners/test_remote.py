"""Clusters of a user's own, on loopback: a Ray cluster of two nodes, a Dask scheduler with two workers."""

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.flows.runners import remote
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
from stoker.pipelines.recipe import parse
from stoker.storage.versions.work import ingest_lease
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, shards, until, versions
from tests.flows.runners.test_tasks import needs

pytestmark = pytest.mark.slow
WORDS = [f"word-{number}" for number in range(8)]
SLOW = [line for word in WORDS for line in (word, "wait 1")]


class Cluster:
    """The address of a cluster, its two nodes, which have an environment and a temporary folder of their own."""

    def __init__(self, cli: Cli, variable: str) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="stoker-test-", dir="/tmp"))  # short: Ray's sockets lie in it
        self.environment = Cli(self.scratch).environment() | {"TMPDIR": str(self.scratch), "HOME": str(self.scratch)}
        self.variable, self.address = variable, ""
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.scratch / "log").open("ab") as log:
            return subprocess.Popen(
                [str(Path(sys.executable).parent / command[0]), *command[1:]],
                cwd=self.scratch,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def dask(cli: Cli) -> Iterator[Cluster]:
    cluster = Cluster(cli, "STOKER_DASK_ADDRESS")
    port = prefect_server.free_port()
    cluster.address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, cluster.scratch, ignore_errors=True)
        command = ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        stack.callback(kill, cluster.start(*command))
        assert until(lambda: listens(port), 60)
        for _ in range(2):
            options = ["--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--no-nanny"]
            cluster.nodes.append(cluster.start("dask", "worker", cluster.address, *options))
            stack.callback(kill, cluster.nodes[-1])
        yield cluster


@contextmanager
def ray(cli: Cli) -> Iterator[Cluster]:
    cluster = Cluster(cli, "STOKER_RAY_ADDRESS")
    ports = [prefect_server.free_port() for _ in range(2)]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    cluster.environment |= token
    cli.variables |= token
    cluster.address = f"ray://127.0.0.1:{ports[1]}"
    common = ["--block", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=80000000"]
    common += ["--min-worker-port=0", "--max-worker-port=0"]
    head = ["--head", f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}", "--include-dashboard=false"]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, cluster.scratch, ignore_errors=True)
        for options in ([*head, f"--temp-dir={cluster.scratch}/ray"], [f"--address=127.0.0.1:{ports[0]}"]):
            cluster.nodes.append(cluster.start("ray", "start", *options, *common))
            stack.callback(kill, cluster.nodes[-1])
            assert until(lambda: listens(ports[1]), 90), (cluster.scratch / "log").read_text()
        yield cluster


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def kill(process: subprocess.Popen[bytes]) -> None:
    """A node, with all that it started, as when its machine is switched off."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


CLUSTERS = [
    pytest.param("dask", marks=needs("prefect_dask")),
    pytest.param("ray", marks=[needs("prefect_ray"), pytest.mark.nightly]),
]


@pytest.mark.parametrize("kind", CLUSTERS)
def test_an_ingest_on_a_cluster_survives_a_node_and_has_the_bytes_of_threads(
    kind: str, served: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = served.recipe(SLOW)
    with {"dask": dask, "ray": ray}[kind](served) as cluster:
        served.variables[cluster.variable] = cluster.address
        process = served.start("ingest", recipe, "--runner", kind, "--workers", "2")
        assert until(lambda: len(served.journal()) >= 3, 120)
        kill(cluster.nodes[1])
        stdout, stderr = process.communicate(timeout=HANGS_S)
        assert process.returncode == 0, stderr
        assert stdout.startswith("words@1: 8 samples")
        assert "Traceback" not in stderr
        homes = [path for path in cluster.scratch.rglob(f"stoker-{os.geteuid()}") if path.is_dir()]
        assert homes
        assert {stat.S_IMODE(path.stat().st_mode) for path in homes} == {0o700}
    # Only the plan was written there: what workers fetch lies in homes of their own.
    assert list((served.folder / ".stoker" / "scratch").glob("*")) == []
    plain = Cli(tmp_path_factory.mktemp("plain"), dict(served.variables))
    plain.recipe(SLOW)
    assert plain("ingest", recipe).returncode == 0
    assert shards(served) == shards(plain)


@needs("prefect_dask")
def test_a_worker_of_a_cluster_with_another_plugin_is_named(served: Cli) -> None:
    other = served.folder / "plugin" / "stoker_lines-2.dist-info"
    with dask(served) as cluster:
        served.variables["STOKER_DASK_ADDRESS"] = cluster.address
        shutil.copytree(Path(__file__).parents[1] / "plugin", other.parent)
        (other.parent / "stoker_lines-1.dist-info").rename(other)
        metadata = other / "METADATA"
        metadata.write_text(metadata.read_text().replace("Version: 1", "Version: 2"))
        served.variables["PYTHONPATH"] = str(other.parent)
        done = served("ingest", served.recipe(WORDS), "--runner", "dask")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert 'stoker-lines 1, and the run has stoker-lines 2; pip install "stoker-lines==2" there' in line
    assert "Traceback" not in done.stderr
    assert versions(served) == []


def test_a_worker_that_sees_another_store_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", store=str(tmp_path / "store"))
    with ingest_lease(settings.open_store(), "words") as lease:
        assert remote.open_store(settings, lease).url == settings.store
        with pytest.raises(remote.WorkerUnfit, match="is not the store of this run; use an S3 store"):
            remote.open_store(replace(settings, store=str(tmp_path / "other")), lease)
        with pytest.raises(remote.WorkerUnfit, match="is for its own machine and user; set STOKER_STORE"):
            remote.open_store(replace(settings, store=""), lease)


def test_a_worker_with_another_python_or_stoker_is_refused(tmp_path: Path) -> None:
    source = {"name": "local_files", "files": "x"}
    recipe = parse({"corpus": "a", "source": source, "splits": {"train": 100}}, root=tmp_path)
    expected = remote.expectations(recipe, "lease")["versions"]
    assert set(expected) == {"Python", "stoker"}
    remote.check_versions(expected)
    for name, remedy in (("Python", "start it with Python 2.7"), ("stoker", 'pip install "stoker==2.7" there')):
        with pytest.raises(remote.WorkerUnfit) as refused:
            remote.check_versions(expected | {name: "2.7"})
        assert remedy in str(refused.value)
        assert socket.gethostname() in str(refused.value)


@pytest.mark.parametrize("runner", CLUSTERS[:1])
def test_a_cluster_that_does_not_answer_is_one_line_in_bounded_time(runner: str, served: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        for port in (prefect_server.free_port(), silent.getsockname()[1]):
            served.variables[f"STOKER_{runner.upper()}_ADDRESS"] = f"tcp://127.0.0.1:{port}"
            line = served.refused("ingest", served.recipe(WORDS), "--runner", runner)
            assert f"tcp://127.0.0.1:{port}: the Dask cluster cannot be used: " in line
