"""stoker.toml: which files are read, and whose they are.

That of the working directory comes before the user's own, key by key; ``--config`` names one that is read in place of
both. A recipe's folder is not looked at: a recipe may come from a stranger, and a file beside it could send your data
to another store.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from stoker.pipelines import toml_file
from stoker.storage.errors import StokerError

NAME = "stoker.toml"
VARIABLE = "STOKER_CONFIG"  # as --config; no setting, because it says where settings are


class SettingsError(StokerError):
    """A setting is unknown or has a value that cannot work."""


class SettingsFile(NamedTuple):
    """A file and its keys, not yet checked."""

    path: Path
    document: Mapping[str, object]


def read(
    environ: Mapping[str, str], cwd: Path, config: str = "", report: Callable[[str], object] = lambda line: None
) -> list[SettingsFile]:
    """The files that hold for a call, the user's own first and the most important last. Raises SettingsError.

    ``config`` is the value of the flag ``--config``, "" if it was not given. ``report`` is called with a line if the
    user's own file is closed to us; it then counts as absent.
    """
    named = config or environ.get(VARIABLE, "")
    if named:
        path = Path(os.path.abspath(cwd / Path(named).expanduser()))
        return [SettingsFile(path, _read(path))]
    own, here = own_path(environ), cwd / NAME
    files = []
    if own is not None and _is_there(own, report) and not (here.is_file() and own.samefile(here)):
        files.append(SettingsFile(own, _read(own)))
    if here.is_file():
        files.append(SettingsFile(here, _read(here, only_ours=True)))
    return files


def own_path(environ: Mapping[str, str]) -> Path | None:
    """Where the user's own file may lie; None without a home.

    Source: XDG Base Directory Specification; it says that a relative path in the variable is ignored.
    """
    base = environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(base):
        return Path(base, "stoker", NAME)
    home = environ.get("HOME", "")
    return Path(home, ".config", "stoker", NAME) if os.path.isabs(home) else None


def _is_there(own: Path, report: Callable[[str], object]) -> bool:
    """Whether the user's own file can be read. `docker run -u` leaves HOME at a folder that is closed to that user."""
    try:
        if not stat.S_ISREG(own.stat().st_mode):
            return False
        own.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        report(f"{own} is not read: {error.strerror}")
        return False
    return True


def _read(path: Path, *, only_ours: bool = False) -> Mapping[str, object]:
    try:
        return toml_file.read(path, check=(lambda status: _check_owner(path, status.st_uid)) if only_ours else None)
    except (OSError, toml_file.TomlError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SettingsError(f"{path}: not readable as TOML: {reason}") from None


def _check_owner(path: Path, file_owner: int) -> None:
    """Refuse a file that another user put where we work, such as in /tmp; also a link of theirs to a file of ours."""
    for owner in (file_owner, path.lstat().st_uid):
        if owner not in (os.geteuid(), 0):
            raise SettingsError(
                f"{path}: belongs to {_user_name(owner)} and not to you, so its settings are not obeyed; read it, and "
                f"then use it with --config {path}, or remove it, or work in another folder"
            )


def _user_name(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user {uid}"
