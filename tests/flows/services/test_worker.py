"""The worker of `stoker up`: runs our flows alone, whatever the API says; keeps schedules of earlier versions."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from stoker.flows import running
from stoker.flows.services import worker
from stoker.flows.settings import Settings
from tests.flows.conftest import AUTH, Cli, owner_headers, until
from tests.flows.schedules.test_overview import answering
from tests.flows.services.conftest import api

pytestmark = pytest.mark.slow
NOT_SEALED = "its parameters are not those that `stoker schedule` wrote in this home; run `stoker schedule` again"
OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Owner:
    """Whoever holds the owner's token: calls of the API of a `stoker up`."""

    def __init__(self, up: Cli) -> None:
        self.api = api(up)
        self.logs = up.folder / ".stoker" / "logs"

    def __call__(self, method: str, path: str, /, **body: Any) -> Any:
        headers = {"Content-Type": "application/json"} | owner_headers(AUTH.get(self.api, ""))
        data = json.dumps(body).encode() if method != "GET" else None
        request = urllib.request.Request(self.api + path, data=data, headers=headers, method=method)
        for attempt in range(10):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                if error.code != 503 or attempt == 9:  # 503: its database was locked, on a machine that is busy
                    raise
                time.sleep(1)
            except TimeoutError:  # it waits for its database; a question may be asked twice
                if attempt == 9 or (method != "GET" and not path.endswith("/filter")):
                    raise
        return None

    def deployment(self, name: str) -> Any:
        return self("POST", "/deployments/filter", deployments={"name": {"any_": [name]}})[0]

    def run(self, deployment: str, **body: Any) -> str:
        identity: str = self("POST", f"/deployments/{deployment}/create_flow_run", **body)["id"]
        return identity

    def state(self, run: str) -> Any:
        return self("GET", f"/flow_runs/{run}")["state"]

    def wait_over(self, run: str, seconds: float = 240) -> Any:
        if not until(lambda: self.state(run)["type"] in OVER, seconds):
            logs = "\n".join(f"{name}.log: {tail(self.logs / f'{name}.log')}" for name in ("up", "schedule", "prefect"))
            pytest.fail(f"the run is {self.state(run)} after {seconds:g} s\n{logs}")
        return self.state(run)


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


def restart_scheduler(up: Cli) -> None:
    """End the scheduler; its supervisor starts it again."""
    process = running.load(up.folder / ".stoker").running["schedule"]
    os.kill(process.pid, signal.SIGTERM)
    assert until(lambda: not process.alive, 30)
    assert until(lambda: (now := running.load(up.folder / ".stoker").running.get("schedule")) and now.alive, 30)


@pytest.fixture
def owner(scheduler: Cli) -> Owner:
    return Owner(scheduler)


@pytest.fixture
def planned(scheduler: Cli, owner: Owner) -> str:
    """The deployment of a recipe that is scheduled, and not due for long."""
    done = scheduler("schedule", scheduler.recipe(["one", "two"], name="planned"), "--interval", "300d")
    assert done.returncode == 0, done.stderr
    return str(owner.deployment("planned")["id"])


def test_no_request_chooses_what_runs(scheduler: Cli, owner: Owner, planned: str, tmp_path: Path) -> None:
    def touch(name: str) -> str:
        return f"touch {tmp_path / name}"

    evil = tmp_path / "evil.py"
    evil.with_suffix(".toml").write_text('corpus = "planned"\n[source]\nname = "lines"\npath = "/etc/passwd"\n')
    evil.write_text(
        "from pathlib import Path\nfrom prefect import flow\n\n"
        f"Path({str(tmp_path)!r}, 'imported').touch()\n\n"
        f"@flow\ndef ingest(**any):\n    Path({str(tmp_path)!r}, 'called').touch()\n"
    )
    variables = {
        "command": touch("job-command"),
        "env": {"PYTHONPATH": str(tmp_path), "PREFECT__FLOW_ENTRYPOINT": f"{evil}:ingest"},
        "working_dir": str(tmp_path),
    }
    runs = {"variables": owner.run(planned, job_variables=variables)}
    own = owner.deployment("planned")
    steps = [{"prefect.deployments.steps.run_shell_script": {"script": touch("pull-step")}}]
    for flow in ("ingest", "evil"):
        identity = owner("POST", "/flows/", name=flow)["id"]
        made = owner(
            "POST",
            "/deployments/",
            name=f"own-{flow}",
            flow_id=identity,
            work_pool_name="stoker",
            entrypoint=f"{evil}:ingest",
            path=str(tmp_path),
            pull_steps=steps,
            job_variables=variables,
            parameters=own["parameters"],
            enforce_parameter_schema=False,
        )
        runs[flow] = owner.run(made["id"])
    template = {
        "job_configuration": {"command": touch("template"), "env": {"PYTHONPATH": str(tmp_path)}},
        "variables": {"type": "object", "properties": {}},
    }
    owner("PATCH", "/work_pools/stoker", base_job_template=template)
    runs["template"] = owner.run(planned)
    for run in runs.values():  # a run that is not over when the scheduler ends says so, and nothing of itself
        owner.wait_over(run)
    restart_scheduler(scheduler)  # it reads the template at its start
    runs["restarted"] = owner.run(planned)
    action = {"type": "run-deployment", "source": "selected", "deployment_id": planned, "job_variables": variables}
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "expect": ["attack"],
        "threshold": 1,
        "within": 0,
        "match": {"prefect.resource.id": "attack"},
        "for_each": [],
    }
    automation = owner("POST", "/automations/", name="attack", trigger=trigger, actions=[action])

    def emit_event() -> None:
        event = {
            "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event": "attack",
            "resource": {"prefect.resource.id": "attack"},
            "id": str(uuid.uuid4()),
        }
        request = urllib.request.Request(
            f"{owner.api}/events",
            data=json.dumps([event]).encode(),
            headers={"Content-Type": "application/json"} | owner_headers(AUTH.get(owner.api, "")),
        )
        urllib.request.urlopen(request, timeout=30).close()

    def automated() -> list[str]:
        chosen = {"deployments": {"id": {"any_": [planned]}}, "sort": "EXPECTED_START_TIME_DESC"}
        found = owner("POST", "/flow_runs/filter", **chosen)
        return [run["id"] for run in found if not run["auto_scheduled"] and run["id"] not in runs.values()]

    for _ in range(6):  # Prefect does not see events that come before it has loaded the automation
        emit_event()
        if until(automated, 20):
            break
    assert automated()
    runs["automation"] = automated()[0]
    states = {name: owner.wait_over(run) for name, run in runs.items()}
    parameters = own["parameters"]
    for name, changed in {
        "root": {"root": str(tmp_path)},
        "recipe": {"recipe": str(tmp_path / "evil.toml")},
        "trusted": {"trusted": True},
        "store": {"settings": parameters["settings"] | {"store": str(tmp_path / "store")}},
        "unchanged": {},
    }.items():
        states[name] = owner.wait_over(owner.run(planned, parameters=parameters | changed))  # one at a time
    owner("DELETE", f"/automations/{automation['id']}")
    for name in ("ingest", "evil"):
        owner("DELETE", f"/deployments/{owner.deployment(f'own-{name}')['id']}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.py", "evil.toml"]
    assert "flow 'evil': not of Stoker" in states.pop("evil")["message"]
    assert "scheduled by an earlier version" in states.pop("root")["message"]
    for name in ("ingest", "recipe", "trusted", "store"):
        assert NOT_SEALED in states.pop(name)["message"]
    ours = {"COMPLETED", "CANCELLED"}  # cancelled: one run of a deployment at a time
    assert {state["type"] for state in states.values()} <= ours, states
    assert states["unchanged"]["type"] == "COMPLETED"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"dask_address": "tcp://10.0.0.1:8786"}}, NOT_SEALED),
        ({"recipe": 1}, "parameter 'recipe': found 1, expected a text"),
        ({"more": 1}, "parameter 'more': unknown"),
    ],
)
def test_wrong_parameters_of_a_run_are_one_line(
    owner: Owner, planned: str, change: dict[str, Any], message: str
) -> None:
    parameters = owner.deployment("planned")["parameters"] | change
    state = owner.wait_over(owner.run(planned, parameters=parameters))
    assert state["type"] == "FAILED"
    assert message in state["message"]
    assert "\n" not in state["message"]


def test_a_run_has_the_home_of_the_scheduler_and_writes_no_file_that_it_names(
    scheduler: Cli, owner: Owner, planned: str, tmp_path: Path
) -> None:
    parameters = owner.deployment("planned")["parameters"]
    changed = parameters | {"settings": parameters["settings"] | {"home": str(tmp_path / "other")}}
    refused = owner.wait_over(owner.run(planned, parameters=changed))
    assert (refused["type"], refused["message"]) == ("FAILED", NOT_SEALED)
    assert not (tmp_path / "other").exists()
    changed = parameters | {"token": "../../written"}
    assert owner.wait_over(owner.run(planned, parameters=changed))["type"] == "COMPLETED"
    assert not list(scheduler.folder.parent.rglob("written.json"))


def test_a_run_is_cancelled_from_prefects_page(scheduler: Cli, owner: Owner) -> None:
    lines = [line for number in range(600) for line in (f"w{number}", "wait 0.5")]  # longer than a busy machine takes
    done = scheduler("schedule", scheduler.recipe(lines, name="long"), "--interval", "300d")
    assert done.returncode == 0, done.stderr
    run = owner.run(str(owner.deployment("long")["id"]))
    assert until(lambda: owner.state(run)["type"] == "RUNNING", 90)
    second = owner.run(str(owner.deployment("long")["id"]))
    assert owner.wait_over(second)["type"] == "CANCELLED"  # one at a time
    owner("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    assert owner.wait_over(run, 60)["type"] == "CANCELLED"
    third = owner.run(str(owner.deployment("long")["id"]))
    assert until(lambda: owner.state(third)["type"] == "RUNNING", 90)
    removed = scheduler("schedule", "--remove", "long")
    while "it is busy; try again" in removed.stderr:
        removed = scheduler("schedule", "--remove", "long")
    assert removed.stderr == "1 run of it was ended\n"
    state = owner.state(third)  # it ended before its deployment was gone: Prefect changes no state afterwards
    assert (state["type"], state["name"]) == ("CANCELLED", "Cancelled")
    restart_scheduler(scheduler)
    done = scheduler("schedule", scheduler.recipe(["a"], name="next"), "--interval", "300d")
    assert done.returncode == 0, done.stderr
    assert owner.wait_over(owner.run(str(owner.deployment("next")["id"])))["type"] == "COMPLETED"


@pytest.mark.parametrize(("status", "starts"), [(503, False), (429, False), (401, None)])
def test_a_scheduler_waits_for_a_prefect_that_is_busy(status: int, starts: bool | None, tmp_path: Path) -> None:
    with (
        answering(status) as address,
        temporary_settings(updates={PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}),
        nullcontext() if starts is not None else pytest.raises(PrefectHTTPStatusError),
    ):
        assert worker.is_prepared(Settings(home=tmp_path)) is starts


def test_a_pool_of_an_earlier_version_is_replaced_and_its_schedules_stay(
    scheduler: Cli, owner: Owner, planned: str
) -> None:
    assert owner.wait_over(owner.run(planned))["type"] == "COMPLETED"
    before = owner.deployment("planned")
    history = finished(owner, planned)
    owner("DELETE", "/work_pools/stoker")
    owner("POST", "/work_pools/", name="stoker", type="process", description="mine")
    owner("PATCH", f"/deployments/{planned}", work_pool_name="stoker", entrypoint="stoker.flows.ingest.ingest")
    for _ in range(2):
        restart_scheduler(scheduler)
        assert until(lambda: pool_types(owner) == ["stoker"], 60)
        assert owner("GET", "/work_pools/stoker")["description"] == "mine"
        assert until(lambda: owner.deployment("planned")["work_pool_name"] == "stoker", 30)
        after = owner.deployment("planned")
        assert after["id"] == before["id"]
        assert [one["schedule"] for one in after["schedules"]] == [one["schedule"] for one in before["schedules"]]
        assert history <= finished(owner, planned)
        assert owner.wait_over(owner.run(planned))["type"] == "COMPLETED"
    assert "planned" in scheduler("schedule", "--list").stdout


def pool_types(owner: Owner) -> list[str]:
    """The type of the work pool; empty for the moment in which it is replaced."""
    return [pool["type"] for pool in owner("POST", "/work_pools/filter", work_pools={"name": {"any_": ["stoker"]}})]


def finished(owner: Owner, deployment: str) -> set[str]:
    """The runs of a deployment that completed."""
    chosen = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    return {run["id"] for run in owner("POST", "/flow_runs/filter", **chosen)}
