"""What `stoker up` started: kept in services.json, so that every other command finds it, and nobody ends a stranger."""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stoker.storage.errors import StokerError

_SCHEMA = 1
BUCKET = "stoker"


@dataclass(frozen=True, slots=True)
class Process:
    """A process, and since when it runs: a number alone may be given to another process later."""

    pid: int
    started: str
    url: str = ""  # where it answers; "" if it does not

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return bool(self.started) and started(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Services:
    """The supervisor (`stoker up` itself), its services by name, and the bucket that ever held corpora."""

    supervisor: Process | None = None
    running: Mapping[str, Process] = field(default_factory=dict)
    ready: bool = False  # all services answer
    bucket: str = ""

    def alive(self, name: str) -> Process | None:
        """The service, if it runs."""
        found = self.running.get(name)
        return found if found is not None and found.alive else None


def _path(home: Path) -> Path:
    return home / "services.json"


def load(home: Path) -> Services:
    """What is known of the services of this folder; nothing, if `stoker up` never ran."""
    try:
        content = json.loads(_path(home).read_bytes())
        if content["schema"] > _SCHEMA:
            raise StokerError(f"{_path(home)}: written by a newer Stoker; upgrade Stoker")
        supervisor = content["supervisor"]
        return Services(
            supervisor=Process(**supervisor) if supervisor else None,
            running={name: Process(**one) for name, one in content["running"].items()},
            ready=bool(content["ready"]),
            bucket=str(content["bucket"]),
        )
    except FileNotFoundError:
        return Services()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StokerError(f"{_path(home)}: not readable ({error}); end `stoker up` and delete this file") from None


def save(home: Path, services: Services) -> None:
    """Write services.json whole or not at all, readable by its owner alone."""
    content = {"schema": _SCHEMA} | asdict(services)
    write_private(_path(home), json.dumps(content, indent=1))


def write_private(path: Path, text: str) -> None:
    """Put a file in place in one step, mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def credentials(home: Path, *, make: bool = False) -> tuple[str, str]:
    """The key and the secret of this folder's S3 server: made once, kept in a private file."""
    path = home / "s3-keys.json"
    try:
        content = json.loads(path.read_bytes())
        return str(content["access_key"]), str(content["secret_key"])
    except FileNotFoundError:
        if not make:
            raise StokerError(f"{path}: missing; run `stoker down` and `stoker up`, which makes new keys") from None
        made = {"access_key": "stoker" + secrets.token_hex(7), "secret_key": secrets.token_urlsafe(30)}
        write_private(path, json.dumps(made))
        return made["access_key"], made["secret_key"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StokerError(f"{path}: not readable ({error}); delete it and run `stoker up` again") from None


def started(pid: int) -> str:
    """Since when a process runs, in a form only good for comparison; "" if there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():  # Linux
        try:
            # The name in parentheses may hold anything: fields are counted behind its end. Here: 3 state, 22 starttime.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a number, no shell
    return " ".join(shown.stdout.split())


def this_process(url: str = "") -> Process:
    """The process that asks."""
    return Process(os.getpid(), started(os.getpid()), url)


def end(process: Process, *, timeout_s: float) -> bool:
    """Ask a process to end, wait, then insist. False if it was not running (any more)."""
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
