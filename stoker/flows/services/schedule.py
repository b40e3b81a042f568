"""Schedules, as Prefect deployments that `stoker up` runs: a recipe at set times, a training on each new version."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectAlreadyExists

from stoker.flows import running
from stoker.flows.runs import PUBLISHED_EVENT
from stoker.flows.schedules import seal
from stoker.flows.schedules.timetable import Timetable
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import suggestion
from stoker.storage.errors import NotFound, StokerError

POOL = "stoker"  # the work pool that `stoker up` serves
POOL_TYPE = "stoker"  # that of ``worker.Worker``; a worker of type "process" would run the commands of deployments
POOL_TEMPLATE: dict[str, Any] = {  # Any: JSON values. There is nothing to choose, and no worker reads it
    "job_configuration": {"command": "chosen by Stoker"},
    "variables": {"type": "object", "properties": {}},
}
TAG = "stoker"
PAGE_SIZE = 200  # the most that the Prefect API returns


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A row of `stoker schedule --list`."""

    name: str
    flow: str  # "ingest" or "train"
    when: str
    paused: bool
    next_run: str  # ISO 8601, UTC; "" if none is planned
    last_run: str  # the state of the last run and when; "" before the first


@contextmanager
def _connect(settings: Settings) -> Iterator[SyncPrefectClient]:
    """A client of the permanent Prefect server, the only one that runs schedules. Raises StokerError."""
    if prefect_server.known_api(settings) is None:
        raise StokerError(
            f"`stoker up` is not running ({settings.home}), and it is what runs schedules; start it first"
        )
    with prefect_server.connected(settings), get_client(sync_client=True) as client:
        yield client


def add_ingest(settings: Settings, recipe: Recipe, timetable: Timetable, *, trusted: bool = False) -> str:
    """Schedule the ingest of a recipe, replacing an earlier schedule of its corpus. Returns the schedule's name.

    The deployment holds a copy of the recipe: to schedule an edited file, schedule it again. It also holds whether the
    recipe is ``trusted``, so that its paths may leave its folder.
    """
    with _connect(settings) as client:
        parameters = ingest_parameters(settings, recipe, trusted=trusted)
        description = f"Ingests {recipe.corpus}: {timetable}"
        schedules = [DeploymentScheduleCreate(schedule=_prefect_schedule(timetable), active=True)]
        _deploy(client, "ingest", recipe.corpus, parameters, description, schedules)
    return recipe.corpus


def add_training(settings: Settings, corpus: str, model: str, options: Mapping[str, Any]) -> str:  # Any: JSON values
    """Schedule a training whenever the corpus gets a new version. Returns the schedule's name."""
    name = f"{corpus}-{model}"
    with _connect(settings) as client:
        parameters = training_parameters(settings, name, corpus, model, options)
        description = f"Trains {model} on every new version of {corpus}"
        deployment = _deploy(client, "train", name, parameters, description, [])
        trigger = DeploymentEventTrigger(
            name=f"{name}: train on every new version of {corpus}",
            expect={PUBLISHED_EVENT},
            match={"prefect.resource.id": f"stoker.corpus.{corpus}"},
            parameters={"corpus": "{{ event.payload.reference }}"},
        )
        trigger.set_deployment_id(deployment)
        client.create_automation(trigger.as_automation())
    return name


def ingest_parameters(settings: Settings, recipe: Recipe, *, trusted: bool) -> dict[str, Any]:  # Any: JSON values
    """The sealed parameters of a recipe's schedule. Raises StokerError when the home has no key."""
    parameters = {
        "recipe": _to_json(recipe.document),
        "root": str(recipe.root),
        "settings": settings.to_json(),
        "trusted": trusted,
    }
    return _sealed(settings, "ingest", recipe.corpus, parameters)


def training_parameters(
    settings: Settings, name: str, corpus: str, model: str, options: Mapping[str, Any]
) -> dict[str, Any]:  # Any: JSON values, as above
    """The sealed parameters of a training's schedule ``name``. Raises StokerError when the home has no key."""
    parameters = {"model": model, "corpus": corpus, "options": dict(options), "settings": settings.to_json()}
    return _sealed(settings, "train", name, parameters)


def _sealed(settings: Settings, flow: str, name: str, parameters: dict[str, Any]) -> dict[str, Any]:  # Any: as above
    return parameters | {seal.SEAL: seal.make(running.schedule_key(settings.home), flow, name, parameters)}


def _to_json(document: Mapping[str, Any]) -> dict[str, Any]:  # Any: TOML in, JSON out
    return dict(json.loads(json.dumps(document, default=str)))


def _deploy(
    client: SyncPrefectClient,
    flow: str,
    name: str,
    parameters: dict[str, Any],  # Any: JSON values
    description: str,
    schedules: list[DeploymentScheduleCreate],
) -> Any:  # Any: a UUID
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type=POOL_TYPE, base_job_template=POOL_TEMPLATE))
    previous = read_deployments(client).get(name)
    if previous is not None:
        _delete(client, previous)
    return client.create_deployment(
        flow_id=client.create_flow_from_name(flow),
        name=name,
        work_pool_name=POOL,
        schedules=schedules,
        parameters=parameters,
        description=description,
        tags=[TAG],
        enforce_parameter_schema=False,
        concurrency_limit=1,  # a run that lasts longer than its interval: no second one starts beside it
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )


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


def _delete(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    client.delete_resource_owned_automations(_resource(deployment))
    client.delete_deployment(deployment.id)


def _resource(deployment: DeploymentResponse) -> str:
    return f"prefect.deployment.{deployment.id}"


def list_schedules(settings: Settings) -> list[ScheduleRow]:
    """All schedules, in the order of their names."""
    with _connect(settings) as client:
        flows = {flow.id: flow.name for flow in client.read_flows(limit=PAGE_SIZE)}
        return [_row(client, deployment, flows) for _, deployment in sorted(read_deployments(client).items())]


def _row(client: SyncPrefectClient, deployment: DeploymentResponse, flows: Mapping[UUID, str]) -> ScheduleRow:
    this_deployment = DeploymentFilter.model_validate({"id": {"any_": [deployment.id]}})
    now = datetime.now(UTC)
    runs = client.read_flow_runs(deployment_filter=this_deployment, limit=PAGE_SIZE)
    planned = [run.expected_start_time for run in runs if run.state_type == StateType.SCHEDULED]
    past = [run for run in runs if run.start_time is not None or run.end_time is not None]
    past.sort(key=lambda run: run.start_time or run.end_time or now)
    last = f"{past[-1].state_name} {past[-1].start_time:%Y-%m-%d %H:%M:%S}" if past and past[-1].start_time else ""
    times = [moment for moment in planned if moment is not None]
    active = not deployment.paused
    return ScheduleRow(
        name=deployment.name,
        flow=flows[deployment.flow_id],
        when=_when(deployment),
        paused=deployment.paused,
        next_run=min(times).astimezone(UTC).isoformat(timespec="seconds") if times and active else "",
        last_run=last,
    )


def _when(deployment: DeploymentResponse) -> str:
    if not deployment.schedules:
        return "on every new version"
    schedule = deployment.schedules[0].schedule
    if isinstance(schedule, CronSchedule):
        return str(Timetable(cron=schedule.cron, timezone=schedule.timezone or "UTC"))
    if isinstance(schedule, IntervalSchedule):
        return str(Timetable(interval_s=schedule.interval.total_seconds()))
    return str(schedule)


def _prefect_schedule(timetable: Timetable) -> CronSchedule | IntervalSchedule:
    if timetable.cron:
        return CronSchedule(cron=timetable.cron, timezone=timetable.timezone)
    return IntervalSchedule(interval=timedelta(seconds=timetable.interval_s), timezone=timetable.timezone)


def pause(settings: Settings, name: str, *, paused: bool) -> None:
    """Pause or resume a schedule; a run that has started continues. Raises NotFound."""
    with _connect(settings) as client:
        deployment = _deployment(client, name)
        (client.pause_deployment if paused else client.resume_deployment)(deployment.id)
        for trigger in client.read_resource_related_automations(_resource(deployment)):
            # Pausing a deployment stops its timetable only; an event trigger is paused by itself.
            (client.pause_automation if paused else client.resume_automation)(trigger.id)


def remove(settings: Settings, name: str) -> None:
    """Remove a schedule and its event trigger; published versions stay. Raises NotFound."""
    with _connect(settings) as client:
        _delete(client, _deployment(client, name))
