"""Temporary folders for files that are too large for memory.

The name of a folder holds the process id, so that the next run removes the folders of killed processes.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stoker.storage.boot import is_alive

_PREFIX = "stoker-"


@contextmanager
def folder_in(scratch: Path) -> Iterator[Path]:
    """An empty folder, removed at the end. Folders that killed processes left are removed at the start."""
    scratch.mkdir(parents=True, exist_ok=True)
    _remove_stale_folders(scratch)
    with tempfile.TemporaryDirectory(
        prefix=f"{_PREFIX}{os.getpid()}-", dir=scratch, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def _remove_stale_folders(scratch: Path) -> None:
    for folder in scratch.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
