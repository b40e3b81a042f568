"""The process of a scheduled run: finds the flow by its name, checks the parameters, runs it.

Whoever can write to the Prefect server chooses a run's parameters, so they are checked here: types, no unknown names,
the seal by which `stoker schedule` made them for this deployment (see ``seal``), and where the run takes place is what
`stoker up` says (home, Prefect server, addresses of clusters, which run code).
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
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

from stoker.flows import running, signals
from stoker.flows.schedules import seal
from stoker.flows.settings import Settings, inherited, parse_settings
from stoker.pipelines.recipe import parse
from stoker.storage.errors import StokerError

_OF_WORKER = ("home", "prefect_url", "s3_port", "prefect_port", "web_port")
_CLUSTERS = ("ray_address", "dask_address")  # whoever answers there runs code here: results are pickles


class RunRefused(StokerError):
    """A scheduled run has parameters that no `stoker schedule` wrote."""


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
                parameters = checked_parameters(name, _deployment(client, flow_run), flow_run.parameters, own)
            except StokerError as error:
                client.set_flow_run_state(identity, Failed(message=str(error)), force=True)
                print(f"stoker: run {identity}: {error}", flush=True)
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


def checked_parameters(
    flow: str,
    deployment: str,
    given: Mapping[str, Any],  # Any: JSON values
    own: Settings,
) -> dict[str, Any]:  # Any: JSON values
    """The parameters of a scheduled `ingest` or `train`, with the worker's own settings.

    ``deployment`` is the name of the run's deployment, "" if it has none. Raises RunRefused for parameters that were
    not sealed for it in the home of ``own``, and StokerError.
    """
    kinds: dict[str, type] = {"settings": dict, "token": str, seal.SEAL: str}
    kinds |= (
        {"recipe": dict, "root": str, "trusted": bool}
        if flow == "ingest"
        else {"model": str, "corpus": str, "options": dict, "resume": bool}
    )
    optional = {"token", "resume", "trusted", seal.SEAL}  # a missing seal is a wrong one
    for name, value in given.items():
        if name not in kinds:
            raise RunRefused(f"parameter {name!r}: unknown; expected {', '.join(sorted(kinds))}")
        if not isinstance(value, kinds[name]):
            raise RunRefused(f"parameter {name!r}: found {value!r:.80}, expected {kinds[name].__name__}")
    missing = sorted(set(kinds) - optional - set(given))
    if missing:
        raise RunRefused(f"parameter {missing[0]!r}: missing; run `stoker schedule` again")
    if not all(isinstance(value, str) for value in given.get("options", {}).values()):
        raise RunRefused("parameter 'options': expected text for each option")
    if not deployment or not seal.is_valid(running.schedule_key(own.home), flow, deployment, given):
        raise RunRefused(
            "its parameters are not those that `stoker schedule` wrote in this home; run `stoker schedule` again"
        )
    if flow == "ingest":
        root = Path(given["root"])
        if not root.is_absolute():
            raise RunRefused(f"parameter 'root': found {given['root']!r:.200}, expected an absolute path")
        parse(given["recipe"], root=root)
    settings = _settings(given["settings"], own)
    # No token: it names files of a run that a terminal watches, and nobody watches this one.
    kept = {name: value for name, value in given.items() if name != seal.SEAL}
    return kept | {"settings": settings.to_json(), "token": ""}


def _settings(given: Mapping[str, Any], own: Settings) -> Settings:  # Any: JSON values
    """The settings that a schedule holds, where the run takes place being the worker's."""
    for name in _CLUSTERS:
        if given.get(name) not in ("", None, getattr(own, name)):
            raise RunRefused(
                f"{name}: the schedule says {given[name]!r:.200}, `stoker up` runs with {getattr(own, name)!r}; "
                f"start `stoker up` with STOKER_{name.upper()} and schedule again"
            )
    chosen = {name: value for name, value in given.items() if name not in _OF_WORKER}
    kept = {name: getattr(own, name) for name in (*_OF_WORKER, *_CLUSTERS)}
    return replace(parse_settings(chosen, own.home), **kept)
