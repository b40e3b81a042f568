"""The processes of `stoker up`, kept in services.json so that other commands find them.

A process is known by its number and its start time: the system gives a number to another process later, and that one
must not be ended.
"""

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stoker.flows.private import write_private
from stoker.storage.boot import start_time
from stoker.storage.errors import StokerError

_SCHEMA = 1
BUCKET = "stoker"
_SERVERS = frozenset(
    ("s3", "prefect")
)  # end last: a scheduled run saves its work into the one, its state into the other
RUNS_END_S = 5.0  # for the services before those two; a scheduled run that is ended takes 4 s at most
SERVERS_END_S = 3.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process, identified by its number and its start time."""

    pid: int
    started: str  # from ``start_time``
    url: str = ""  # its address; "" if it serves nothing

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return bool(self.started) and start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Services:
    """The supervisor (`stoker up` itself), its services by name, and the bucket of the S3 server."""

    supervisor: Process | None = None
    running: Mapping[str, Process] = field(default_factory=dict)
    ready: bool = False  # all services answer
    bucket: str = ""  # "" until the S3 server was started here for the first time

    def find_alive(self, name: str) -> Process | None:
        """The service's process, if it runs."""
        process = self.running.get(name)
        return process if process is not None and process.alive else None


def _path(home: Path) -> Path:
    return home / "services.json"


def load(home: Path) -> Services:
    """The services of this folder; empty if `stoker up` never ran here."""
    try:
        content = json.loads(_path(home).read_bytes())
        if content["schema"] > _SCHEMA:
            raise StokerError(f"{_path(home)}: written by a newer Stoker; upgrade Stoker")
        supervisor = content["supervisor"]
        return Services(
            supervisor=Process(**supervisor) if supervisor else None,
            running={name: Process(**process) for name, process in content["running"].items()},
            ready=bool(content["ready"]),
            bucket=str(content["bucket"]),
        )
    except FileNotFoundError:
        return Services()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StokerError(f"{_path(home)}: not readable ({error}); end `stoker up` and delete this file") from None


def save(home: Path, services: Services) -> None:
    """Replace services.json atomically, readable by its owner alone."""
    content = {"schema": _SCHEMA} | asdict(services)
    write_private(_path(home), json.dumps(content, indent=1))


def this_process(url: str = "") -> Process:
    """The current process."""
    return Process(os.getpid(), start_time(os.getpid()), url)


def terminate(process: Process, *, timeout_s: float) -> bool:
    """End a process: SIGTERM, and SIGKILL after the timeout. False if it was not running (any more)."""
    if not process.alive:
        return False
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while process.alive and time.monotonic() < deadline:
        time.sleep(0.1)
    if process.alive:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return True


def end_services(services: Mapping[str, Process], *, timeout_s: float = RUNS_END_S + SERVERS_END_S) -> list[str]:
    """End services with the processes that they started; returns the names of those that ran.

    The scheduler, web page and demo first, at the same time; then the S3 and Prefect servers, which runs save into.
    Each gets SIGTERM, and at the end of its time SIGKILL.
    """
    deadline = time.monotonic() + timeout_s
    alive = {name: process for name, process in services.items() if process.alive}
    for names, seconds in ((alive.keys() - _SERVERS, RUNS_END_S), (alive.keys() & _SERVERS, SERVERS_END_S)):
        _end([alive[name] for name in names], min(deadline, time.monotonic() + seconds))
    return list(alive)


def _end(processes: Iterable[Process], deadline: float) -> None:
    """End processes at the same time; the groups that they lead are killed at the deadline, in monotonic seconds."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    while any(process.alive for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        if process.alive:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left: a group keeps its number while it has members
