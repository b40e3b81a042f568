"""Runs that wait, in a real Prefect server."""

from datetime import timedelta
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from stoker.flows.schedules.overview import TAG
from stoker.flows.services.naming import renew_parameters
from stoker.flows.services.schedule import _runs
from tests.flows.conftest import AUTH


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

        renew_parameters(_runs(client, made, StateType.SCHEDULED))

        after: dict[UUID, object] = {run.id: run.parameters for run in _runs(client, made, StateType.SCHEDULED)}
        assert {str(after[run.id]) for run in planned} == {"{'recipe': 'new'}"}
        assert after[chosen.id] == {"recipe": "chosen"}
        client.delete_deployment(made)
