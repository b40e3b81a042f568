"""What follows from the end of a scheduled run: it is tried again, or the owner is told."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry

from stoker.flows import logs
from stoker.flows.runs import RETRYING
from stoker.flows.schedules import notices, record
from stoker.flows.settings import Settings
from stoker.pipelines.errors import SourceUnavailable
from stoker.storage.errors import StokerError, StorageUnavailable

_MOST_RETRIES = 10  # whatever a run's parameters say
_MOST_WAIT_S = 366 * 86400


def may_pass(error: BaseException | None) -> bool:
    """Whether the same run may succeed later: a source or a store was out of reach."""
    while error is not None:
        if isinstance(error, SourceUnavailable | StorageUnavailable):
            return True
        error = error.__cause__
    return False


def retry_later(client: SyncPrefectClient, run: FlowRun, reason: str, *, at_once: bool = False) -> bool:
    """Plan the run once more as its schedule says; False if it was tried often enough.

    ``at_once``: without the wait, as what ended the run is over.
    """
    retries, wait_s = (_number(run.parameters.get(name)) for name in ("retries", "retry_wait_s"))
    with suppress(httpx.HTTPStatusError, ObjectNotFound):
        before = sum(state.name == RETRYING for state in client.read_flow_run_states(run.id))
        if before < min(retries, _MOST_RETRIES):
            at = datetime.now(UTC) + timedelta(seconds=0 if at_once else min(wait_s, _MOST_WAIT_S))
            text = f"{reason}; retry {before + 1} of {retries}"
            client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=at, message=text), force=True)
            return True
    return False


def _number(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def failed(settings: Settings, name: str, run: str, reason: str) -> None:
    """Tell the owner that a run of the schedule ``name`` failed and is not tried again."""
    kept = _set_failing(settings, name, failing=True)
    if kept is not None:
        _send(kept, f"Stoker: {name} failed", f"{run}: {reason}", good=False)


def succeeded(settings: Settings, name: str, run: str, result: Mapping[str, Any]) -> None:  # Any: JSON values
    """Tell the owner that a schedule works again, and of a new version, where they asked for that."""
    kept = _set_failing(settings, name, failing=False)
    if kept is None:
        return
    reference = str(result.get("reference", ""))
    if kept.failing:
        _send(kept, f"Stoker: {name} works again", f"{run}: {reference}", good=True)
    if kept.notify_versions and result.get("new") is True:
        _send(kept, f"Stoker: new version {reference}", f"{run} published {reference}", good=True)


def _set_failing(settings: Settings, name: str, *, failing: bool) -> record.Record | None:
    """Keep how a schedule fares. Returns its record from before; None for one that is not kept (any more)."""
    try:
        with record.locked(settings.home):
            before = record.load(settings.home, name)
            if before is not None and before.failing != failing:
                record.save(settings.home, name, replace(before, failing=failing))
            return before
    except StokerError as error:
        logs.error(str(error))
        return None


def _send(kept: record.Record, title: str, body: str, *, good: bool) -> None:
    for target in notices.send(kept.notify, title, body, good=good):
        logs.error(f"no notice was sent to {target}: {title}")


def schedule_name(client: SyncPrefectClient, deployment: UUID | None) -> str:
    """The name of a run's deployment; "" if it has none (any more)."""
    if deployment is None:
        return ""
    try:
        return client.read_deployment(deployment).name
    except ObjectNotFound:
        return ""
