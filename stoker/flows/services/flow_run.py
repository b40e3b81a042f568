"""The process of a scheduled run: finds the flow by its name, checks the parameters, runs it.

Whoever can write to the Prefect server chooses a run's parameters, so they are checked here: see ``parameters``. Where
the run takes place is what `stoker up` says (home, Prefect server, addresses of clusters, which run code).
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect._internal.control_listener import configure_from_env
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.engine import handle_engine_signals
from prefect.flow_engine import run_flow
from prefect.states import Failed

from stoker.flows import logs, signals
from stoker.flows.report.format import visible
from stoker.flows.runs import INCOMPLETE
from stoker.flows.schedules.parameters import RunRefused, resolve, verify
from stoker.flows.services import outcome
from stoker.flows.services.outcome import schedule_name
from stoker.flows.settings import Settings, inherited
from stoker.storage.errors import StokerError


def main(own: Settings, flows: Mapping[str, str]) -> None:
    """Run the flow run that the worker named.

    ``own`` are the settings of `stoker up`; ``flows`` says which flows may run: the module of each, by its name.
    """
    identity = UUID(inherited()["PREFECT__FLOW_RUN_ID"])
    configure_from_env()  # a cancellation in Prefect's UI comes by a channel of the worker
    signals.set_until_exit()
    with handle_engine_signals(identity):
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(identity)
            name = client.read_flow(flow_run.flow_id).name
            schedule = schedule_name(client, flow_run.deployment_id)
            try:
                if name not in flows:
                    raise RunRefused(f"flow {name!r}: not of Stoker; expected {' or '.join(sorted(flows))}")
                verify(name, schedule, flow_run.parameters, own)
                parameters = resolve(name, schedule, flow_run.parameters, own)
            except StokerError as error:
                _end(client, flow_run, schedule, own, error)
                return
        # The state alone: a result that the API names would be loaded from wherever it says, and unpickled.
        flow: Flow[..., Any] = getattr(import_module(flows[name]), name)  # Any: whatever the flow takes
        flow = flow.with_options(flow_run_name=lambda: flow_run.name)  # the scheduler gave it one
        state = run_flow(flow, flow_run=flow_run, parameters=parameters, return_type="state")
        assert isinstance(state, State)
        if state.name == INCOMPLETE:  # as the command, which exits with 1
            outcome.failed(own, schedule, flow_run.name, visible(state.message or ""))
        elif state.is_completed():
            outcome.succeeded(own, schedule, flow_run.name, state.result())
        elif state.is_failed():
            with get_client(sync_client=True) as client:
                _follow_up(client, flow_run, schedule, own, state.result(raise_on_failure=False))


def _end(client: SyncPrefectClient, flow_run: FlowRun, schedule: str, own: Settings, error: StokerError) -> None:
    """Let a run fail that cannot begin."""
    reason = visible(str(error))
    client.set_flow_run_state(flow_run.id, Failed(message=reason), force=True)
    logs.error(f"run {flow_run.id}: {reason}")
    _follow_up(client, flow_run, schedule, own, error)


def _follow_up(
    client: SyncPrefectClient, flow_run: FlowRun, schedule: str, own: Settings, error: BaseException
) -> None:
    reason = visible(f"{error}" if isinstance(error, StokerError) else f"{type(error).__name__}: {error}", most=2000)
    if not (outcome.may_pass(error) and outcome.retry_later(client, flow_run, reason)):
        outcome.failed(own, schedule, flow_run.name, reason)
