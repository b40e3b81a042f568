"""`stoker up` and `stoker down`: run the services of a folder here or in the background, and end them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stoker.flows import private, running
from stoker.flows.running import Services
from stoker.flows.services.supervisor import HOW_TO_OPEN, READY_S, Supervisor, addresses, rotate_log
from stoker.flows.settings import Settings, inherited
from stoker.storage.errors import StokerError

__all__ = ["HOW_TO_OPEN", "addresses", "run_services", "start_in_background", "stop_services"]


@contextmanager
def _locked(home: Path) -> Iterator[bool]:
    """Hold the folder's lock; False if another `stoker up` holds it."""
    private.make_private(home)
    try:
        lock = private.lock_private(home / "up.lock", timeout_s=0)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(lock)


def run_services(settings: Settings, report: Callable[[str], None]) -> bool:
    """Run the services until a signal. False if another `stoker up` of this folder runs. Raises StokerError."""
    with _locked(settings.home) as locked:
        if locked:
            Supervisor(settings, report).run()
        return locked


def start_in_background(settings: Settings) -> Services:
    """Start the services in the background if they do not run; returns when they are ready. Raises StokerError."""
    process = None
    with _locked(settings.home) as locked:
        none_runs = locked
    if none_runs:
        log = settings.home / "logs" / "up.log"
        with private.open_log(rotate_log(log), anew=True) as file:
            process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-P", "-m", "stoker.flows.services.child", "up", "0", json.dumps(settings.to_json())],
                env=inherited(),
                cwd="/",  # as every service
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    deadline = time.monotonic() + READY_S + 10
    while True:
        services = running.load(settings.home)
        if services.ready and services.supervisor is not None and services.supervisor.alive:
            return services
        if process is not None and process.poll() == 0:
            process = None  # another `stoker up` took the lock first: wait for that one
        elif process is not None and process.poll() is not None:
            text = log.read_text(errors="replace").strip().splitlines()
            raise StokerError(f"`stoker up` ended at its start: {text[-1] if text else 'it wrote nothing'}; see {log}")
        if time.monotonic() > deadline:
            raise StokerError(f"the services were not ready after {READY_S:g} s; see {settings.home / 'logs'}")
        time.sleep(0.1)


def stop_services(settings: Settings, report: Callable[[str], None]) -> bool:
    """End what `stoker up` of this folder started; False if nothing ran."""
    services = running.load(settings.home)
    ended = False
    if services.supervisor is not None and services.supervisor.alive:
        report("stopping")
        ended = running.terminate(services.supervisor, timeout_s=20)  # it ends by itself within 10
        services = running.load(settings.home)
    ended |= bool(running.end_services(services.running))  # left by a `stoker up` that was killed
    if services.running or services.supervisor:
        running.save(settings.home, Services(bucket=services.bucket))
    return ended
