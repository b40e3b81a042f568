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
from prefect.client.schemas.objects import FlowRun
from prefect.engine import handle_engine_signals
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.states import Failed

from stoker.flows import logs, signals
from stoker.flows.schedules.parameters import RunRefused, resolve, verify
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
            try:
                if name not in flows:
                    raise RunRefused(f"flow {name!r}: not of Stoker; expected {' or '.join(sorted(flows))}")
                schedule = _deployment(client, flow_run)
                verify(name, schedule, flow_run.parameters, own)
                parameters = resolve(name, schedule, flow_run.parameters, own)
            except StokerError as error:
                client.set_flow_run_state(identity, Failed(message=str(error)), force=True)
                logs.error(f"run {identity}: {error}")
                return
        # The state alone: a result that the API names would be loaded from wherever it says, and unpickled.
        flow: Flow[..., Any] = getattr(import_module(flows[name]), name)  # Any: whatever the flow takes
        run_flow(flow, flow_run=flow_run, parameters=parameters, return_type="state")


def _deployment(client: SyncPrefectClient, flow_run: FlowRun) -> str:
    """The name of a run's deployment; "" if it has none (any more)."""
    if flow_run.deployment_id is None:
        return ""
    try:
        return client.read_deployment(flow_run.deployment_id).name
    except ObjectNotFound:
        return ""
