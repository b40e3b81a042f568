"""Which run of the machine this is: what was written in another one may be incomplete; and its processes."""

import os
import subprocess
import sys
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_ENDED = ("Z", "X")  # states of processes that have ended, and that their parents did not ask for yet


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
    state, started = _seen(pid)
    return "" if state in _ENDED else started


def is_alive(pid: int, started: str = "") -> bool:
    """Whether a process with this id is alive here; with ``started``, from ``start_time``: whether that very one is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a process of another user, of which no more may be visible
    if not started:
        return True
    state, now = _seen(pid)
    # Of a process that is there but does not show its start, nothing says that it is another one.
    return state not in _ENDED and now in ("", started)


def _seen(pid: int) -> tuple[str, str]:
    """A process's state in one letter, and its start time; "unknown" and "" if neither is seen."""
    if (_PROC / "self/stat").exists():  # Linux
        try:
            # proc(5): the name in parentheses may hold anything: count behind it. Field 3: state, 22: start time.
            fields = (_PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return "unknown", ""
        return fields[0], f"{boot_id()}/{fields[19]}"
    command = ["/bin/ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    # ps prints local time in the words of a language: cron and a terminal may have others.
    env = os.environ | {"TZ": "UTC", "LC_ALL": "C"}
    completed = subprocess.run(command, capture_output=True, text=True, check=False, env=env)  # noqa: S603  # a number, no shell
    state, *started = completed.stdout.split() or ["unknown"]
    return state[0] if started else "unknown", " ".join(started)
