"""Where large downloads are written, so that the next run goes on with those that a run did not finish."""

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stoker.pipelines.errors import SourceBroken

_KEPT_S = 14 * 86_400  # seconds that an unfinished download waits for its next run
_ODD = re.compile(r"[^A-Za-z0-9._-]")


@contextmanager
def claim(folder: Path, url: str) -> Iterator[Path]:
    """The path to download a URL to, this thread's alone, named like the URL; see ``Web.download`` with ``outlasts``.

    Removed at the end of the block, and where it ends with SourceBroken. After any other exception (the run was
    stopped, the server is away) it stays, and the next claim of the URL goes on with it. What nobody came back for in
    14 days is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old(folder)
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    held, number = _lock(folder / digest), 0
    while held is None:  # another run downloads the same URL now; it is not waited for
        number += 1
        held = _lock(folder / f"{digest}-{number}")
    own = folder / (f"{digest}-{number}" if number else digest)
    try:
        own.mkdir(exist_ok=True)
        yield own / (_ODD.sub("_", url.partition("?")[0].rstrip("/").rpartition("/")[2])[-100:] or "download")
        _remove(own)
    except SourceBroken:
        _remove(own)
        raise
    finally:
        os.close(held)


def _lock(own: Path) -> int | None:
    """The open, locked file beside a download's folder; None if another run holds it."""
    file = os.open(f"{own}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
