"""The supervisor: starts the services of `stoker up`, watches them, restarts them, and ends them together.

The S3 server is started where the corpora lie in it, or will (``_why_without_s3``): not with a store of the user's own.
Order: it is ready before any service that reads corpora starts, and ends last, with the Prefect server: a scheduled run
saves its work into the one and its state into the other. All end within 10 s. A service that ends by itself is started
again, after a wait that doubles, at most ``_MAX_RESTARTS`` times in ``_RESTART_WINDOW_S``.
"""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stoker.flows import private, running, signals
from stoker.flows.running import Process, Services
from stoker.flows.services import prefect_server, seaweed
from stoker.flows.services.probe import http_status
from stoker.flows.settings import Settings
from stoker.storage.boot import start_time
from stoker.storage.errors import StokerError, StorageError

READY_S = 300.0  # for a service to answer after its start; the first takes minutes on a machine that is busy
_POLL_S = 1.0  # between looks at the services
_MAX_RESTARTS = 5  # of one service within _RESTART_WINDOW_S; after that it stays down, as starting it did not help
_RESTART_WINDOW_S = 600.0
_END_S = 8.0  # for all services, from the first SIGTERM to the last SIGKILL
_FIRST_PROCESS = 1  # in a container: whatever loses its parent becomes a child of this process
_MAX_LOG_SIZE = 10 * 2**20  # bytes; a longer log is renamed to .1 when its service starts


@dataclass
class _Service:
    """A service and its process."""

    name: str
    title: str  # for messages
    start: Callable[[], tuple[subprocess.Popen[bytes], str]]  # returns the process and its address
    is_ready: Callable[[str], bool]  # asked with the address
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    restarts: list[float] = field(default_factory=list)  # monotonic times
    given_up: bool = False


class Supervisor:
    """All services of one folder. Runs in one process, which holds the folder's lock."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        self._settings, self._report = settings, report
        self._stop = threading.Event()
        self._logs = settings.home / "logs"
        self._s3_folder = settings.home / "s3"
        self._bucket = running.load(settings.home).bucket
        self._ports = {"prefect": settings.prefect_port, "web": settings.web_port}
        self._s3: seaweed.Server | None = None
        self._without_s3 = _why_without_s3(settings)
        s3 = [] if self._without_s3 else [_Service("s3", "S3 server", self._start_s3, self._s3_is_ready)]
        self._services = [
            *s3,
            _Service("prefect", "Prefect server", lambda: self._start("prefect"), _prefect_is_ready),
            _Service("web", "web page", lambda: self._start("web"), _answers_http),
            _Service("schedule", "scheduler", lambda: self._start("schedule"), lambda url: True),
        ]

    def run(self) -> None:
        """Start all services, report their addresses, watch them until a signal, end them. Raises StokerError."""
        with (
            signals.handled(grace_s=_END_S, until_exit=True),
            signals.on_signal(lambda number: self._stop.set()),
            signals.before_exit(self._kill_all),
        ):
            self._run()

    def _run(self) -> None:
        self._end_orphans()
        private.new_owner_token(self._settings.home)  # children read it from its file: others see their arguments
        private.schedule_key(self._settings.home, make=True)
        try:
            servers = [service for service in self._services if service.name in ("s3", "prefect")]
            others = [service for service in self._services if service not in servers]
            for service in servers:
                self._start_service(service)
            if self._without_s3:
                self._report(self._without_s3)
            else:
                self._wait_ready(servers[0])
                if not self._stop.is_set():
                    self._create_bucket()  # before the others open the store
            for service in others:
                self._start_service(service)
            for service in (servers[-1], *others):
                self._wait_ready(service)
            if not self._stop.is_set():
                self._save(ready=True)
                self._report(f"{addresses(running.load(self._settings.home))}\n{HOW_TO_OPEN}")
            while not self._stop.wait(_POLL_S):
                self._add_demo()
                if os.getpid() == _FIRST_PROCESS:
                    self._reap()
                for service in self._services:
                    self._restart_if_ended(service)
        finally:
            self._end_all()

    def _add_demo(self) -> None:
        """Serve the demo's web site too, once `stoker demo` ran here: its corpora name the site's addresses."""
        port = self._settings.home / "demo" / "port"
        if port.exists() and all(service.name != "demo" for service in self._services):
            start = partial(self._start_demo, int(port.read_text()))
            service = _Service("demo", "demo's web site", start, _answers_http)
            self._services.append(service)
            service.process, service.url = service.start()
            self._save(ready=True)

    def _reap(self) -> None:
        """Take the exit codes of ended processes that have no other parent; those of services are taken elsewhere."""
        own = {service.process.pid for service in self._services if service.process is not None}
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in own:
                    return  # by its Popen, which must see the code; the others come at the next look
                os.waitpid(ended.si_pid, 0)

    def _kill_all(self) -> None:
        for service in self._services:
            _kill_group(service.process)

    def _start_service(self, service: _Service) -> None:
        if self._stop.is_set():
            return
        service.process, service.url = service.start()
        self._save(ready=False)

    def _wait_ready(self, service: _Service) -> None:
        deadline = time.monotonic() + READY_S
        while not self._stop.is_set():
            assert service.process is not None
            code = service.process.poll()
            if code is not None:
                raise StokerError(f"the {service.title} ended with code {code} at its start; see {self._log(service)}")
            if service.is_ready(service.url):
                return
            if time.monotonic() > deadline:
                raise StokerError(f"the {service.title} was not ready after {READY_S:g} s; see {self._log(service)}")
            self._stop.wait(0.1)

    def _restart_if_ended(self, service: _Service) -> None:
        """Start a service again if it ended by itself, a bounded number of times."""
        if service.given_up or service.process is None or service.process.poll() is None:
            return
        now = time.monotonic()
        service.restarts = [moment for moment in service.restarts if now - moment < _RESTART_WINDOW_S]
        if service.restarts and now - service.restarts[-1] < 2 ** len(service.restarts):
            return  # the wait doubles with each restart
        code = service.process.returncode
        if len(service.restarts) >= _MAX_RESTARTS:
            service.given_up = True
            self._report(
                f"the {service.title} ended again (code {code}) and stays down after {_MAX_RESTARTS} restarts; "
                f"see {self._log(service)}, then run `stoker down` and `stoker up`"
            )
            self._save(ready=True)
            return
        self._report(f"the {service.title} ended (code {code}); starting it again")
        service.restarts.append(now)
        _kill_group(service.process)
        try:
            service.process, service.url = service.start()
        except StokerError as error:  # the old S3 server may hold its folder for a moment longer
            self._report(f"the {service.title} does not start: {error}")
        self._save(ready=True)

    def _start(self, name: str) -> tuple[subprocess.Popen[bytes], str]:
        if name not in self._ports:
            return self._child(name), ""
        host = self._settings.web_host if name == "web" else prefect_server.HOST
        try:
            listener = prefect_server.listen(self._ports[name], host)
        except OSError as error:
            raise StokerError(f"STOKER_WEB_HOST: {host} is no address of this machine ({error.strerror})") from None
        with listener:
            port = self._ports[name] = listener.getsockname()[1]
            return self._child(name, listener), _local_url(host, port)

    def _child(self, name: str, listener: socket.socket | None = None) -> subprocess.Popen[bytes]:
        log = rotate_log(self._logs / f"{name}.log")
        return prefect_server.start_child(self._settings, name, listener, log=log, tied=False)

    def _start_demo(self, port: int) -> tuple[subprocess.Popen[bytes], str]:
        return self._child("demo"), f"http://{prefect_server.HOST}:{port}"

    def _start_s3(self) -> tuple[subprocess.Popen[bytes], str]:
        access_key, secret_key = private.credentials(self._settings.home, make=True)
        ports = {}
        first_start = not (self._s3_folder / "ports.json").exists()  # later starts take the ports of the last one
        if first_start and prefect_server.free_port(self._settings.s3_port) == self._settings.s3_port:
            ports = {"s3": self._settings.s3_port}
        self._s3 = seaweed.start(
            self._s3_folder, access_key=access_key, secret_key=secret_key, bucket=running.BUCKET, ports=ports
        )
        return self._s3.process, self._s3.endpoint

    def _s3_is_ready(self, url: str) -> bool:
        assert self._s3 is not None
        with suppress(StorageError):
            self._s3.wait_ready(0.5)
            return True
        return False

    def _create_bucket(self) -> None:
        assert self._s3 is not None
        self._s3.create_bucket()
        self._bucket = running.BUCKET

    def _log(self, service: _Service) -> Path:
        return self._s3_folder / "weed.log" if service.name == "s3" else self._logs / f"{service.name}.log"

    def _processes(self) -> dict[str, Process]:
        """The services that run."""
        return {
            service.name: Process(service.process.pid, start_time(service.process.pid), service.url)
            for service in self._services
            if service.process is not None and service.process.poll() is None
        }

    def _save(self, *, ready: bool) -> None:
        running.save(self._settings.home, Services(running.this_process(), self._processes(), ready, self._bucket))

    def _end_orphans(self) -> None:
        """End the services that an earlier `stoker up` left when it was killed."""
        for name in running.end_services(running.load(self._settings.home).running):
            self._report(f"ended the {name} service that an earlier `stoker up` left")

    def _end_all(self) -> None:
        """End the services: SIGTERM, and SIGKILL after a timeout. The S3 and Prefect servers last: runs need them."""
        self._report("stopping")
        deadline = time.monotonic() + _END_S - 0.3  # at _END_S this process itself is ended
        running.end_services(self._processes(), timeout_s=_END_S - 0.5)
        for service in self._services:  # also what services left that ended by themselves
            _kill_group(service.process)
            if service.process is not None:
                service.process.poll()
        running.save(self._settings.home, Services(bucket=self._bucket))
        if not self._without_s3:
            seaweed.tidy(self._s3_folder, timeout_s=max(0.0, deadline - time.monotonic()))
        self._report("stopped; data stay in " + str(self._settings.home))


def _kill_group(process: subprocess.Popen[bytes] | None) -> None:
    """Kill a service with the processes that it started: each service leads a process group."""
    if process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def rotate_log(log: Path) -> Path:
    """Rename a log that is too long; returns its path."""
    if log.exists() and log.stat().st_size > _MAX_LOG_SIZE:
        os.replace(log, log.with_suffix(".log.1"))
    return log


def _local_url(host: str, port: int) -> str:
    """The address by which this machine reaches a server that listens at ``host``."""
    local = {"0.0.0.0": prefect_server.HOST, "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"


def _prefect_is_ready(url: str) -> bool:
    return prefect_server.answers(f"{url}/api", timeout_s=2)


def _answers_http(url: str) -> bool:
    """Whether a web server answers, even with an HTTP error."""
    return http_status(url) > 0


def _why_without_s3(settings: Settings) -> str:
    """Why `stoker up` starts no S3 server; "" if it does. What one holds from before stays in it."""
    bucket, folder = running.load(settings.home).bucket, settings.home / "store"
    if settings.store:
        port = seaweed.last_port(settings.home / "s3") or settings.s3_port
        endpoints = [f"http://{host}:{port}" for host in (prefect_server.HOST, "localhost")]
        bucket_url = "/".join(settings.store.split("/")[:3])
        is_ours = bucket_url == f"s3://{running.BUCKET}" and settings.s3_endpoint.rstrip("/") in endpoints
        return "" if is_ours else f"the corpora lie in {settings.store}, so no S3 server is started"
    if bucket:
        return ""
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        return f"the corpora lie in {folder}, so no S3 server is started"
    if not seaweed.is_installed():
        return f'the corpora lie in {folder}, as no S3 server is installed; pip install "stoker[local]" for one'
    return ""


HOW_TO_OPEN = "`stoker open` shows the page, signed in; `stoker open prefect` shows Prefect"


def addresses(services: Services) -> str:
    """The addresses of the services, one a line."""
    rows = (("web", "Stoker's page"), ("prefect", "Prefect"), ("s3", "S3"), ("demo", "demo site"))
    lines = [f"{title:<14} {services.running[name].url}" for name, title in rows if name in services.running]
    return "\n".join(lines)
