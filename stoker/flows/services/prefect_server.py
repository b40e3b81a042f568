"""The Prefect server that flows report to: the user's own, that of `stoker up`, or a temporary one."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from stoker.flows import private, running
from stoker.flows.logs import note
from stoker.flows.private import make_private, open_log
from stoker.flows.schedules.api import REFUSALS, refusal
from stoker.flows.services.door import auth_string
from stoker.flows.services.probe import http_status
from stoker.flows.settings import Settings, inherited, prepare_environment, put_environment
from stoker.storage.errors import StokerError

HOST = "127.0.0.1"
_BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it
_FULL = 1 << 20  # bytes; a disk with less room takes neither a database nor a log
READY_S = 300.0  # a new database takes 100 s on a machine that is busy
_FIRST_NOTE_S = 10.0  # of waiting, after which it is told
_FLUSH_S = 2  # for each kind of pending reports
_STOP_S = 4  # for a temporary server to end
# A temporary server that was killed does not come back: each request waits 6 s for it, and not a minute.
_NO_RETURN = {"PREFECT_CLIENT_MAX_RETRIES": "2"}
# Prefect settings of the user's other work: not used, unless STOKER_PREFECT_URL names the user's own server.
_USER_VARIABLES = (
    "PREFECT_API_URL",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_PROFILE",
    "PREFECT_PROFILES_PATH",
)


class Api(NamedTuple):
    """The API of a Prefect server, and what tells it that its owner asks."""

    url: str
    auth: str = ""  # "owner:TOKEN" for a server of Stoker's; "": the user's own variables say it

    def __repr__(self) -> str:
        return f"Api({self.url!r})"  # the token belongs into no log and no traceback


def environment(settings: Settings, url: str, *, auth: str = "", quiet: bool = True) -> dict[str, str]:
    """Environment variables to set before Prefect is imported; ``quiet`` keeps logs out of the terminal."""
    variables = {"PREFECT_API_AUTH_STRING": auth} if auth else {}
    return variables | {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL" if quiet else "INFO",
        # A server that ended is one line of ours, and not one for each report that does not reach it.
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL" if quiet else "ERROR",
        # Nothing of ours reads a result back, and payloads go through the object store.
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # Seconds between looks for due runs; the default of 10 s makes schedules of a few seconds late.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def history_environment(settings: Settings) -> dict[str, str]:
    """Variables of the server of `stoker up`: it removes runs that ended long ago, at its start and every hour."""
    return {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(settings.keep_runs_days * 86400),
    }


def enter(settings: Settings, api: Api) -> None:
    """Point this process at a server. Call it before Prefect's first import, which reads these variables."""
    variables = environment(settings, api.url, auth=api.auth)
    put_environment(variables, without=() if settings.prefect_url else _USER_VARIABLES)


@contextmanager
def connected(settings: Settings) -> Iterator[str]:
    """The API address of a server that answers; flows of this process report to it. Raises StokerError."""
    prepare_environment()
    known = known_api(settings)
    if known is not None and not answers(known.url):
        raise StokerError(
            f"{known.url}: the Prefect server does not answer; see `stoker up`, or unset STOKER_PREFECT_URL"
        )
    with nullcontext(known) if known is not None else temporary(settings) as api, away_from_settings():
        enter(settings, api)
        if known is None:
            put_environment(_NO_RETURN)
        with _reporting_to(api):
            yield api.url


@contextmanager
def away_from_settings() -> Iterator[None]:
    """Work in the root folder, which only the superuser can write to.

    Prefect takes settings from .env, prefect.toml and pyproject.toml of the working directory, whoever wrote them, at
    its import and later; some of them name code to run.
    """
    try:
        before = os.getcwd()
    except FileNotFoundError:  # it was removed
        before = "/"
    os.chdir("/")
    try:
        yield
    finally:
        with suppress(OSError):
            os.chdir(before)


def known_api(settings: Settings) -> Api | None:
    """The API of the permanent server, if there is one. Raises StokerError if its token is missing."""
    if settings.prefect_url:
        return Api(settings.prefect_url)
    process = running.load(settings.home).find_alive("prefect")
    if process is None:
        return None
    return Api(f"{process.url}/api", auth_string(private.owner_token(settings.home)))


def scheduling_api(settings: Settings) -> Api:
    """The API of the permanent server, the only one that runs schedules. Raises StokerError if there is none."""
    api = known_api(settings)
    if api is None:
        raise StokerError(
            f"`stoker up` is not running ({settings.home}), and it is what runs schedules; start it first"
        )
    return api


def await_api(settings: Settings) -> Api:
    """The API of the permanent server, as soon as it answers. Raises StokerError."""
    deadline = time.monotonic() + READY_S
    while (api := known_api(settings)) is None or not answers(api.url):
        if time.monotonic() > deadline:
            raise StokerError(f"no Prefect server answers for {settings.home}; see `stoker up`")
        time.sleep(0.2)
    return api


def answers(api: str, *, timeout_s: float = 5) -> bool:
    """Whether a Prefect server is healthy."""
    return http_status(f"{api}/health", timeout_s=timeout_s) == 200


@contextmanager
def _reporting_to(api: Api) -> Iterator[None]:
    """Override Prefect's API settings: Prefect reads them once, but a second flow here may have another server."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    updates = {PREFECT_API_URL: api.url} | ({PREFECT_API_AUTH_STRING: api.auth} if api.auth else {})
    with temporary_settings(updates=updates):
        _check_access(api)
        try:
            yield
        finally:
            _flush()


def _check_access(api: Api) -> None:
    """Raise StokerError unless the server takes this process's requests: a flow would end in a traceback."""
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.read_flows(limit=1)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in REFUSALS:
            raise StokerError(refusal(api.url, status, known=bool(api.auth))) from None
        if status in (429, 502, 503, 504):
            raise StokerError(f"{api.url}: the Prefect server is busy (HTTP {status}); try again") from None
        raise StokerError(f"{api.url}: no API of a Prefect server (HTTP {status}); {_api_hint(api.url)}") from None
    except (httpx.HTTPError, RuntimeError, ValueError) as error:  # Prefect says by RuntimeError that versions differ
        text = str(error).partition("\n")[0]
        hint = _api_hint(api.url, "see STOKER_PREFECT_URL")
        raise StokerError(f"{api.url}: the Prefect server cannot be used: {text}; {hint}") from None


def _api_hint(url: str, otherwise: str = "expected an address as http://host:4200/api") -> str:
    """What to write in place of an address that is no API; ``otherwise`` if it looks like one."""
    if url.rstrip("/").endswith("/api"):
        return otherwise
    return f"did you mean {url.rstrip('/')}/api?"


def _flush() -> None:
    """Send the pending logs and events, before their server may end; drop those that are not sent in time.

    Prefect would send the rest at the interpreter's exit, with minutes of waiting if the server is gone.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    workers: tuple[Any, ...] = (EventsWorker, APILogWorker)  # Any: their instances and tasks are private
    for worker in workers:
        services = [(service, service._task) for service in worker._instances.values()]
        worker.drain_all(timeout=_FLUSH_S)
        for service, sending in services:
            if service._loop is not None and sending is not None and not sending.done():
                with suppress(RuntimeError):  # the loop was closed
                    service._loop.call_soon_threadsafe(sending.cancel)


@contextmanager
def temporary(settings: Settings) -> Iterator[Api]:
    """A server that ends with this process, however this process ends; its database is that of `stoker up`."""
    token = secrets.token_urlsafe(32)
    log = settings.home / "logs" / "prefect-temporary.log"
    with listen() as listener:
        port = listener.getsockname()[1]
        process = start_child(settings, "prefect-temporary", listener, log=log, tied=True)
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):  # it ended already: _await_answer says so
            process.stdin.write(f"{token}\n".encode())  # by the pipe: others see arguments, and children environments
            process.stdin.flush()
        _await_answer(process, f"http://{HOST}:{port}/api", log)
        yield Api(f"http://{HOST}:{port}/api", auth_string(token))
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_child(
    settings: Settings, name: str, listener: socket.socket | None, *, log: Path, tied: bool
) -> subprocess.Popen[bytes]:
    """Start a service of ``stoker.flows.services.child``; if ``tied``, it ends when this process does.

    It serves at ``listener``, which the caller closes afterwards.
    """
    make_private(settings.home)
    # The scheduler signs in to a server of the user's own as its user does, and the page reads what is scheduled.
    without = () if settings.prefect_url and name in ("schedule", "web") else _USER_VARIABLES
    with open_log(log) as file:
        return subprocess.Popen(  # noqa: S603  # our own module
            [
                sys.executable,
                "-P",
                "-m",
                "stoker.flows.services.child",
                name,
                str(listener.fileno() if listener else 0),
                json.dumps(settings.to_json()),
            ],
            env=inherited(without=without),
            pass_fds=[listener.fileno()] if listener else [],
            cwd="/",  # see ``away_from_settings``
            stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to this process alone, which then ends the service
            # What a service writes is for its owner; what flows write into a store, for whom the user's own umask says.
            umask=-1 if name == "schedule" else 0o077,
        )


class Waiting:
    """Tells the person at the terminal what is waited for: after 10 s, 20 s, 40 s and so on.

    Args:
        what: is waited for.
        clock: in seconds.
    """

    def __init__(self, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._began, self._next = clock(), _FIRST_NOTE_S

    def go_on(self) -> None:
        """Called again and again while the wait lasts."""
        waited = self._clock() - self._began
        if waited >= self._next:
            note(f"still waiting for {self._what}, for {waited:.0f} s")
            while self._next <= waited:  # more than once if it was not called for long
                self._next *= 2


def _await_answer(process: subprocess.Popen[bytes], api: str, log: Path) -> None:
    """Wait until a new server is healthy. Raises StokerError, which names the log."""
    deadline = time.monotonic() + READY_S
    waiting = Waiting(f"a Prefect server to start ({READY_S:g} s at most; its log: {log})")
    while not answers(api, timeout_s=2):
        if process.poll() is not None:
            raise StokerError(f"the Prefect server ended with code {process.returncode}; {_look_at(log)}")
        if time.monotonic() > deadline:
            raise StokerError(f"the Prefect server was not ready after {READY_S:g} s; see {log}")
        waiting.go_on()
        time.sleep(0.1)


def _look_at(log: Path) -> str:
    """What to do about a server that did not start: its log tells, unless there was no room to write one."""
    return full_disk(log.parent) or f"see {log}"


def full_disk(folder: Path) -> str:
    """What to do if the disk of a folder has no room for a server's database or log; empty if it has."""
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize >= _FULL:
        return ""
    return f"the disk of {folder} is full: free some space, or set STOKER_HOME to a folder on a larger one"


def listen(preferred: int = 0, host: str = HOST) -> socket.socket:
    """A socket that listens at the preferred port, or at any free one if it is taken.

    A service gets the socket and not the number of a free port: another user of the machine could take that port
    first, and would be sent the owner's token. Raises OSError if this machine lacks the address ``host``.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, preferred))
            listener.listen(_BACKLOG)  # at once: until it listens, others may bind the same port
        except OSError:
            listener.close()
            listener = socket.socket(listener.family)
            listener.bind((host, 0))
            listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def free_port(preferred: int = 0) -> int:
    """The preferred port, or any free one if it is taken; for servers that open their ports themselves."""
    with listen(preferred) as listener:
        return int(listener.getsockname()[1])


def current_environment(settings: Settings) -> dict[str, str]:
    """Environment variables for processes elsewhere that report to the server that this process reports to."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

    auth, key = PREFECT_API_AUTH_STRING.value(), PREFECT_API_KEY.value()
    variables = environment(settings, str(PREFECT_API_URL.value()), auth=str(auth) if auth else "")
    del variables["PREFECT_HOME"]  # a folder of this machine
    return variables | ({"PREFECT_API_KEY": str(key)} if key else {})
