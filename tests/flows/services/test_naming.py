"""Runs that wait, in a real Prefect server."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from stoker.flows.schedules.overview import TAG
from stoker.flows.services.naming import cancel_outdated, prepare_runs
from stoker.flows.services.schedule import _runs
from tests.flows.conftest import AUTH, until


@pytest.mark.slow
def test_a_planned_run_starts_with_what_its_schedule_holds_now(prefect_url: str) -> None:
    settings = {PREFECT_API_URL: prefect_url, PREFECT_API_AUTH_STRING: AUTH[prefect_url]}
    with temporary_settings(updates=settings), get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("renewed")
        timetable = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(hours=1)), active=True)
        made = client.create_deployment(
            flow_id=flow,
            name="renewed",
            schedules=[timetable],
            parameters={"recipe": "new"},
            tags=[TAG],
            enforce_parameter_schema=False,
        )
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": made}, json={"max_runs": 2})
        chosen = client.create_flow_run_from_deployment(made, parameters={"recipe": "chosen"})
        planned = [run for run in _runs(client, made, StateType.SCHEDULED) if run.auto_scheduled]
        assert len(planned) >= 2
        for run in planned:  # as Prefect plans them that read the schedule before it was changed
            client.update_flow_run(run.id, parameters={"recipe": "old"})

        prepare_runs(_runs(client, made, StateType.SCHEDULED))

        after = {run.id: run for run in _runs(client, made, StateType.SCHEDULED)}
        assert [after[run.id].parameters for run in planned] == [{"recipe": "new"}] * len(planned)
        assert after[chosen.id].parameters == {"recipe": "chosen"}
        assert all(run.name.startswith("renewed 20") for run in after.values())
        client.delete_deployment(made)


@pytest.mark.slow
def test_of_waiting_trainings_the_newest_version_is_left_and_what_a_person_started(prefect_url: str) -> None:
    settings = {PREFECT_API_URL: prefect_url, PREFECT_API_AUTH_STRING: AUTH[prefect_url]}
    with temporary_settings(updates=settings), get_client(sync_client=True) as client:

        def post(path: str, body: object) -> str:
            return str((client.request("POST", path, json=body).json() or {}).get("id"))  # type: ignore[arg-type]  # any path

        flow = client.create_flow_from_name("queued")
        made = client.create_deployment(flow_id=flow, name="queued", enforce_parameter_schema=False)
        for number in (2, 10, 9):  # as a version of each number does: an automation of Prefect's starts the training
            parameters = {"model": "cnn", "corpus": f"photos@{number}"}
            action = {
                "type": "run-deployment",
                "source": "selected",
                "deployment_id": str(made),
                "parameters": parameters,
            }
            trigger = {
                "type": "event",
                "posture": "Reactive",
                "expect": [f"version-{number}"],
                "threshold": 1,
                "within": 0,
                "match": {"prefect.resource.id": "photos"},
            }
            post("/automations/", {"name": f"queued-{number}", "trigger": trigger, "actions": [action]})
        person = client.create_flow_run_from_deployment(made, parameters={"model": "cnn", "corpus": "photos@1"})

        def started() -> bool:
            for number in (2, 10, 9):
                if not any(run.parameters["corpus"] == f"photos@{number}" for run in _runs(client, made, *StateType)):
                    event = {
                        "occurred": datetime.now(UTC).isoformat(),
                        "event": f"version-{number}",
                        "resource": {"prefect.resource.id": "photos"},
                        "id": str(uuid.uuid4()),
                    }
                    client.request("POST", "/events", json=[event])
            # Not their number: an event that was sent twice may make two runs of one version, the second of them later.
            begun = {run.parameters["corpus"] for run in _runs(client, made, *StateType)}
            return begun >= {"photos@2", "photos@9", "photos@10"}

        cancelled = set[uuid.UUID]()

        def one_left() -> bool:
            cancelled.update(cancel_outdated(_runs(client, made, StateType.SCHEDULED)))
            left = {run.parameters["corpus"] for run in _runs(client, made, StateType.SCHEDULED)}
            return left == {"photos@1", "photos@10"}

        assert until(started, 120)
        assert until(one_left, 30)
        assert person.id not in cancelled
        over = [run for run in _runs(client, made, *StateType) if run.id in cancelled]
        assert over
        assert {run.state.message for run in over if run.state} == {"version 10 waits too, and is trained in its place"}
        client.delete_deployment(made)
