"""What the scheduler of `stoker up` runs with, kept in the home so that `stoker schedule` can compare it.

A scheduled run has the scheduler's environment and not that of the call which scheduled it: its S3 keys, its clusters.
Of the keys a keyed hash is kept, by a key that lies in the home: it tells whether two are equal, and nothing else.
"""

import hashlib
import hmac
import json
from typing import NamedTuple

from stoker.flows import logs, private
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError, StorageRefused

_ROLES = frozenset(("iam-role", "container-role", "assume-role", "assume-role-with-web-identity", "sso", "login"))


class Keys(NamedTuple):
    """Where credentials of S3 were found, and a hash that is equal for equal ones; both "" if there are none."""

    source: str
    mark: str


def record(settings: Settings) -> None:
    """Write down what this process, the scheduler, runs with.

    Keys that cannot be had count as none: the store may need none.
    """
    try:
        keys = _own_keys(settings)
    except StorageRefused as error:
        logs.note(f"{error}; schedules whose store needs them are refused")
        keys = Keys("", "")
    content = {"ray_address": settings.ray_address, "dask_address": settings.dask_address, "keys": keys._asdict()}
    private.write_private(settings.home / private.SCHEDULER, json.dumps(content))


def check(settings: Settings) -> list[str]:
    """Compare this call with the scheduler: lines to warn of. Raises StokerError where a scheduled run would fail.

    ``settings`` are those of `stoker schedule`.
    """
    recorded = _load(settings)
    if recorded is None:
        return []
    for name in ("ray_address", "dask_address"):
        own, other = getattr(settings, name), str(recorded.get(name, ""))
        if own not in ("", other):
            raise StokerError(
                f"{name}: this call says {own!r}, and `stoker up`, which will run the schedule, {other!r}; start "
                f"`stoker up` with STOKER_{name.upper()}={own} and schedule again"
            )
    if not settings.store.startswith("s3:"):
        return []  # a folder, or the S3 server of `stoker up`, whose keys lie in the home
    keys = recorded.get("keys")
    return _compare(settings, Keys(**keys) if isinstance(keys, dict) else Keys("", ""))


def _compare(settings: Settings, theirs: Keys) -> list[str]:
    own = _own_keys(settings)
    if not theirs.source:
        raise StorageRefused(
            f"{settings.store}: `stoker up`, which will run the schedule, has no keys of S3; end it with "
            "`stoker down`, start it where AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE are set, and "
            "schedule again"
        )
    if own == theirs or (own.source in _ROLES and own.source == theirs.source):
        return []  # keys of a role change every few hours
    return [
        f"warning: the scheduled runs use the keys of S3 that `stoker up` has (from {theirs.source}), which are not "
        f"those of this call (from {own.source or 'nowhere'}); only the latter were tried here"
    ]


def _own_keys(settings: Settings) -> Keys:
    from stoker.storage.stores.s3_client import default_credentials

    found = default_credentials()
    if found is None:
        return Keys("", "")
    source, access_key, secret_key = found
    content = json.dumps([access_key, secret_key]).encode()
    key = private.schedule_key(settings.home).encode()
    return Keys(source, hmac.new(key, b"keys of S3" + content, hashlib.sha256).hexdigest())


def recorded_address(settings: Settings, name: str) -> str | None:
    """The cluster's address that the scheduler has; None if no scheduler wrote it down."""
    recorded = _load(settings)
    return None if recorded is None else str(recorded.get(name, ""))


def _load(settings: Settings) -> dict[str, object] | None:
    """What the scheduler wrote down; None if none of this version ran in the home."""
    path = settings.home / private.SCHEDULER
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StokerError(f"{path}: not readable ({error}); delete it and start `stoker up` again") from None
    return content if isinstance(content, dict) else None
