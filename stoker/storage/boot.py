"""Which run of the machine this is: what was written in another one may be incomplete."""

from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """An identifier of this run of the machine; empty where the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
