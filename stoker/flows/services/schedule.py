"""Deployments: recipes that are ingested at their times, and training that follows a corpus, run by `stoker up`."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled, Crashed

from stoker.flows.runs import PUBLISHED
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.registry import suggestion
from stoker.storage.errors import NotFound, StokerError

POOL = "stoker"  # the work pool that `stoker up` serves
TAG = "stoker"
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_INTERVAL_S = 366 * 86400
_PAGE = 200  # what the Prefect API returns at most


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A deployment as a person sees it."""

    name: str
    runs: str  # the flow, "ingest" or "train"
    when: str
    paused: bool
    next_run: str  # ISO 8601, UTC; "" if none is planned
    last_run: str  # the state of the last run and when; "" before the first


def interval_of(text: str) -> timedelta:
    """A time span. Raises RecipeError.

    >>> interval_of("90s"), interval_of("6h")
    (datetime.timedelta(seconds=90), datetime.timedelta(seconds=21600))
    """
    match = _INTERVAL.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2]] if match else 0
    if not 1 <= seconds <= _MAX_INTERVAL_S:
        raise RecipeError(f"interval {text!r}: expected 1s to 366d, for example 90s, 15m, 6h, 1d")
    return timedelta(seconds=seconds)


def timetable(*, cron: str = "", interval: str = "", timezone: str = "UTC") -> CronSchedule | IntervalSchedule:
    """When runs start, by a cron line in a time zone or at a fixed interval. Raises RecipeError."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        raise RecipeError(f"timezone {timezone!r}: unknown; expected a name such as Europe/Berlin") from None
    if interval:
        return IntervalSchedule(interval=interval_of(interval), timezone=timezone)
    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValueError:
        raise RecipeError(
            f"cron {cron!r}: expected five fields (minute hour day month weekday), for example '0 3 * * *'"
        ) from None


@contextmanager
def server(settings: Settings) -> Iterator[SyncPrefectClient]:
    """A client of the server that stays up: a temporary one would forget to run anything. Raises StokerError."""
    if prefect_server.known_url(settings) is None:
        raise StokerError(
            f"`stoker up` is not running ({settings.home}), and it is what runs schedules; start it first"
        )
    with prefect_server.connected(settings), get_client(sync_client=True) as client:
        yield client


def add_ingest(settings: Settings, recipe: Recipe, when: CronSchedule | IntervalSchedule) -> str:
    """Ingest the recipe at its times, in place of an earlier schedule of this corpus; the deployment's name.

    The recipe as it is now is kept in the deployment: a later edit of the file is scheduled by scheduling it again.
    """
    parameters = {"recipe": _plain(recipe.document), "root": str(recipe.root), "settings": settings.to_json()}
    with server(settings) as client:
        times = [DeploymentScheduleCreate(schedule=when, active=True)]
        _deploy(client, "ingest", recipe.corpus, parameters, f"Ingests {recipe.corpus}: {words(when)}", times)
    return recipe.corpus


def add_training(settings: Settings, corpus: str, model: str, options: Mapping[str, Any]) -> str:  # Any: JSON values
    """Train the model whenever the corpus gets a new version; the deployment's name."""
    name = f"{corpus}-{model}"
    parameters = {"model": model, "corpus": corpus, "options": dict(options), "settings": settings.to_json()}
    with server(settings) as client:
        told = f"Trains {model} on every new version of {corpus}"
        deployment = _deploy(client, "train", name, parameters, told, [])
        trigger = DeploymentEventTrigger(
            name=f"{name}: train on every new version of {corpus}",
            expect={PUBLISHED},
            match={"prefect.resource.id": f"stoker.corpus.{corpus}"},
            parameters={"corpus": "{{ event.payload.reference }}"},
        )
        trigger.set_deployment_id(deployment)
        client.create_automation(trigger.as_automation())
    return name


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:  # Any: TOML in, JSON out
    return dict(json.loads(json.dumps(document, default=str)))


def _deploy(
    client: SyncPrefectClient,
    flow: str,
    name: str,
    parameters: dict[str, Any],  # Any: JSON values
    description: str,
    schedules: list[DeploymentScheduleCreate],
) -> Any:  # Any: a UUID
    from prefect.client.schemas.actions import WorkPoolCreate

    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    old = _find(client).get(name)
    if old is not None:
        _delete(client, old)
    return client.create_deployment(
        flow_id=client.create_flow_from_name(flow),
        name=name,
        entrypoint=f"stoker.flows.{flow}.{flow}",
        work_pool_name=POOL,
        schedules=schedules,
        parameters=parameters,
        description=description,
        tags=[TAG],
        enforce_parameter_schema=False,
        concurrency_limit=1,  # a run that lasts longer than its interval is not joined by a second one
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
    )


def _find(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    found: dict[str, DeploymentResponse] = {}
    chosen = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    while page := client.read_deployments(deployment_filter=chosen, limit=_PAGE, offset=len(found)):
        found.update({one.name: one for one in page})
    return found


def _named(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    found = _find(client)
    if name not in found:
        known = suggestion(name, sorted(found)) if found else "nothing is scheduled"
        raise NotFound(f"no schedule is called {name!r}; {known}")
    return found[name]


def _delete(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    client.delete_resource_owned_automations(_resource(deployment))
    client.delete_deployment(deployment.id)


def _resource(deployment: DeploymentResponse) -> str:
    return f"prefect.deployment.{deployment.id}"


def scheduled(settings: Settings) -> list[Scheduled]:
    """All deployments, by name."""
    with server(settings) as client:
        flows = {flow.id: flow.name for flow in client.read_flows(limit=_PAGE)}
        return [_shown(client, one, flows[one.flow_id]) for _, one in sorted(_find(client).items())]


def _shown(client: SyncPrefectClient, one: DeploymentResponse, flow: str) -> Scheduled:
    chosen = DeploymentFilter.model_validate({"id": {"any_": [one.id]}})
    now = datetime.now(UTC)
    runs = client.read_flow_runs(deployment_filter=chosen, limit=_PAGE)
    coming = [run.expected_start_time for run in runs if run.state_type == StateType.SCHEDULED]
    past = [run for run in runs if run.start_time is not None or run.end_time is not None]
    past.sort(key=lambda run: run.start_time or run.end_time or now)
    last = f"{past[-1].state_name} {past[-1].start_time:%Y-%m-%d %H:%M:%S}" if past and past[-1].start_time else ""
    times = [moment for moment in coming if moment is not None]
    return Scheduled(
        name=one.name,
        runs=flow,
        when=_when(one),
        paused=one.paused,
        next_run=min(times).astimezone(UTC).isoformat(timespec="seconds") if times and not one.paused else "",
        last_run=last,
    )


def _when(one: DeploymentResponse) -> str:
    if not one.schedules:
        return "on every new version"
    return words(one.schedules[0].schedule)


def words(when: object) -> str:
    """A timetable for people."""
    if isinstance(when, CronSchedule):
        return f"{when.cron} ({when.timezone or 'UTC'})"
    if not isinstance(when, IntervalSchedule):
        return str(when)
    seconds = when.interval.total_seconds()
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNIT_S[unit] == 0 or unit == "s")
    return f"every {seconds / _UNIT_S[unit]:g} {unit}"


def pause(settings: Settings, name: str, *, paused: bool) -> None:
    """Stop starting runs of a deployment, or start them again; a run under way goes on. Raises NotFound."""
    with server(settings) as client:
        deployment = _named(client, name)
        (client.pause_deployment if paused else client.resume_deployment)(deployment.id)
        for trigger in client.read_resource_related_automations(_resource(deployment)):
            # The switch of a deployment is for its times alone; what an event starts has one of its own.
            (client.pause_automation if paused else client.resume_automation)(trigger.id)


def remove(settings: Settings, name: str) -> None:
    """Forget a deployment and its trigger; what it published stays. Raises NotFound."""
    with server(settings) as client:
        _delete(client, _named(client, name))


def serve() -> None:
    """Run what is due, until SIGTERM: the process that `stoker up` starts for schedules."""
    with get_client(sync_client=True) as client:
        _clear(client)
    asyncio.run(_work())


async def _work() -> None:
    from prefect.workers.process import ProcessWorker

    worker = ProcessWorker(work_pool_name=POOL, name="stoker up", prefetch_seconds=2)
    task = asyncio.ensure_future(worker.start())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


def _clear(client: SyncPrefectClient) -> None:
    """Tidy after the last `stoker up`: runs that died with it, and all but the last of the runs missed since."""
    for run in _runs(client, StateType.RUNNING, StateType.PENDING, StateType.CANCELLING):
        client.set_flow_run_state(run.id, Crashed(message="ended with `stoker up`"), force=True)
    missed: dict[object, list[FlowRun]] = {}
    for run in _runs(client, StateType.SCHEDULED):
        if run.expected_start_time is not None and run.expected_start_time < datetime.now(UTC):
            missed.setdefault(run.deployment_id, []).append(run)
    for runs in missed.values():
        runs.sort(key=lambda run: run.expected_start_time or datetime.now(UTC))
        for run in runs[:-1]:
            client.set_flow_run_state(run.id, Cancelled(message="missed: `stoker up` was not running"), force=True)


def _runs(client: SyncPrefectClient, *states: StateType) -> list[FlowRun]:
    """The runs of our deployments in these states, the first page of them."""
    return client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))),
        limit=_PAGE,
    )
