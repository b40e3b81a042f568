"""The real command line in a folder of its own, and one real Prefect server for all tests of a process."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stoker.flows import running
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
from stoker.flows.settings import load as load_settings
from stoker.pipelines.recipe import load as load_recipe
from stoker.pipelines.stages.publish import ingest
from stoker.storage.versions.manifest import Manifest
from tests.conftest import HANGS_S, PATIENCE

PLUGIN = Path(__file__).parent / "plugin"
AUTH: dict[str, str] = {}  # "owner:TOKEN" by the API's address: of the servers that tests started


@dataclass
class Cli:
    """`stoker ...` as a process, in a folder, with an environment that holds nothing of the developer's."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS")
            if name in os.environ
        }
        # No instance's role and no profile of the developer: an S3 test must not find keys by chance.
        kept["XDG_CONFIG_HOME"] = str(self.folder / "config")
        own = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "PYTHONPATH": str(PLUGIN)}
        auth = AUTH.get(self.variables.get("STOKER_PREFECT_URL", ""))
        prefect = {"PREFECT_API_AUTH_STRING": auth} if auth else {}
        return kept | own | prefect | {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"} | self.variables

    def __call__(self, *words: str, timeout: float = HANGS_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stoker", *words],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def refused(self, *words: str, code: int = 1) -> str:
        """The one line of a refusal, after which nothing is in the store."""
        done = self(*words)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if line.startswith("stoker: ")]
        assert len(lines) == 1
        assert "Traceback" not in done.stderr
        assert self.objects() == {}
        return lines[0]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "stoker", *words],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ingest(self, recipe: str) -> Manifest:
        """What `stoker ingest` makes of a recipe, in this process and without a Prefect server: seconds earlier."""
        settings = load_settings(environ=self.environment(), cwd=self.folder)
        made = load_recipe(self.folder / recipe)
        return ingest(made, settings.open_store(), settings.context(made.root)).manifest

    def recipe(self, lines: list[str], more: str = "", name: str = "words") -> str:
        """A recipe of these lines (see the plugin's source); its name."""
        (self.folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
        text = f'corpus = "{name}"\n{more}\n[source]\nname = "lines"\npath = "{name}.txt"\n'
        (self.folder / f"{name}.toml").write_text(text)
        return f"{name}.toml"

    def journal(self) -> list[str]:
        """The partitions that were read, in order, with repeats."""
        path = self.folder / "journal"
        return path.read_text().split() if path.exists() else []

    def objects(self) -> dict[str, bytes]:
        """Everything in the default store, by key; nothing of its own bookkeeping."""
        store = self.folder / ".stoker" / "store"
        files = [path for path in store.rglob("*") if path.is_file() and ".stoker" not in path.relative_to(store).parts]
        return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


def owner_headers(auth: str) -> dict[str, str]:
    """The headers by which a Prefect server knows its owner: "owner:TOKEN" by HTTP Basic."""
    return {"Authorization": "Basic " + base64.b64encode(auth.encode()).decode()}


def ask(api: str, path: str, **body: Any) -> Any:
    """The response of a Prefect server that tests started (see ``AUTH``) to a filter."""
    headers = {"Content-Type": "application/json"} | owner_headers(AUTH[api])
    request = urllib.request.Request(f"{api}{path}", data=json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The condition's value, as soon as it is true, or when many times these seconds of a quiet machine are over."""
    deadline = time.monotonic() + PATIENCE * seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return value


def children(pid: int, word: bytes) -> list[int]:
    """The processes that a process has started whose command line holds a word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid and word in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def as_nobody(look: Callable[[], list[str]]) -> list[str]:
    """What a function finds in a process of the user nobody (whose Python need not be the tests')."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write, json.dumps(look()).encode())
        except Exception as error:  # noqa: BLE001  # told by the parent
            os.write(write, json.dumps([repr(error)]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        found: list[str] = json.load(file)
    os.waitpid(child, 0)
    return found


def shards(cli: Cli) -> dict[str, bytes]:
    return {key: payload for key, payload in cli.objects().items() if "/shards/" in key}


def versions(cli: Cli) -> list[str]:
    return sorted(key for key in cli.objects() if "/versions/" in key)


@contextmanager
def services_up(cli: Cli, *, timeout: float) -> Iterator[None]:
    """`stoker up` in the background, on free ports, as long as the context lasts."""
    cli.variables |= {f"STOKER_{name}_PORT": str(prefect_server.free_port()) for name in ("S3", "PREFECT", "WEB")}
    try:
        done = cli("up", "--detach", timeout=timeout)
        assert done.returncode == 0, done.stderr
        yield
    finally:
        known = running.load(cli.folder / ".stoker")
        for process in (known.supervisor, *known.running.values()):  # at once: an orderly end takes seconds
            if process is not None and process.alive:
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(home=tmp_path_factory.mktemp("prefect"))
    with prefect_server.temporary(settings) as api:
        AUTH[api.url] = api.auth
        yield api.url


@pytest.fixture
def served(cli: Cli, prefect_url: str) -> Cli:
    """The command line with a Prefect server that is up already: a run then starts seconds earlier."""
    cli.variables["STOKER_PREFECT_URL"] = prefect_url
    cli.variables["STOKER_RETRY_S"] = "0.05"
    return cli
