"""A worker of the user's own cluster: its home, and whether it fits the run that it is to work for.

It may be another machine, of another user. It shares the store with the run and nothing else: what it keeps meanwhile
lies in a private folder of its own. Each worker looks once, before its first task, so those that come later do too.
"""

import contextlib
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from stoker.flows import private
from stoker.flows.settings import Settings
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import plugin_identity
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.step import Step
from stoker.release import __version__
from stoker.storage.errors import NotFound, StokerError
from stoker.storage.stores.store import Store

_seen = set[tuple[str, str]]()  # stores and leases that were there


class WorkerUnfit(StokerError):
    """A worker of a cluster has other versions than this run, or another store. The run stops: no retry helps."""


def expectations(recipe: Recipe, lease: str) -> dict[str, Any]:  # Any: JSON values
    """What a worker is to find: the versions of the run, and the key of an object in the store."""
    parts: list[Source | Step | Rule] = [recipe.source, *recipe.steps, *recipe.rules]
    identities = [plugin_identity(part) for part in parts]
    plugins = {identity["distribution"] for identity in identities if identity}
    return {"versions": _versions(sorted(plugins)), "lease": lease}


def _versions(plugins: Iterable[str]) -> dict[str, str]:
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "stoker": __version__} | {name: _version(name) for name in plugins}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"


def check_versions(expected: dict[str, str]) -> None:
    """Raise WorkerUnfit when this worker has another Stoker, Python or plug-in than the run."""
    found = _versions(name for name in expected if name not in ("Python", "stoker"))
    for name, version in expected.items():
        if found[name] != version:
            remedy = f"start it with Python {version}" if name == "Python" else f'pip install "{name}=={version}" there'
            raise WorkerUnfit(f"worker {_here()}: {name} {found[name]}, and the run has {name} {version}; {remedy}")


def worker_home() -> Path:
    """A private folder for this worker's user: where Dask keeps a worker's files, or the system's temporary ones.

    Raises StokerError when another user made it.
    """
    base = tempfile.gettempdir()
    if distributed := sys.modules.get("distributed"):
        with contextlib.suppress(ValueError):  # no worker of Dask
            base = distributed.get_worker().local_directory
    home = Path(base, f"stoker-{os.geteuid()}")
    private.make_private(home)
    return home


def open_store(settings: Settings, lease: str) -> Store:
    """The run's store. Raises WorkerUnfit when this worker does not see it."""
    if not settings.store and not _sees_home(settings.home):
        raise WorkerUnfit(
            f"worker {_here()}: the store of `stoker up` ({settings.home}) is for its own machine and user; set "
            "STOKER_STORE to an S3 store, or to a folder that all workers share"
        )
    store = settings.open_store()
    if (store.url, lease) not in _seen and not _has(store, lease):
        raise WorkerUnfit(
            f"worker {_here()}: what it finds at {store.url} is not the store of this run; use an S3 store, or a "
            "folder that all workers share"
        )
    _seen.add((store.url, lease))
    return store


def _sees_home(home: Path) -> bool:
    return os.access(home, os.R_OK | os.X_OK)


def _has(store: Store, key: str) -> bool:
    try:
        store.size(key)
    except NotFound:
        return False
    return True


def _here() -> str:
    return f"{socket.gethostname()} (process {os.getpid()})"
