"""Runs that wait: names in Prefect's page, parameters of a schedule that was changed, trainings that are outdated."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from stoker.flows.services.schedule import PAGE_SIZE, read_deployments, set_state

_MOST_NAMED = 20  # of a deployment at a time: a timetable of seconds has a hundred planned runs
_AUTOMATION = "AUTOMATION"  # who made a run, in Prefect's words


def name_planned_runs() -> None:
    """Give the next planned runs of each schedule its name and their time, in its zone: "digits 2026-04-01 03:00"."""
    # A name is for people alone: where Prefect is busy, the next look gives it.
    with suppress(httpx.HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        for deployment in read_deployments(client).values():
            _name(client, deployment, _scheduled(client, [deployment.id], limit=_MOST_NAMED))


def prepare_runs(due: Iterable[FlowRun]) -> None:
    """Give runs that are about to start their names, and planned ones the parameters that their schedule has now.

    Prefect plans runs ahead and may do so from what it read just before `stoker schedule` changed it. Such a run is no
    failure. What a person starts keeps the parameters that were chosen for it. All are checked when the run starts.
    """
    due = list(due)
    if not due:
        return
    with get_client(sync_client=True) as client:
        for deployment in read_deployments(client).values():
            runs = [run for run in due if run.deployment_id == deployment.id]
            for run in runs:
                if run.auto_scheduled and run.run_count == 0 and run.parameters != deployment.parameters:
                    with suppress(ObjectNotFound):  # Prefect plans them anew: this one may be gone
                        client.update_flow_run(run.id, parameters=deployment.parameters)
            with suppress(httpx.HTTPError, ObjectNotFound):  # as above
                _name(client, deployment, runs)


def _name(client: SyncPrefectClient, deployment: DeploymentResponse, runs: Iterable[FlowRun]) -> None:
    for run in runs:
        name = run_name(deployment, run)
        if run.run_count == 0 and run.name != name:
            client.update_flow_run(run.id, name=name)


def run_name(deployment: DeploymentResponse, run: FlowRun) -> str:
    """What a run does, for people."""
    if "model" in run.parameters:
        return f"{run.parameters['model']} on {run.parameters.get('corpus')}"[:200]
    zone = next((_zone(entry.schedule) for entry in deployment.schedules), "UTC")
    at = (run.expected_start_time or datetime.now(UTC)).astimezone(ZoneInfo(zone))
    return f"{deployment.name} {at:%Y-%m-%d %H:%M}" + (f":{at:%S}" if at.second else "")


def _zone(schedule: object) -> str:
    return (schedule.timezone or "UTC") if isinstance(schedule, CronSchedule | IntervalSchedule) else "UTC"


def cancel_outdated(due: Iterable[FlowRun]) -> Collection[UUID]:
    """Cancel waiting trainings whose corpus has a newer version waiting; returns those that were cancelled.

    Of those alone that a new version started: what a person starts for a version is their wish. A training under way
    goes on; of those that wait for it one is left, the newest.
    """
    deployments = {run.deployment_id for run in due if _version(run) and run.deployment_id is not None}
    cancelled: set[UUID] = set()
    if not deployments:
        return cancelled
    with get_client(sync_client=True) as client:
        for deployment in deployments:
            waiting = [run for run in _scheduled(client, [deployment], limit=PAGE_SIZE) if _version(run)]
            newest = max((_version(run) for run in waiting), default=0)
            for run in waiting:
                if _version(run) < newest:
                    text = f"version {newest} waits too, and is trained in its place"
                    set_state(client, run, Cancelled(message=text))
                    cancelled.add(run.id)
    return cancelled


def _version(run: FlowRun) -> int:
    """The version that a new version's training is for; 0 for any other run."""
    by = run.created_by
    if "model" not in run.parameters or by is None or by.type != _AUTOMATION:
        return 0
    number = str(run.parameters.get("corpus", "")).partition("@")[2]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def _scheduled(client: SyncPrefectClient, deployments: list[UUID], *, limit: int) -> list[FlowRun]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    found: list[Any] = client.read_flow_runs(  # Any: the client's own type is wider
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=deployments)),
        flow_run_filter=FlowRunFilter(state=states),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=limit,
    )
    return found
