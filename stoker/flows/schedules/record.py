"""What the home keeps of each schedule, for its owner alone: `schedules/NAME.json`.

``nonces``: a schedule's parameters hold a random number that is new each time it is scheduled. A run whose number is
not kept here is an old copy, of a schedule that was changed or removed.

`stoker schedule` changes it, and so do runs when they end: whoever reads a record to change it holds ``locked``.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stoker.flows import private
from stoker.storage.errors import StokerError

FOLDER = "schedules"
_NAME = re.compile(r"[a-z0-9][a-zA-Z0-9_-]{0,199}")


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a schedule."""

    nonces: tuple[str, ...] = ()  # accepted ones: more than one until Prefect was told of the newest
    notify: tuple[str, ...] = ()  # URLs, which may hold passwords
    notify_versions: bool = False  # also of each new version
    failing: bool = False  # the owner was told so, or would have been


def load(home: Path, name: str) -> Record | None:
    """The record of a schedule; None if it was never made here, or was removed. Raises StokerError."""
    path = _path(home, name)
    try:
        content = json.loads(path.read_bytes())
        return Record(
            nonces=tuple(map(str, content["nonces"])),
            notify=tuple(map(str, content.get("notify", ()))),
            notify_versions=content.get("notify_versions") is True,
            failing=content.get("failing") is True,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StokerError(f"{path}: not readable ({error}); run `stoker schedule` again") from None


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Keep other processes from changing a record; waits for one that does."""
    lock = private.lock_private(home / FOLDER / "lock")
    try:
        yield
    finally:
        os.close(lock)


def save(home: Path, name: str, record: Record) -> None:
    """Write the record, readable by its owner alone."""
    private.write_private(_path(home, name), json.dumps(asdict(record)))


def names(home: Path) -> list[str]:
    """The schedules that were made in this home and not removed, sorted."""
    return sorted(path.stem for path in (home / FOLDER).glob("*.json") if _NAME.fullmatch(path.stem))


def remove(home: Path, name: str) -> None:
    """Forget a schedule: its runs are refused from now on."""
    _path(home, name).unlink(missing_ok=True)


def _path(home: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise StokerError(f"no schedule is called {name!r}")
    return home / FOLDER / f"{name}.json"
