"""Where large downloads are written, so that the next run goes on with those that a run did not finish.

A whole one may be held for several readers at once: it stays where it is, with a note that says what it is. Whoever
claims the URL then gets it, and asks the server whether it is still the same; readers see by the note that they came
too late.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stoker.pipelines.errors import SourceBroken
from stoker.pipelines.web.http.sinks import note_of, write_note
from stoker.storage.boot import boot_id

_KEPT_S = 14 * 86_400  # seconds that an unfinished download waits for its next run
_ODD = re.compile(r"[^A-Za-z0-9._-]")
_NOTE = "~held.json"  # no download is called so
_LONGEST_NOTE = 2**16  # bytes
_ROOM = 8  # times its size: so much of the disk stays free for other downloads while one is held

Measures = Mapping[str, Any]  # Any: texts and numbers; see ``measured.measures_of``


@contextmanager
def claim(folder: Path, url: str) -> Iterator[Path]:
    """The path to download a URL to, this thread's alone, named like the URL; see ``Web.download`` with ``outlasts``.

    Removed at the end of the block, and where it ends with SourceBroken. After any other exception (the run was
    stopped, the server is away) it stays, and the next claim of the URL goes on with it. What nobody came back for in
    14 days is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old(folder)
    digest = _digest(url)
    held, number = _lock(folder / digest), 0
    while held is None:  # another run downloads the same URL now, or reads it; it is not waited for
        number += 1
        held = _lock(folder / f"{digest}-{number}")
    own = folder / (f"{digest}-{number}" if number else digest)
    try:
        own.mkdir(exist_ok=True)
        yield own / _name(url)
        _remove(own)
    except SourceBroken:
        _remove(own)
        raise
    finally:
        os.close(held)


def first_measures(path: Path, sha256: str, measures: Measures) -> Measures:
    """The measures of a claimed download, those of the first response where it was held then with the same bytes.

    So what its readers made of it then is what they make of it now. ``measures``: of the last response, which may have
    left out what the first one said (RFC 9110, 15.3.7); where it says something else, it counts.
    """
    note = _noted(path.parent)
    before = note.get("measures")
    if note.get("sha256") != sha256 or not isinstance(before, dict):
        return measures
    differs = any(before.get(name, value) != value for name, value in measures.items() if name != "fetched_at")
    return measures if differs else before


def hold(path: Path, sha256: str, measures: Measures) -> bool:
    """Note what a claimed download is, for ``held``; whether that was done.

    Not where there is no room on the disk to keep it, or the next claim could not go on with it: it would be sent
    again. The claim's block is left by an exception then, so that the file stays.
    """
    stat = path.stat()
    if not (boot_id() and note_of(path).exists()) or shutil.disk_usage(path.parent).free < _ROOM * stat.st_size:
        return False
    note = {"sha256": sha256, "measures": dict(measures), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    try:
        write_note(path.with_name(_NOTE), note)
    except OSError:  # the disk is full, or a quota
        return False
    return True


@contextmanager
def held(folder: Path, url: str, sha256: str) -> Iterator[Path | None]:
    """The path of a download that is held, which stays so in the block; None if it is not there any more."""
    for own in _folders(folder, url):
        lock = _lock(own, shared=True)
        if lock is None:
            continue
        try:
            if _is_held(own / _name(url), sha256):
                yield own / _name(url)
                return
        finally:
            os.close(lock)
    yield None


def discard(folder: Path, url: str, sha256: str = "") -> None:
    """Remove what is left of downloads of a URL and is not in use; with ``sha256`` the one that is held alone."""
    for own in _folders(folder, url):
        if (lock := _lock(own)) is not None:
            if not sha256 or _noted(own).get("sha256") == sha256:
                _remove(own)
            os.close(lock)


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _name(url: str) -> str:
    """What the file of a URL is called."""
    return _ODD.sub("_", url.partition("?")[0].rstrip("/").rpartition("/")[2])[-100:] or "download"


def _folders(folder: Path, url: str) -> list[Path]:
    """The folders in which a URL is or was downloaded."""
    return sorted(lock.with_suffix("") for lock in folder.glob(f"{_digest(url)}*.lock"))


def _noted(own: Path) -> Measures:
    """What ``hold`` noted; nothing if it did not."""
    with suppress(OSError, ValueError), (own / _NOTE).open("rb") as file:
        note = json.loads(file.read(_LONGEST_NOTE))
        return note if isinstance(note, dict) else {}
    return {}


def _is_held(path: Path, sha256: str) -> bool:
    """Whether a download is as it was held: whoever claimed it since has written its last byte again at least."""
    note = _noted(path.parent)
    with suppress(OSError):
        stat = path.stat()
        return (note.get("sha256"), note.get("size"), note.get("mtime_ns")) == (sha256, stat.st_size, stat.st_mtime_ns)
    return False


def _lock(own: Path, *, shared: bool = False) -> int | None:
    """The open, locked file beside a download's folder; None if another run holds it."""
    file = os.open(f"{own}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with suppress(OSError):
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:  # else who held it removed it just now
            return file
    os.close(file)
    return None


def _remove(own: Path) -> None:
    """Remove a download whose lock this process holds; the lock last."""
    shutil.rmtree(own, ignore_errors=True)
    Path(f"{own}.lock").unlink(missing_ok=True)


def _remove_old(folder: Path) -> None:
    for lock in folder.glob("*.lock"):
        own = lock.with_suffix("")
        with suppress(OSError):
            written = max(part.stat().st_mtime for part in (lock, *own.glob("*")))
            if written < time.time() - _KEPT_S and (held := _lock(own)) is not None:
                _remove(own)
                os.close(held)
