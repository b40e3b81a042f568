"""The files and secrets of a home, which its owner alone can read: written, opened, locked.

Another user of the machine may know where a home is, and an archive may bring links into it: folders are closed, and
no link of somebody else is followed. Raises StokerError, in one line that says what to do.
"""

import fcntl
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stoker.storage.errors import StokerError

# What lies in a home. The first ones are surely ours; the others are names that a project may have too.
SCHEDULE_KEY = "schedule-key"
SCHEDULER = "scheduler.json"  # what the scheduler of `stoker up` runs with
_OWN_NAMES = frozenset(("services.json", "s3-keys.json", SCHEDULE_KEY, SCHEDULER, "up.lock", "prefect"))
_NAMES = _OWN_NAMES | {
    "schedules",
    "token",
    "logs",
    "s3",
    "store",
    "cache",
    "scratch",
    "runs",
    "training",
    "demo",
    "lost+found",
}
_LOCK_POLL_S = 0.05
_HOME_ADVICE = "set STOKER_HOME to a folder of your own, which need not exist yet"
TOKEN = "token"  # noqa: S105  # the name of the file that holds the owner's token
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,200}")
_KEY = re.compile(r"[0-9a-f]{64}")


def write_private(path: Path, text: str) -> None:
    """Write a file atomically with mode 0600."""
    make_inner(path.parent)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def credentials(home: Path, *, make: bool = False) -> tuple[str, str]:
    """Access key and secret key of this folder's S3 server, from a private file; ``make`` creates it."""
    path = home / "s3-keys.json"
    try:
        content = json.loads(path.read_bytes())
        return str(content["access_key"]), str(content["secret_key"])
    except FileNotFoundError:
        if not make:
            raise StokerError(f"{path}: missing; run `stoker down` and `stoker up`, which makes new keys") from None
        keys = {"access_key": "stoker" + secrets.token_hex(7), "secret_key": secrets.token_urlsafe(30)}
        write_private(path, json.dumps(keys))
        return keys["access_key"], keys["secret_key"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StokerError(f"{path}: not readable ({error}); delete it and run `stoker up` again") from None


def new_owner_token(home: Path) -> str:
    """Make the token by which the servers of `stoker up` know their owner; an earlier one is worth nothing then."""
    token = secrets.token_urlsafe(32)  # 256 bits in ASCII letters, digits, - and _
    write_private(home / TOKEN, token)
    return token


def owner_token(home: Path) -> str:
    """The token that the servers of `stoker up` accept now. Raises StokerError."""
    wrong = "holds no token; run `stoker down` and `stoker up`, which makes a new one"
    return _read_secret(home / TOKEN, _TOKEN, wrong)


def schedule_key(home: Path, *, make: bool = False) -> str:
    """The key that seals what `stoker schedule` plans in this home, kept over restarts; ``make`` creates a missing one.

    It is never sent anywhere, unlike the owner's token. Raises StokerError.
    """
    path = home / SCHEDULE_KEY
    if make and not path.exists():
        write_private(path, secrets.token_hex(32))
    wrong = "holds no key; delete it, run `stoker down` and `stoker up`, and schedule again"
    return _read_secret(path, _KEY, wrong)


def _read_secret(path: Path, pattern: re.Pattern[str], wrong: str) -> str:
    """A secret that `stoker up` wrote; ``wrong`` says what to do where another text stands. Raises StokerError."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise StokerError(f"{path}: missing; run `stoker down` and `stoker up`, which makes a new one") from None
    except (OSError, ValueError) as error:
        raise StokerError(f"{path}: not readable ({error}); run `stoker down` and `stoker up`") from None
    if not pattern.fullmatch(text):
        raise StokerError(f"{path}: {wrong}")
    return text


def make_private(folder: Path, *, own: Collection[str] = _OWN_NAMES) -> None:
    """Make a folder that only its owner can enter, or close an existing one. Raises StokerError.

    A folder that is open to others and not Stoker's alone is left as it is, and refused: one with other files, and
    without any of the names ``own``, by which an earlier version left it. So is a link that another user made.
    """
    try:
        if _is_link_of_others(folder):
            raise StokerError(f"{folder}: a link that belongs to another user; {_HOME_ADVICE}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_private(folder):
            problem = _not_ours(folder, own)
            if not problem:
                folder.chmod(0o700)
                problem = "" if is_private(folder) else "its file system keeps no permissions"
            if problem:
                raise StokerError(f"{folder}: open to other users, and {problem}; {_HOME_ADVICE}")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise StokerError(f"{folder}: cannot be written; {_HOME_ADVICE}")
    except OSError as error:
        raise StokerError(f"{folder}: cannot be made a private folder ({error.strerror}); {_HOME_ADVICE}") from None


def close_to_others(folder: Path) -> None:
    """Make a folder private if it is there and is not. Raises StokerError, also where that cannot be seen."""
    try:
        is_open = not is_private(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StokerError(f"{folder}: cannot be looked at ({error.strerror}); {_HOME_ADVICE}") from None
    if is_open:
        make_private(folder)


def is_private(folder: Path) -> bool:
    """Whether only the current user can enter a folder. The superuser of a machine always can."""
    status = folder.stat()
    closed = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return closed and not _is_link_of_others(folder)


def _is_link_of_others(path: Path) -> bool:
    """Whether a path is a link of someone who is neither the current user nor the superuser."""
    return path.is_symlink() and path.lstat().st_uid not in (os.geteuid(), 0)


def make_inner(folder: Path) -> None:
    """Make a folder inside a home, for its owner alone.

    A link is obeyed where it leads to a private folder of the owner, such as one on a larger disk. Any other may have
    come with an archive that somebody else packed. Raises StokerError.
    """
    if folder.is_symlink() and not (folder.is_dir() and is_private(folder)):
        raise StokerError(
            f"{folder}: a link to {os.readlink(folder)!r}, which is no folder for you alone, so nothing is written "
            "there; remove the link, or close the folder with chmod 700"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def open_private(path: Path, flags: int) -> int:
    """Open a file inside a home, or make it, with mode 0600; returns its descriptor, which no program inherits.

    A link in its place is refused: an archive may bring one that leads to a file of yours. Raises StokerError.
    """
    make_inner(path.parent)
    try:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise StokerError(
                f"{path}: a link to {os.readlink(path)!r}, where Stoker writes a file of its own; nothing was "
                "written; remove the link"
            ) from None
        raise StokerError(f"{path}: cannot be written ({error.strerror}); remove it, or {_HOME_ADVICE}") from None


def lock_private(path: Path, *, timeout_s: float = math.inf) -> int:
    """Lock a file inside a home, made if it is missing; returns its descriptor: to close it frees the lock.

    Raises BlockingIOError when another process holds it for longer than the timeout.
    """
    lock, deadline = open_private(path, os.O_RDWR), time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_POLL_S)
            else:
                return lock
    except BaseException:
        os.close(lock)
        raise


def _not_ours(folder: Path, own: Collection[str]) -> str:
    """Why a folder is not Stoker's alone; "" if it is."""
    status = folder.stat()
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & stat.S_ISVTX:
        return "it is a folder that users share"
    if any(folder.samefile(shared) for shared in (Path("/"), Path(os.path.expanduser("~"))) if shared.exists()):
        return "it is not for Stoker alone"
    names = {path.name for path in folder.iterdir()}
    if names - _NAMES and names.isdisjoint(own):
        return f"it holds other files ({min(names - _NAMES)!r})"
    return ""


@contextmanager
def open_log(path: Path, *, anew: bool = False) -> Iterator[BinaryIO]:
    """A log to write to, in a folder and a file of its owner alone; ``anew`` empties it. Raises StokerError."""
    flags = os.O_WRONLY | (os.O_TRUNC if anew else os.O_APPEND)
    with os.fdopen(open_private(path, flags), "wb") as file:
        yield file
