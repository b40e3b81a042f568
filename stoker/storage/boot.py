"""Which run of the machine this is: what was written in another one may be incomplete; and its processes."""

import os
import subprocess
import sys
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """An identifier of this run of the machine; empty where the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@cache
def process_space() -> str:
    """Where process ids mean the same: this run of the machine, and this container on it; empty if it is unknown."""
    if sys.platform != "linux":
        return f"{uuid.getnode():012x}"
    if boot := boot_id():  # without it: outside of containers the other part is the same on all machines
        with suppress(OSError):
            return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def start_time(pid: int) -> str:
    """The start time of a process as text that is only good for comparison; "" if there is no such process."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():  # Linux
        try:
            # proc(5): the name in parentheses may hold anything: count behind it. Field 3: state, 22: start time.
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else f"{boot_id()}/{fields[19]}"
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # a number, no shell
    return " ".join(completed.stdout.split())


def is_alive(pid: int, started: str = "") -> bool:
    """Whether a process with this id is alive here; with ``started``, from ``start_time``: whether that very one is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a process of another user, of which no more may be visible
    return not started or start_time(pid) == started
