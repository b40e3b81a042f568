"""Which run of the machine this is: what was written in another one may be incomplete; and its processes."""

import os
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


def is_alive(pid: int) -> bool:
    """Whether a process with this id is alive here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a process of another user
    return True
