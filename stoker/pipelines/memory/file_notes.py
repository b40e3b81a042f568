"""What was found out about local files, known again while these are as they were: nothing of them is read twice.

A file is taken for the same by its size, times (of its content and of its status) and number in the file system, as
`git status` does. What was written within the last seconds is read again: its times may not tell two writes apart.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from stoker.pipelines.partition import digest
from stoker.release import __version__

T = TypeVar("T")  # a JSON value
SETTLED_S = 3.0  # since a file's last change; the coarsest file systems count every second one


class FileNotes:
    """Notes of one source, by file. ``file_notes`` makes and saves them."""

    def __init__(self, known: dict[str, list[Any]]) -> None:  # Any: JSON values
        self._known = known
        self.used: dict[str, list[Any]] = {}  # Any: JSON values

    def of(self, what: str, paths: Sequence[Path], make: Callable[[], T]) -> T:
        """What ``make`` found out about these files when they were as they are; else what it does now.

        Args:
            what: is found out; another text where it would be something else.
            paths: of all that it depends on.
            make: returns a JSON value. What it raises is raised.
        """
        name = digest([what, __version__, *(os.path.abspath(path) for path in paths)])
        status = _status(paths)
        known = self._known.get(name)
        if status is None or known is None or known[0] != status:
            value = make()
            if status is None or _status(paths) != status:
                return value
            known = [status, value]
        self.used[name] = known
        found: T = known[1]
        return found


@contextmanager
def file_notes(folder: Path, name: str) -> Iterator[FileNotes]:
    """The notes of this name in a folder. Those that the block does not use are forgotten if it comes to its end."""
    path = folder / f"{digest(name)[:32]}.json"
    known: dict[str, list[Any]] = {}  # Any: JSON values
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_bytes())
        known = content["files"] if content["checksum"] == digest(content["files"]) else {}
    notes = FileNotes(known)
    yield notes
    if notes.used != known:
        with suppress(OSError):  # a full disk: found out again the next time
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, made = tempfile.mkstemp(prefix=path.name, dir=folder)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"files": notes.used, "checksum": digest(notes.used)}, file)
            os.replace(made, path)


def _status(paths: Sequence[Path]) -> list[list[int]] | None:
    """What the files are known by; None if one is not there, or was changed a moment ago."""
    try:
        found = [path.stat() for path in paths]
    except (OSError, ValueError):
        return None
    if any(time.time() - max(one.st_mtime, one.st_ctime) < SETTLED_S for one in found):
        return None
    return [[one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for one in found]
