"""Schedules as Prefect deployments that `stoker up` runs: a recipe at set times, a training on each new version.

A schedule that is made again is updated in place: its deployment keeps its identity, and with it its history, whether
it is paused, and the automations that the owner tied to it.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events import Automation, DeploymentEventTrigger
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Cancelling

from stoker.flows.report.format import visible
from stoker.flows.runs import PUBLISHED_EVENT
from stoker.flows.schedules import parameters as scheduling
from stoker.flows.schedules import record
from stoker.flows.schedules.overview import TAG
from stoker.flows.schedules.parameters import Retries
from stoker.flows.schedules.problems import POOL
from stoker.flows.schedules.record import Record
from stoker.flows.schedules.timetable import Timetable
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import suggestion
from stoker.storage.errors import NotFound, StokerError

POOL_TYPE = "stoker"  # that of ``worker.Worker``; a worker of type "process" would run the commands of deployments
POOL_TEMPLATE: dict[str, Any] = {  # Any: JSON values. There is nothing to choose, and no worker reads it
    "job_configuration": {"command": "chosen by Stoker"},
    "variables": {"type": "object", "properties": {}},
}
__all__ = ["PAGE_SIZE", "POOL", "POOL_TEMPLATE", "POOL_TYPE", "read_deployments"]
PAGE_SIZE = 200  # the most that the Prefect API returns
_TRIGGER = ": train on every new version of "  # in the name of an automation
_SLUG = "stoker"  # of our timetable in a deployment; the owner may add others in Prefect's page
_FIRST_RETRIES = 2  # of requests to a server that is busy, while it is asked whether it is there
_RETRIES = 5  # of those of a change: about a minute
_END_S = 15.0  # for runs under way, when their schedule is removed
_UNDER_WAY = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


class Notify(NamedTuple):
    """Who is told of the ends of runs: URLs (None: those that are kept), and whether of new versions too."""

    urls: tuple[str, ...] | None = None
    versions: bool = False


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule that was made or updated."""

    name: str
    paused: bool  # it was, and stays so


@contextmanager
def _connect(settings: Settings) -> Iterator[SyncPrefectClient]:
    """A client of the permanent Prefect server, the only one that runs schedules. Raises StokerError."""
    api = prefect_server.scheduling_api(settings)
    with (
        temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: _FIRST_RETRIES}),
        prefect_server.connected(settings),
        temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: _RETRIES}),
        get_client(sync_client=True) as client,
    ):
        try:
            yield client
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            text = f"the Prefect server answered HTTP {status} to {error.request.method} {error.request.url.path}"
            hint = "it is busy; try again" if status in (429, 503) else f"see {settings.home / 'logs' / 'prefect.log'}"
            raise StokerError(f"{api.url}: {text}; {hint}") from error
        except httpx.HTTPError as error:
            text = visible(str(error) or type(error).__name__, most=200)
            raise StokerError(f"{api.url}: the Prefect server does not answer ({text}); see `stoker up`") from error


def add_ingest(
    settings: Settings,
    path: Path,
    recipe: Recipe,
    timetable: Timetable,
    *,
    trusted: bool,
    retries: Retries,
    notify: Notify,
    refresh_older_s: int | None = None,
) -> Scheduled:
    """Schedule the ingest of a recipe's file, or update the schedule of its corpus.

    The file is read when a run starts. ``trusted``: its paths may leave its folder. ``refresh_older_s``: see
    ``parameters.for_ingest``.
    """
    name, nonce = recipe.corpus, secrets.token_hex(16)
    with _connect(settings) as client:
        parameters = scheduling.for_ingest(
            settings,
            path,
            recipe,
            when=str(timetable),
            trusted=trusted,
            retries=retries,
            nonce=nonce,
            refresh_older_s=refresh_older_s,
        )
        text = f"Ingests {recipe.corpus} ({parameters['source']}) by the recipe {path}, {timetable}"
        with _new_record(settings, name, nonce, notify):
            return _deploy(client, "ingest", name, parameters, text, timetable)


def add_training(
    settings: Settings, corpus: str, model: str, options: Mapping[str, str], *, retries: Retries, notify: Notify
) -> Scheduled:
    """Schedule a training whenever the corpus gets a new version, or update that schedule."""
    name, nonce = scheduling.training_name(corpus, model), secrets.token_hex(16)
    with _connect(settings) as client:
        parameters = scheduling.for_training(settings, corpus, model, options, retries=retries, nonce=nonce)
        with _new_record(settings, name, nonce, notify):
            text = f"Trains {model} on every new version of {corpus}"
            scheduled = _deploy(client, "train", name, parameters, text, None)
            _set_trigger(client, _deployment(client, name), corpus)
    return scheduled


@contextmanager
def _new_record(settings: Settings, name: str, nonce: str, notify: Notify) -> Iterator[None]:
    """Accept the new number too while Prefect is told of it, and it alone afterwards.

    If Prefect fails, all stay: which one its deployment has is not known.
    """
    with record.locked(settings.home):
        before = record.load(settings.home, name) or Record()
        record.save(settings.home, name, replace(before, nonces=(*before.nonces, nonce)))
        yield
        urls = before.notify if notify.urls is None else notify.urls
        kept = replace(before, nonces=(nonce,), notify=urls, notify_versions=notify.versions)
        record.save(settings.home, name, kept)


def _deploy(
    client: SyncPrefectClient,
    flow: str,
    name: str,
    parameters: dict[str, Any],  # Any: JSON values
    description: str,
    timetable: Timetable | None,
) -> Scheduled:
    """Make a deployment, or update the one that is there."""
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type=POOL_TYPE, base_job_template=POOL_TEMPLATE))
    flow_id = client.create_flow_from_name(flow)
    previous = read_deployments(client).get(name)
    if previous is not None and previous.flow_id != flow_id:
        raise RecipeError(f"{name} is another schedule already; `stoker schedule --remove {name}` ends that one")
    # A run that lasts longer than its interval: no second one starts beside it. A training waits for the one before.
    strategy = ConcurrencyLimitStrategy.CANCEL_NEW if flow == "ingest" else ConcurrencyLimitStrategy.ENQUEUE
    content: dict[str, Any] = {  # Any: fields of Prefect's deployments
        "work_pool_name": POOL,
        "parameters": parameters,
        "parameter_openapi_schema": scheduling.schema(parameters),
        "description": description,
        "enforce_parameter_schema": False,
        "concurrency_limit": 1,
        "concurrency_options": ConcurrencyOptions(collision_strategy=strategy),
    }
    schedule = None if timetable is None else _prefect_schedule(timetable)
    if previous is None:
        own = [] if schedule is None else [DeploymentScheduleCreate(schedule=schedule, active=True, slug=_SLUG)]
        client.create_deployment(flow_id=flow_id, name=name, schedules=own, tags=[TAG], **content)
        return Scheduled(name, paused=False)
    update = DeploymentUpdate.model_validate(content | {"tags": sorted({TAG, *previous.tags})})
    if schedule is not None:
        ours = [known for known in previous.schedules if known.slug in (_SLUG, None)]
        active = ours[0].active if ours else True  # it may be switched off in Prefect's page
        update.schedules = [DeploymentScheduleUpdate(schedule=schedule, slug=_SLUG, active=active)]
    client.update_deployment(previous.id, update)
    for run in _runs(client, previous.id, StateType.SCHEDULED):
        if run.run_count or not run.auto_scheduled:  # a timetable's others are made anew by Prefect
            chosen = {name: run.parameters[name] for name in ("corpus", "resume") if name in run.parameters}
            client.update_flow_run(run.id, parameters=parameters | (chosen if flow == "train" else {}))
    return Scheduled(name, paused=previous.paused)


def _set_trigger(client: SyncPrefectClient, deployment: DeploymentResponse, corpus: str) -> None:
    """Make the automation that starts a training, unless it is there: a second one would train twice.

    It names the deployment and the corpus, which do not change, and is paused as it was.
    """
    existing = _triggers(client, deployment)
    if not existing:
        trigger = DeploymentEventTrigger(
            name=f"{deployment.name}{_TRIGGER}{corpus}",
            enabled=not deployment.paused,
            expect={PUBLISHED_EVENT},
            match={"prefect.resource.id": f"stoker.corpus.{corpus}"},
            parameters={"corpus": "{{ event.payload.reference }}"},
        )
        trigger.set_deployment_id(deployment.id)
        client.create_automation(trigger.as_automation())
    for automation in existing[1:]:
        client.delete_automation(automation.id)


def _triggers(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[Automation]:
    """Our automations of a training; the owner may have others that name its deployment."""
    start = f"{deployment.name}{_TRIGGER}"
    related = client.read_resource_related_automations(_resource(deployment))
    return [automation for automation in related if automation.name.startswith(start)]


def read_deployments(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """All deployments of Stoker, by name."""
    deployments: dict[str, DeploymentResponse] = {}
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    while page := client.read_deployments(deployment_filter=tagged, limit=PAGE_SIZE, offset=len(deployments)):
        deployments.update({deployment.name: deployment for deployment in page})
    return deployments


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """The deployment of a name. Raises NotFound."""
    deployments = read_deployments(client)
    if name not in deployments:
        known = suggestion(name, sorted(deployments)) if deployments else "nothing is scheduled"
        raise NotFound(f"no schedule is called {name!r}; {known}")
    return deployments[name]


def _resource(deployment: DeploymentResponse) -> str:
    return f"prefect.deployment.{deployment.id}"


def _runs(client: SyncPrefectClient, deployment: UUID, *states: StateType) -> list[FlowRun]:
    """The newest runs of a deployment in these states."""
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))),
        limit=PAGE_SIZE,
    )


def _prefect_schedule(timetable: Timetable) -> CronSchedule | IntervalSchedule:
    if timetable.cron:
        return CronSchedule(cron=timetable.cron, timezone=timetable.timezone)
    return IntervalSchedule(interval=timedelta(seconds=timetable.interval_s), timezone=timetable.timezone)


def pause(settings: Settings, name: str, *, paused: bool) -> None:
    """Pause or resume a schedule; a run that has started continues. Raises NotFound."""
    with _connect(settings) as client:
        _pause(client, _deployment(client, name), paused=paused)


def _pause(client: SyncPrefectClient, deployment: DeploymentResponse, *, paused: bool) -> None:
    (client.pause_deployment if paused else client.resume_deployment)(deployment.id)
    for trigger in _triggers(client, deployment):
        # Pausing a deployment stops its timetable only; an event trigger is paused by itself.
        (client.pause_automation if paused else client.resume_automation)(trigger.id)


def remove(settings: Settings, name: str) -> int:
    """Remove a schedule and its event trigger, after its runs under way were ended; published versions stay.

    Returns how many runs were ended: they finish what must not be cut, and Prefect shows them as cancelled. Raises
    NotFound.
    """
    with _connect(settings) as client:
        try:
            deployment = _deployment(client, name)
        except NotFound:
            if name not in record.names(settings.home):
                raise
            with record.locked(settings.home):  # Prefect's database was lost: only the home knows it
                record.remove(settings.home, name)
            return 0
        _pause(client, deployment, paused=True)
        ended = _end_runs(client, deployment)
        client.delete_resource_owned_automations(_resource(deployment))
        with record.locked(settings.home):
            client.delete_deployment(deployment.id)
            record.remove(settings.home, name)
    return ended


def _end_runs(client: SyncPrefectClient, deployment: DeploymentResponse) -> int:
    """Ask the runs of a deployment to end, wait for that, and mark those as cancelled that no process answers for.

    It comes before the deployment is removed: Prefect 3.8 cannot change a run's state whose deployment is gone.
    """
    runs = _runs(client, deployment.id, *_UNDER_WAY)
    waiting = _runs(client, deployment.id, StateType.SCHEDULED)
    for run in [*runs, *waiting]:
        begun = run.state_type in _UNDER_WAY
        set_state(client, run, Cancelling() if begun else Cancelled(message="its schedule was removed"))
    deadline = time.monotonic() + _END_S
    while (alive := _runs(client, deployment.id, *_UNDER_WAY)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for run in alive:
        set_state(client, run, Cancelled(message="its schedule was removed, and it did not end in time"))
    return len(runs)


def set_state(client: SyncPrefectClient, run: FlowRun, state: Any) -> None:  # Any: a state has no result
    """Set the state of a run, if it is there: a timetable's planned runs go when it is paused."""
    with suppress(ObjectNotFound):
        client.set_flow_run_state(run.id, state, force=True)
