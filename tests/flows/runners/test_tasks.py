"""The same flow on threads, processes, a local Ray cluster and a local Dask cluster, by one setting."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, children, shards, until, versions
from tests.pipelines.pictures import packed, picture

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
    done = served("ingest", recipe, "--runner", runner, "--workers", "2", timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("words@1: 13 samples")
    assert served.journal().count("lines-12") == 2
    plain = Cli(tmp_path_factory.mktemp("plain"), served.variables)
    plain.recipe(LINES)
    assert plain("ingest", recipe).returncode == 0
    assert shards(served) == shards(plain)


@pytest.mark.parametrize("runner", RUNNERS[1:])
def test_every_runner_reports_a_partition_that_failed_in_one_line(runner: str, served: Cli) -> None:
    done = served("ingest", served.recipe(["a", "b", "c", "broken"]), "--runner", runner, timeout=HANGS_S)
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
    stderr = process.communicate(timeout=HANGS_S)[1]
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


@pytest.mark.parametrize(
    "runner",
    [
        "processes",
        # ``test_remote`` kills nodes of both, and these take minutes.
        pytest.param("ray", marks=[needs("prefect_ray"), pytest.mark.nightly]),
        pytest.param("dask", marks=[needs("prefect_dask"), pytest.mark.nightly]),
    ],
)
def test_a_worker_that_is_killed_is_replaced_and_what_kills_it_is_named(runner: str, served: Cli) -> None:
    # On a cluster a worker has several tasks: one may lose a try to the worker's end by another's.
    deaths = 2 if runner == "processes" else 1
    lines = [*LINES[:6], f"die {deaths}", "wait 0.1", *LINES[6:12], "die 99", "y"]
    recipe = served.recipe(lines)
    done = served("ingest", recipe, "--runner", runner, "--workers", "2", timeout=HANGS_S)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(
        "stoker: words: 1 of 8 partitions failed and nothing was published; 'lines-14': it ended its "
    )
    assert "worker 3 times" in line
    assert ("signal 9, SIGKILL" in line) == (runner == "processes")
    tries = served.journal().count("lines-6")
    assert tries == 3 if runner == "processes" else 2 <= tries <= 3
    assert served.journal().count("lines-14") <= 3
    if runner == "processes":  # no other partition is lost with it
        assert {name: served.journal().count(name) for name in ("lines-0", "lines-12")} == {"lines-0": 1, "lines-12": 1}

    lines[-2] = "z"  # the same command tries it again: and now it can be read
    served.recipe(lines)
    again = served("ingest", recipe, "--runner", runner, "--workers", "2", timeout=HANGS_S)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("words@1: 14 samples")
    assert served.journal().count("lines-6") == tries


# More moments at night; ``test_workers`` sends signals to a worker all the while it starts.
@pytest.mark.parametrize("delay_s", [0.3, 1.5, *(pytest.param(s, marks=pytest.mark.nightly) for s in (0.0, 0.8, 2.5))])
def test_ctrl_c_while_worker_processes_start_shows_no_traceback(delay_s: float, served: Cli) -> None:
    process = served.start("ingest", served.recipe(["wait 1"] * 12), "--runner", "processes", "--workers", "4")
    assert until(lambda: len(children(process.pid, b"spawn_main")) >= 2, 60)
    time.sleep(delay_s)
    os.killpg(os.getpgid(process.pid), signal.SIGINT)  # as a terminal does it: to the whole group
    stderr = process.communicate(timeout=HANGS_S)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command resumes"
    assert "Traceback" not in stderr


DASK = """
import json, sys, urllib.error, urllib.request
from pathlib import Path
from stoker.flows.runners import clusters as runners
from stoker.flows.settings import Settings

def main():
    options = runners.make(Settings(home=Path(sys.argv[1]), runner="dask", workers=1)).cluster_kwargs
    from distributed import Client, LocalCluster
    from distributed.security import Security
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        found = {"sum": client.submit(sum, [1, 2]).result(timeout=60), "let in": [], "pages": []}
        secure = cluster.scheduler_address
        found["address"] = secure
        for address, security in ((secure.replace("tls:", "tcp:"), None), (secure, Security.temporary())):
            try:
                Client(address, security=security, timeout=3)
                found["let in"].append(address)
            except OSError:
                pass
        for path in ("/", "/info/main/workers.html", "/metrics", "/json/counts.json"):
            try:
                url = f"http://127.0.0.1:{cluster.scheduler.http_server.port}{path}"
                found["pages"].append(urllib.request.urlopen(url, timeout=10).status)
            except urllib.error.HTTPError as error:
                found["pages"].append(error.code)
    print(json.dumps(found))

if __name__ == "__main__":
    main()
"""


def run(script: str, folder: Path) -> object:
    """What a script prints, as JSON; it runs in a process of its own, as these libraries keep much in theirs."""
    (folder / "script.py").write_text(script)
    command = [sys.executable, str(folder / "script.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs("prefect_dask")
def test_a_local_dask_cluster_lets_in_nobody_else(tmp_path: Path) -> None:
    found = run(DASK, tmp_path)
    assert isinstance(found, dict)
    assert found.pop("address").startswith("tls://127.0.0.1:")
    assert found == {"sum": 3, "let in": [], "pages": [404, 404, 404, 404]}


RAY = """
import json, os, stat, sys
from pathlib import Path
from stoker.flows.runners import clusters as runners
from stoker.flows.settings import Settings
options = runners.make(Settings(home=Path(sys.argv[1]), runner="ray", workers=1)).init_kwargs
import grpc, ray
address = ray.init(**options).address_info["gcs_address"]
call = grpc.insecure_channel(address).unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
codes = []
for token in (None, "x" * 64, os.environ["RAY_AUTH_TOKEN"]):
    try:
        call(b"", timeout=20, metadata=[("authorization", f"Bearer {token}")] if token else None)
        codes.append("OK")
    except grpc.RpcError as error:
        codes.append(error.code().name)
folder = Path(options["_temp_dir"]).parent
print(json.dumps([codes, stat.S_IMODE(folder.stat().st_mode), str(folder)]))
ray.shutdown()
"""


@needs("prefect_ray")
def test_a_local_ray_cluster_does_nothing_without_this_runs_token(tmp_path: Path) -> None:
    found = run(RAY, tmp_path)
    assert isinstance(found, list)
    codes, mode, folder = found
    assert codes == ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"]
    assert mode == 0o700
    assert not Path(folder).exists()


MADE_TWICE = """
import contextlib, os, sys
from stoker.flows.runners import clusters as runners
from stoker.flows.runners.workers import hide_leftovers
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

tokens = set()
for _ in range(2):
    hide_leftovers()
    with contextlib.suppress(StokerError):  # Ray is not installed
        runners.make(Settings(runner="ray"))
    tokens.add(os.environ["RAY_AUTH_TOKEN"])
print(len(tokens), sys.warnoptions.count("ignore:resource_tracker:UserWarning"))
"""


def test_two_runs_of_a_process_have_one_token_of_ray_and_one_filter_of_warnings() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MADE_TWICE], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.mark.nightly
def test_a_prefect_server_that_is_killed_during_an_ingest_is_one_line_and_the_same_command_resumes(cli: Cli) -> None:
    recipe = cli.recipe([line for number in range(12) for line in (f"w{number}", "wait 1")])
    process = cli.start("ingest", recipe, "--workers", "2")
    assert until(lambda: len(cli.journal()) >= 3, 120)
    (server,) = children(process.pid, b"prefect-temporary")
    os.kill(server, signal.SIGKILL)
    stderr = process.communicate(timeout=HANGS_S)[1]
    assert process.returncode == 1, stderr
    assert "the Prefect server does not answer any more; the same command resumes" in stderr.splitlines()[-1]
    assert [
        line for line in stderr.splitlines() if "Traceback" in line or "EventsWorker" in line or "---" in line
    ] == []
    done = cli("ingest", recipe, timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("words@1: 12 samples")


PHOTOS = """
corpus = "photos"
[source]
name = "local_files"
files = "photos"
files_per_partition = 3
[[steps]]
name = "image"
"""
# Python imports this module when it starts. No file is known that crashes OpenJPEG, so here the width of a picture says
# how its decoder process ends: by a crash, by its limit of CPU time, which is shortened, or by being killed.
FAULTY = """
import os, resource, signal, sys, time

if "serve_decoding" in " ".join(sys.orig_argv):
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

    decode = Jpeg2KImageFile.load

    def load(image):
        if image.width == 41:
            os.kill(os.getpid(), signal.SIGSEGV)
        if image.width == 42:
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1, resource.RLIM_INFINITY))
            while True:
                pass
        if image.width == 43:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(image)

    Jpeg2KImageFile.load = load
"""
REJECTED = {  # by reason and URL, in the order of their widths
    ("corrupt", "file:crashes.jp2"): "its decoder crashed: SIGSEGV",
    ("timeout", "file:hangs.jp2"): "decoding took more than 60 s of CPU",
    ("too_large", "file:killed.jp2"): "its decoder was killed, perhaps for want of memory",
}


def ingested(cli: Cli, runner: str) -> str:
    """What `stoker show --rejected` prints of a folder of sound pictures and three that end their decoder."""
    photos, faulty = cli.folder / "photos", cli.folder / "faulty"
    photos.mkdir()
    faulty.mkdir()
    (faulty / "sitecustomize.py").write_text(FAULTY)
    cli.variables["PYTHONPATH"] = f"{faulty}:{cli.environment()['PYTHONPATH']}"
    for number in range(6):
        (photos / f"sound{number}.jp2").write_bytes(packed(picture(40, 40, seed=number), "JPEG2000"))
    for width, (_, url) in enumerate(REJECTED, 41):
        (photos / url.removeprefix("file:")).write_bytes(packed(picture(width, 40, seed=width), "JPEG2000"))
    (cli.folder / "photos.toml").write_text(PHOTOS)
    done = cli("ingest", "photos.toml", "--runner", runner, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("photos@1: 6 samples")
    return cli("show", "photos", "--rejected").stdout


def processes_with(*words: bytes) -> list[str]:
    """The processes of this machine whose command line holds all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = path.read_bytes()
            found += [path.parent.name] if all(word in command for word in words) else []
    return found


@pytest.mark.nightly
@pytest.mark.parametrize(
    "runner",
    [
        "processes",
        pytest.param("ray", marks=needs("prefect_ray")),
        pytest.param("dask", marks=needs("prefect_dask")),
    ],
)
def test_an_image_that_ends_its_decoder_is_rejected_as_on_threads(
    runner: str, served: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = Cli(tmp_path_factory.mktemp("plain"), dict(served.variables))
    rejected = ingested(served, runner)
    found = [line.split("\t") for line in rejected.splitlines() if line]
    assert {(reason, url): detail for reason, _, url, detail in found} == REJECTED
    assert ingested(plain, "threads") == rejected
    assert shards(served) == shards(plain)
    # Their commands hold the path that Python searches for modules.
    assert until(lambda: not processes_with(b"serve_decoding", str(served.folder).encode()))
