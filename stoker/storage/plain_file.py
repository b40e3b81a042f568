"""Open a file that somebody else named: an ordinary file, or an error at once. A pipe would be waited for, for ever."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotPlain(OSError):
    """It is a pipe, a device or a socket; ``strerror`` says which."""


def open_plain(path: Path) -> BufferedReader:
    """The file, open to be read. Raises NotPlain, OSError as ``open`` does (IsADirectoryError for a folder)."""
    check_plain(path)
    # It may have been replaced since: without O_NONBLOCK a pipe to which nobody writes would hold us here.
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115  # whoever called closes it
    try:
        _check(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def check_plain(path: Path) -> None:
    """Raise NotPlain for a pipe, a device or a socket, for libraries that open files themselves; OSError."""
    _check(path, path.stat().st_mode)


def describe_missing(path: Path, otherwise: str = "no such file") -> str:
    """What is there in place of an ordinary file: "a folder", "a pipe", ...; ``otherwise`` if there is nothing."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), otherwise)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return otherwise


def _open_at_once(path: str, flags: int) -> int:
    """An ``opener`` for ``open`` that waits for no writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise NotPlain(errno.EINVAL, f"{kind}; expected an ordinary file", str(path))
