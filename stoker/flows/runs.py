"""How runs end in Prefect: the records of their processes, and the states of those that were asked to stop.

The process of each flow run of the command line is recorded, so that a killed run is marked as crashed: without this
Prefect would show it as running for ever.
"""

import contextlib
import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from stoker.flows import private, running
from stoker.pipelines.rejected import LOSS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import State

INTERRUPTED = "Interrupted"  # state of a scheduled run that was ended with `stoker up`; the next one resumes it
INCOMPLETE = "Incomplete"  # state of a run that published a version although pieces of its source could not be read
RETRYING = "AwaitingRetry"  # Prefect's name for the state of a run that is tried again later
_UNFINISHED = ("RUNNING", "PENDING", "SCHEDULED", "CANCELLING", "PAUSED")
_PAGE_SIZE, _MOST_PAGES = 200, 100  # of task runs
_held: dict[str, int] = {}  # descriptors of locked records of this process's runs, by token
PUBLISHED_EVENT = "stoker.version.published"  # emitted by an ingest, about the resource stoker.corpus.<name>


def record(home: Path, token: str, flow_run: object) -> None:
    """Record that a flow run lives in this process. Scheduled runs have no token: `stoker up` watches them."""
    if token and flow_run:
        content = {"flow_run": str(flow_run), "process": asdict(running.this_process())}
        path = _folder(home) / f"{token}.json"
        private.write_private(path, json.dumps(content))
        _held[token] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a file system without locks: the process is looked for then
            fcntl.flock(_held[token], fcntl.LOCK_EX | fcntl.LOCK_NB)


def forget(home: Path, token: str) -> None:
    """Remove the record of a run that ended by itself; Prefect knows its final state."""
    if token in _held:
        os.close(_held.pop(token))
    for extension in ("json", "stop"):
        (_folder(home) / f"{token}.{extension}").unlink(missing_ok=True)


def mark_crashed_runs(home: Path) -> None:
    """Set the runs whose process is gone to Crashed in Prefect. Needs a connected server."""
    for path in sorted(_folder(home).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(path.read_bytes())
            if not _is_held(path) and not running.Process(**content["process"]).alive:
                _mark_crashed(content["flow_run"])
                forget(home, path.stem)


def _is_held(path: Path) -> bool:
    """Whether the process of a record is alive: it holds a lock, which the system takes from it when it ends.

    Its number alone does not tell: a container or machine that shares the home has processes of the same numbers.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def stopped_state(message: str, *, scheduled: bool) -> "State[Any]":  # Any: a state has no result
    """In a flow: the final state of this run, which was asked to stop.

    Cancelled if a person cancelled it, on the command line or in Prefect's UI; Interrupted for a scheduled run whose
    process was ended by a signal.
    """
    from prefect.states import Cancelled

    if scheduled and not _is_being_cancelled():
        return Cancelled(name=INTERRUPTED, message=f"{message}; the next `stoker up` resumes it")
    return Cancelled(message=message)


def incomplete_state(reference: str, losses: int, result: dict[str, Any]) -> "State[Any]":  # Any: JSON values
    """In a flow: the final state of a run that published a version which is not whole; with the run's result."""
    from prefect.states import Completed

    message = (
        f"{reference} is not whole: {losses} piece{'' if losses == 1 else 's'} of the source could not be read; "
        f"stoker show {reference} --reason {LOSS}"
    )
    return Completed(name=INCOMPLETE, message=message, data=result)


def resume_interrupted(pool: str) -> None:
    """Schedule the newest interrupted run of each deployment in a work pool for now: it goes on where it was ended."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.states import Cancelled, Scheduled

    with get_client(sync_client=True) as client:
        interrupted = client.read_flow_runs(
            work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [pool]}}),
            flow_run_filter=FlowRunFilter.model_validate({"state": {"name": {"any_": [INTERRUPTED]}}}),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        resumed = set[UUID | None]()
        for run in interrupted:
            newest = run.deployment_id not in resumed
            resumed.add(run.deployment_id)
            state: State[Any] = Scheduled() if newest else Cancelled(message="a later run does its work")
            client.set_flow_run_state(run.id, state, force=True)


def _is_being_cancelled() -> bool:
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(str(flow_run.id))).state
    return state is not None and state.is_cancelling()


def _mark_crashed(flow_run: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    with contextlib.suppress(ObjectNotFound), get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run).state  # type: ignore[arg-type]  # the text of a UUID is taken
        if state is None or not state.is_final():
            client.set_flow_run_state(flow_run, Crashed(message="its process was killed; run it again"), force=True)
        crash_task_runs(client, UUID(flow_run))


def crash_task_runs(client: "SyncPrefectClient", flow_run: UUID) -> None:
    """Set the task runs of a flow run whose process is gone to Crashed, where they did not end."""
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.states import Crashed

    for _ in range(_MOST_PAGES):
        unfinished = client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [flow_run]}}),
            task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": list(_UNFINISHED)}}}),
            limit=_PAGE_SIZE,
        )
        for run in unfinished:
            client.set_task_run_state(run.id, Crashed(message="the process of its flow run is gone"), force=True)
        if len(unfinished) < _PAGE_SIZE:
            return


def _folder(home: Path) -> Path:
    return home / "runs"
