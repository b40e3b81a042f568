"""The Prefect server that flows report to: that of `stoker up`, one of the user's own, or a temporary one."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from stoker.flows import running
from stoker.flows.settings import Settings, inherited, put_environment
from stoker.storage.errors import StokerError

HOST = "127.0.0.1"
READY_S = 90.0
_FLUSH_S = 5
# A user's other Prefect set-up must neither be used nor changed; with a server of his own his keys are his business.
_FOREIGN = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")


def environment(settings: Settings, url: str, *, quiet: bool = True) -> dict[str, str]:
    """The variables that a process of ours needs before it imports Prefect; ``quiet`` keeps logs to Prefect's UI."""
    return {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL" if quiet else "INFO",
        # Nothing of ours reads a result back, and payloads go through the object store.
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # A new deployment's runs are looked for this often; the default of 10 s makes a schedule of seconds late.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def enter(settings: Settings, url: str) -> None:
    """Point this process at a server. Before Prefect's first import, or it has read other values already."""
    put_environment(environment(settings, url), without=() if settings.prefect_url else _FOREIGN)


@contextmanager
def connected(settings: Settings) -> Iterator[str]:
    """The API of a server that answers, this process pointed at it. Raises StokerError."""
    url = known_url(settings)
    if url is not None:
        if not answers(url):
            raise StokerError(
                f"{url}: the Prefect server does not answer; see `stoker up`, or unset STOKER_PREFECT_URL"
            )
        enter(settings, url)
        with _repointed(url):
            yield url
        return
    with temporary(settings) as url:
        enter(settings, url)
        with _repointed(url):
            yield url


def known_url(settings: Settings) -> str | None:
    """The API of the server that stays up, if there is one."""
    if settings.prefect_url:
        return settings.prefect_url
    found = running.load(settings.home).alive("prefect")
    return f"{found.url}/api" if found is not None else None


def await_known(settings: Settings) -> str:
    """The API of the server that stays up, as soon as it answers. Raises StokerError."""
    deadline = time.monotonic() + READY_S
    while (url := known_url(settings)) is None or not answers(url):
        if time.monotonic() > deadline:
            raise StokerError(f"no Prefect server answers for {settings.home}; see `stoker up`")
        time.sleep(0.2)
    return url


def answers(api: str, *, timeout_s: float = 5) -> bool:
    """Whether a Prefect server is healthy."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=timeout_s) as answer:  # noqa: S310  # http(s): checked
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


@contextmanager
def _repointed(url: str) -> Iterator[None]:
    """Prefect reads its settings once; a second flow in this process may have another server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(updates={PREFECT_API_URL: url}):
        try:
            yield
        finally:
            _flush()


def _flush() -> None:
    """Send the logs and events at hand, before their server may go."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=_FLUSH_S)


@contextmanager
def temporary(settings: Settings) -> Iterator[str]:
    """A server that lives as long as this process, however it ends; its database is that of `stoker up`."""
    port = free_port()
    log = settings.home / "logs" / "prefect-temporary.log"
    process = start_child(settings, "prefect-temporary", port, log=log, tied=True)
    try:
        await_answer(process, f"http://{HOST}:{port}/api", log)
        yield f"http://{HOST}:{port}/api"
    finally:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_child(
    settings: Settings, name: str, port: int, *, log: Path, tied: bool, extra: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a service of ``stoker.flows.services.child``; ``tied``: it ends when this process does."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", "stoker.flows.services.child", name, str(port), json.dumps(settings.to_json())],
            env=inherited(without=_FOREIGN) | dict(extra or {}),
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the one who started it, who then stops it in order
        )


def await_answer(process: subprocess.Popen[bytes], api: str, log: Path) -> None:
    """Wait until a server that was just started is healthy. Raises StokerError with where to look."""
    deadline = time.monotonic() + READY_S
    while not answers(api, timeout_s=2):
        if process.poll() is not None:
            raise StokerError(f"the Prefect server ended with code {process.returncode}; see {log}")
        if time.monotonic() > deadline:
            raise StokerError(f"the Prefect server was not ready after {READY_S:g} s; see {log}")
        time.sleep(0.1)


def free_port(wish: int = 0) -> int:
    """The port, or any free one if it is taken."""
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((HOST, wish))
        except OSError:
            door.bind((HOST, 0))
        return int(door.getsockname()[1])


def current_url() -> str:
    """The API that this process reports to."""
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())
