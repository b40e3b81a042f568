"""`stoker up`: an S3 server, a Prefect server, the web page and the scheduler, started, watched and ended together."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from stoker.flows import running as services
from stoker.flows.running import Process, Services
from stoker.flows.services import prefect_server, seaweed
from stoker.flows.settings import Settings, inherited
from stoker.storage.errors import StokerError, StorageError

READY_S = 120.0
_WATCH_S = 1.0
_RESTARTS = 5  # of one service within _WITHIN_S; then it stays down, because starting again did not help
_WITHIN_S = 600.0
_LOG_SIZE = 10 * 2**20  # bytes; a log that is longer at the start is put aside as .1


@dataclass
class _Service:
    """A service under watch."""

    name: str
    what: str  # for people
    start: Callable[[], tuple[subprocess.Popen[bytes], str]]  # the process and its address
    answers: Callable[[str], bool]
    patience_s: float  # to end in order
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    restarts: list[float] = field(default_factory=list)
    given_up: bool = False


class Supervisor:
    """All services of one folder, from start to end, in one process that holds the folder's lock."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._stop = threading.Event()
        self._logs = settings.home / "logs"
        self._s3_folder = settings.home / "s3"
        self._bucket = services.load(settings.home).bucket
        self._ports = {"prefect": settings.prefect_port, "web": settings.web_port}
        self._s3: seaweed.Server | None = None
        self._services = [
            _Service("s3", "S3 server", self._start_s3, self._s3_answers, seaweed.STOP_S),
            _Service("prefect", "Prefect server", lambda: self._start("prefect"), _prefect_answers, 10),
            _Service("web", "web page", lambda: self._start("web"), _answers, 5),
            _Service("schedule", "scheduler", lambda: self._start("schedule"), lambda url: True, 10),
        ]

    def run(self) -> None:
        """Start everything, say where it is, watch until told to stop, end everything. Raises StokerError."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        self._end_orphans()
        try:
            s3, prefect, *others = self._services
            for service in (s3, prefect):
                self._begin(service)
            self._await(s3)
            if not self._stop.is_set():
                self._create_bucket()  # before the others look where the corpora lie
            for service in others:
                self._begin(service)
            for service in (prefect, *others):
                self._await(service)
            if not self._stop.is_set():
                self._save(ready=True)
                self._say(addresses(services.load(self._settings.home)))
            while not self._stop.wait(_WATCH_S):
                self._add_demo()
                for service in self._services:
                    self._watch(service)
        finally:
            self._end_all()

    def _add_demo(self) -> None:
        """Serve the demo's web site too, once `stoker demo` was run in this folder: its recipes name the address."""
        port = self._settings.home / "demo" / "port"
        if port.exists() and all(service.name != "demo" for service in self._services):
            start = partial(self._child, "demo", int(port.read_text()))
            service = _Service("demo", "demo's web site", start, _answers, 5)
            self._services.append(service)
            service.process, service.url = service.start()
            self._save(ready=True)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop.is_set():
            for service in self._services:
                _kill_group(service.process)
            os._exit(128 + number)
        self._stop.set()

    def _begin(self, service: _Service) -> None:
        if self._stop.is_set():
            return
        service.process, service.url = service.start()
        self._save(ready=False)

    def _await(self, service: _Service) -> None:
        deadline = time.monotonic() + READY_S
        while not self._stop.is_set():
            assert service.process is not None
            code = service.process.poll()
            if code is not None:
                raise StokerError(f"the {service.what} ended with code {code} at its start; see {self._log(service)}")
            if service.answers(service.url):
                return
            if time.monotonic() > deadline:
                raise StokerError(f"the {service.what} was not ready after {READY_S:g} s; see {self._log(service)}")
            self._stop.wait(0.1)

    def _watch(self, service: _Service) -> None:
        """Start a service again that ended by itself, a bounded number of times."""
        if service.given_up or service.process is None or service.process.poll() is None:
            return
        now = time.monotonic()
        service.restarts = [moment for moment in service.restarts if now - moment < _WITHIN_S]
        if service.restarts and now - service.restarts[-1] < 2 ** len(service.restarts):
            return  # it is left alone for longer each time
        code = service.process.returncode
        if len(service.restarts) >= _RESTARTS:
            service.given_up = True
            self._say(
                f"the {service.what} ended again (code {code}) and stays down after {_RESTARTS} restarts; "
                f"see {self._log(service)}, then run `stoker down` and `stoker up`"
            )
            self._save(ready=True)
            return
        self._say(f"the {service.what} ended (code {code}); starting it again")
        service.restarts.append(now)
        _kill_group(service.process)
        try:
            service.process, service.url = service.start()
        except StorageError as error:  # the old one may hold its folder for a moment longer
            self._say(f"the {service.what} does not start: {error}")
        self._save(ready=True)

    def _start(self, name: str) -> tuple[subprocess.Popen[bytes], str]:
        port = self._ports.get(name, 0)
        if name in self._ports:
            port = self._ports[name] = prefect_server.free_port(port)
        return self._child(name, port)

    def _child(self, name: str, port: int) -> tuple[subprocess.Popen[bytes], str]:
        process = prefect_server.start_child(
            self._settings, name, port, log=_rotated(self._logs / f"{name}.log"), tied=False
        )
        return process, f"http://{prefect_server.HOST}:{port}" if port else ""

    def _start_s3(self) -> tuple[subprocess.Popen[bytes], str]:
        access_key, secret_key = services.credentials(self._settings.home, make=True)
        before = self._s3_folder / "ports.json"
        wish = {} if before.exists() else {"s3": self._settings.s3_port}
        if wish and prefect_server.free_port(wish["s3"]) != wish["s3"]:
            wish = {}
        self._s3 = seaweed.start(self._s3_folder, access_key=access_key, secret_key=secret_key, ports=wish)
        return self._s3.process, self._s3.endpoint

    def _s3_answers(self, url: str) -> bool:
        assert self._s3 is not None
        with suppress(StorageError):
            self._s3.wait_ready(0.5)
            return True
        return False

    def _create_bucket(self) -> None:
        from stoker.storage.stores.s3 import create_bucket

        assert self._s3 is not None
        access_key, secret_key = services.credentials(self._settings.home)
        create_bucket(services.BUCKET, endpoint=self._s3.endpoint, access_key=access_key, secret_key=secret_key)
        self._bucket = services.BUCKET

    def _log(self, service: _Service) -> Path:
        return self._s3_folder / "weed.log" if service.name == "s3" else self._logs / f"{service.name}.log"

    def _save(self, *, ready: bool) -> None:
        running = {
            service.name: Process(service.process.pid, services.started(service.process.pid), service.url)
            for service in self._services
            if service.process is not None and service.process.poll() is None
        }
        services.save(self._settings.home, Services(services.this_process(), running, ready, self._bucket))

    def _end_orphans(self) -> None:
        """End what an earlier `stoker up` left when it was killed itself."""
        for name, process in services.load(self._settings.home).running.items():
            if services.end(process, timeout_s=seaweed.STOP_S):
                self._say(f"ended the {name} service that an earlier `stoker up` left")

    def _end_all(self) -> None:
        """Ask all to end, wait for each, then insist. The S3 server is asked last: others may still write."""
        self._say("stopping; the S3 server takes some seconds to put its data in order")
        for service in reversed(self._services):
            if service.process is not None and service.process.poll() is None:
                service.process.terminate()
                try:
                    service.process.wait(service.patience_s)
                except subprocess.TimeoutExpired:
                    service.process.kill()
                    service.process.wait()
            _kill_group(service.process)
        services.save(self._settings.home, Services(bucket=self._bucket))
        self._say("stopped; data stay in " + str(self._settings.home))


def _kill_group(process: subprocess.Popen[bytes] | None) -> None:
    """Kill what a service started: each leads a group of its own, named by its process number."""
    if process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _rotated(log: Path) -> Path:
    if log.exists() and log.stat().st_size > _LOG_SIZE:
        os.replace(log, log.with_suffix(".log.1"))
    return log


def _prefect_answers(url: str) -> bool:
    return prefect_server.answers(f"{url}/api", timeout_s=2)


def _answers(url: str) -> bool:
    """Whether a web server answers at all, be it with an error of its own."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # our own loopback URL
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def addresses(known: Services) -> str:
    """Where everything is, for people."""
    rows = (("web", "Stoker's page"), ("prefect", "Prefect"), ("s3", "S3"), ("demo", "demo site"))
    lines = [f"{what:<14} {known.running[name].url}" for name, what in rows if name in known.running]
    return "\n".join(lines)


@contextmanager
def _locked(home: Path) -> Iterator[bool]:
    """Whether we are the one `stoker up` of this folder."""
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def up(settings: Settings, say: Callable[[str], None]) -> bool:
    """Serve until stopped. False if another `stoker up` of this folder is at work already. Raises StokerError."""
    with _locked(settings.home) as ours:
        if ours:
            Supervisor(settings, say).run()
        return ours


def up_detached(settings: Settings, say: Callable[[str], None]) -> Services:
    """Have the services in the background, started now or before; returns when they are ready. Raises StokerError."""
    known = services.load(settings.home)
    with _locked(settings.home) as free:
        process = None
    if free:
        log = settings.home / "logs" / "up.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with _rotated(log).open("wb") as file:
            process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-m", "stoker.flows.services.child", "up", "0", json.dumps(settings.to_json())],
                env=inherited(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    deadline = time.monotonic() + READY_S + 10
    while True:
        known = services.load(settings.home)
        if known.ready and known.supervisor is not None and known.supervisor.alive:
            return known
        if process is not None and process.poll() == 0:
            process = None  # another `stoker up` was quicker: this one is awaited
        elif process is not None and process.poll() is not None:
            text = log.read_text(errors="replace").strip().splitlines()
            raise StokerError(f"`stoker up` ended at its start: {text[-1] if text else 'it wrote nothing'}; see {log}")
        if time.monotonic() > deadline:
            raise StokerError(f"the services were not ready after {READY_S:g} s; see {settings.home / 'logs'}")
        time.sleep(0.1)


def down(settings: Settings, say: Callable[[str], None]) -> bool:
    """End what `stoker up` of this folder started; False if nothing ran."""
    known = services.load(settings.home)
    ended = False
    if known.supervisor is not None and known.supervisor.alive:
        say("stopping; the S3 server takes some seconds to put its data in order")
        ended = services.end(known.supervisor, timeout_s=seaweed.STOP_S + 40)
        known = services.load(settings.home)
    for process in known.running.values():  # what a `stoker up` that was killed left
        ended |= services.end(process, timeout_s=seaweed.STOP_S)
    if known.running or known.supervisor:
        services.save(settings.home, replace(Services(), bucket=known.bucket))
    return ended
