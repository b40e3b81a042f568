"""The worker of `stoker up`: starts the runs of its work pool, each as a process with a command of our own.

A worker of Prefect's starts what the API says: commands, pull steps, entrypoints, working directories, environments,
from the deployment, the run, the pool's template or an automation. This one takes the run's id from the API and nothing
else. The process that it starts looks the flow up by its name and checks the parameters: see ``flow_run``.

It builds on private modules of Prefect, 3.8 alone, as others may change them; tests attack it and cancel its runs.
"""

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

import anyio
import anyio.abc
import httpx
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.states import Cancelled, Crashed, Scheduled
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from stoker.flows.runs import INTERRUPTED, RETRYING, crash_task_runs, resume_interrupted
from stoker.flows.schedules import environment
from stoker.flows.schedules.parameters import is_of_home
from stoker.flows.services import naming, outcome
from stoker.flows.services.schedule import PAGE_SIZE, POOL, POOL_TEMPLATE, POOL_TYPE, read_deployments
from stoker.flows.settings import Settings

_NAMING_S = 20.0  # between looks for planned runs without a name
_STALE = "ended with `stoker up`"
_WAITING = (RETRYING, "AwaitingConcurrencySlot")
_BUSY_WAIT_S = 5.0  # before a Prefect server that was too busy is asked again; its client has tried for a while by then
_log = logging.getLogger(__name__)
_END_S = 4.5  # for the runs under way, after SIGTERM: they take 4 s at most, and the supervisor waits for 5


class Configuration(BaseJobConfiguration):
    """What a run is started with: nothing of it comes from the API."""

    @classmethod
    async def from_template_and_values(
        cls,
        base_job_template: dict[str, Any],  # Any: JSON values, not looked at
        values: dict[str, Any],  # Any: as above
        client: PrefectClient | None = None,
    ) -> Self:
        """The configuration, whatever a template, a deployment or a run says."""
        return cls()


class Result(BaseWorkerResult):
    """How a run's process ended."""


class _NoHooks:
    """Our flows have no hooks. Prefect's own runner of hooks would load the flow from where the API says."""

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State[Any]) -> None:  # Any: of any flow
        pass

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State[Any]) -> None:  # Any: of any flow
        pass


class Worker(BaseWorker[Configuration, BaseVariables, Result]):
    """Runs due flow runs until it is cancelled; ``end_runs`` ends those that are under way."""

    type = POOL_TYPE
    job_configuration = Configuration
    _display_name = "Stoker"
    _description = "Runs what `stoker schedule` scheduled. It takes no commands and no job variables."

    def __init__(self, settings: Settings) -> None:
        super().__init__(work_pool_name=POOL, name="stoker up", prefetch_seconds=2)
        # -P: the working directory, which may hold files of others, is not searched for modules.
        command = [sys.executable, "-P", "-m", "stoker.flows.services.child"]
        self._command = shlex.join([*command, "flow-run", "0", json.dumps(settings.to_json())])
        self._settings = settings
        self._named_at = -_NAMING_S
        self._ending = False
        self._processes: set[int] = set()

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:  # Any: JSON values
        """The template of a new work pool: Prefect's UI then offers no job variables."""
        return POOL_TEMPLATE

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Start the due runs, unless this worker is ending."""
        if self._ending:
            return []
        if time.monotonic() - self._named_at > _NAMING_S:
            self._named_at = time.monotonic()
            await anyio.to_thread.run_sync(naming.name_planned_runs)
        return await super().get_and_submit_flow_runs()

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
        """Start the due runs, but for trainings of a version that has a newer one waiting."""
        due = [entry.flow_run for entry in flow_run_response if entry.flow_run.id not in self._submitting_flow_run_ids]
        outdated = await anyio.to_thread.run_sync(naming.cancel_outdated, due)
        await anyio.to_thread.run_sync(naming.prepare_runs, [run for run in due if run.id not in outdated])
        kept = [entry for entry in flow_run_response if entry.flow_run.id not in outdated]
        return await super()._submit_scheduled_flow_runs(kept)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Configuration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> Result:
        """Run a flow run in a process of its own; waits for its end."""
        ended: list[FlowRunExecutionResult | None] = []
        with tempfile.TemporaryDirectory(prefix="stoker-run-") as folder:
            async with FlowRunExecutorContext() as context:
                starter = EngineCommandStarter(
                    command=self._command, cwd=folder, control_channel=context.control_channel
                )
                executor = context.create_executor(flow_run, starter, propose_submitting=False, hook_runner=_NoHooks())

                async def execute(*, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
                    ended.append(await executor.submit(task_status=task_status))

                async with anyio.create_task_group() as group:
                    handle = await group.start(execute)
                    self._processes.add(handle.pid)
                    if task_status is not None:
                        task_status.started(handle.pid)
        code = ended[0].status_code if ended and ended[0] is not None else 0
        try:
            if code and await anyio.to_thread.run_sync(_after_crash, self._settings, flow_run.id, code, self._ending):
                return Result(status_code=0, identifier=str(handle.pid))  # else Prefect's worker sets it to Crashed
        finally:
            self._processes.discard(handle.pid)  # `end_runs` waits for the state, too
        if not ended or ended[0] is None or ended[0].status_code is None:
            raise RuntimeError("the run's process did not start")
        return Result(status_code=ended[0].status_code, identifier=str(handle.pid))

    async def end_runs(self, *, timeout_s: float) -> None:
        """Start no more runs, ask those under way to end by SIGTERM, and wait for them up to the timeout."""
        self._ending = True
        for pid in list(self._processes):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self._processes and time.monotonic() < deadline:
            await anyio.sleep(0.1)


def serve(settings: Settings) -> None:
    """Run due deployments until SIGTERM; `stoker up` runs this in a process of its own."""
    environment.record(settings)
    while not is_prepared(settings):
        time.sleep(_BUSY_WAIT_S)
    asyncio.run(_run_worker(settings))


def is_prepared(settings: Settings) -> bool:
    """End what an earlier scheduler left, and make the pool; false if the Prefect server is too busy to be told.

    A scheduler that ended for that would be started again a few times, and then stay down.
    """
    try:
        with get_client(sync_client=True) as client:
            _clear_stale_runs(client, settings)
            resume_interrupted(POOL)
            _prepare_pool(client)
    except httpx.HTTPError as error:
        status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 503
        if status < 500 and status != 429:
            raise
        _log.warning("the Prefect server is busy (%s); asking again", type(error).__name__)
        return False
    return True


async def _run_worker(settings: Settings) -> None:
    worker = Worker(settings)
    task, stop = asyncio.create_task(worker.start()), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        await worker.end_runs(timeout_s=_END_S)
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _prepare_pool(client: SyncPrefectClient) -> None:
    """Make the work pool. One of type "process", of an earlier version, is replaced; its deployments are kept.

    A pool's type cannot be changed. Deployments lose their pool when it is deleted and get the new one, also after a
    start that was killed in between; schedules and history are theirs and stay.
    """
    new = WorkPoolCreate(name=POOL, type=POOL_TYPE, base_job_template=POOL_TEMPLATE)
    waiting: list[FlowRun] = []
    try:
        old = client.read_work_pool(POOL)
    except ObjectNotFound:
        with suppress(ObjectAlreadyExists):  # `stoker schedule` may make it at the same time
            client.create_work_pool(new)
    else:
        if old.type != POOL_TYPE:
            kept = {"description": old.description, "is_paused": old.is_paused}
            new = new.model_copy(update=kept | {"concurrency_limit": old.concurrency_limit})
            waiting = [run for run in _runs(client, StateType.SCHEDULED) if not run.auto_scheduled or _is_due(run)]
            client.delete_work_pool(POOL)
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(new)
    for deployment in read_deployments(client).values():
        if deployment.work_pool_name is None:
            client.update_deployment(deployment.id, DeploymentUpdate(work_pool_name=POOL))
    for run in waiting:  # a run stays in the pool that it was made for: make it again; a timetable's come by themselves
        _end_run(client, run, Cancelled(message="made again for this version of Stoker"))
        if run.deployment_id is not None:
            client.create_flow_run_from_deployment(
                run.deployment_id, parameters=run.parameters, state=Scheduled(scheduled_time=run.expected_start_time)
            )


def _after_crash(settings: Settings, run_id: UUID, code: int, ending: bool) -> bool:
    """After the process of a run ended badly: bury its tasks; try the run again (true) or tell the owner.

    ``ending``: the scheduler ends it; a run that could not say so, as it had not begun, is resumed by the next one.
    """
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        run = client.read_flow_run(run_id)
        if run.state is not None and run.state.is_final() and not run.state.is_crashed():
            return ending  # it had told its end, and its process was still on the way out
        if ending and code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            text = "ended before it began; the next `stoker up` resumes it"
            client.set_flow_run_state(run_id, Cancelled(name=INTERRUPTED, message=text), force=True)
            return True
        if run.state is not None and run.state.is_crashed():
            reason = f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
            return _follow_crash(client, settings, run, reason)
    return False


def _follow_crash(
    client: SyncPrefectClient, settings: Settings, run: FlowRun, reason: str, *, at_once: bool = False
) -> bool:
    with suppress(httpx.HTTPStatusError, ObjectNotFound):  # as in _end_run
        crash_task_runs(client, run.id)
    retried = outcome.retry_later(client, run, reason, at_once=at_once)
    if not retried:
        outcome.failed(settings, outcome.schedule_name(client, run.deployment_id), run.name, reason)
    return retried


def _clear_stale_runs(client: SyncPrefectClient, settings: Settings) -> None:
    """End stale runs of an earlier `stoker up`: those it was running, and all but the last of those missed since.

    On a server that several homes share, those of the others are left alone: they may be alive.
    """
    for run in _runs(client, StateType.RUNNING, StateType.PENDING, StateType.CANCELLING):
        name = outcome.schedule_name(client, run.deployment_id)
        if settings.prefect_url and not is_of_home(settings, name, run.parameters):
            continue
        cancelling = run.state_type == StateType.CANCELLING
        _end_run(client, run, Cancelled() if cancelling else Crashed(message=_STALE))
        if not cancelling:
            _follow_crash(client, settings, run, _STALE, at_once=True)
    missed: dict[object, list[FlowRun]] = {}
    for run in _runs(client, StateType.SCHEDULED, before=datetime.now(UTC)):
        if run.state_name in _WAITING:
            continue  # not missed: a retry, or a training that waits for the one before
        missed.setdefault(run.deployment_id, []).append(run)
    for runs in missed.values():
        runs.sort(key=lambda run: run.expected_start_time or datetime.now(UTC))
        for run in runs[:-1]:
            _end_run(client, run, Cancelled(message="missed: `stoker up` was not running"))


def _end_run(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:  # Any: as above
    """Set a final state, if Prefect can: no run may keep the scheduler from starting.

    Prefect 3.8 answers 500 for a run whose deployment was removed while it ran, as the limit that it counted in is
    gone: such a run is removed, too.
    """
    try:
        client.set_flow_run_state(run.id, state, force=True)
    except httpx.HTTPStatusError:
        with suppress(httpx.HTTPStatusError):
            try:
                if run.deployment_id is not None:
                    client.read_deployment(run.deployment_id)
            except ObjectNotFound:
                client.delete_flow_run(run.id)


def _is_due(run: FlowRun) -> bool:
    return run.expected_start_time is not None and run.expected_start_time < datetime.now(UTC)


def _runs(client: SyncPrefectClient, *states: StateType, before: datetime | None = None) -> list[FlowRun]:
    """The runs of our deployments in these states; with ``before`` those that were due until then."""
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
    if before is not None:
        chosen.expected_start_time = FlowRunFilterExpectedStartTime.model_validate({"before_": before})
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    runs: dict[UUID, FlowRun] = {}  # the server may add some between two pages, and a run then comes twice
    offset = 0
    while page := client.read_flow_runs(work_pool_filter=pool, flow_run_filter=chosen, limit=PAGE_SIZE, offset=offset):
        runs |= {run.id: run for run in page}
        offset += len(page)
    return list(runs.values())
