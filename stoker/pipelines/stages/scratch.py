"""Folders for files that are too big for memory: gone when the work ends, and after a kill with the next run."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "stoker-"


@contextmanager
def folder_in(scratch: Path) -> Iterator[Path]:
    """An empty folder of one's own, removed at the end. Those that killed processes left are removed at the start."""
    scratch.mkdir(parents=True, exist_ok=True)
    _sweep(scratch)
    with tempfile.TemporaryDirectory(
        prefix=f"{_PREFIX}{os.getpid()}-", dir=scratch, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def _sweep(scratch: Path) -> None:
    for left in scratch.glob(f"{_PREFIX}*-*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True
