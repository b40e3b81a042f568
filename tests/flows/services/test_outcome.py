"""After a scheduled run: it is tried again, its owner is told, the newest version is trained."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from stoker.flows.services.outcome import may_pass
from stoker.pipelines.errors import RecipeError, SourceUnavailable
from stoker.storage.errors import StokerError, StorageUnavailable
from tests.flows.conftest import Cli, until
from tests.flows.page.serving import receiving
from tests.flows.services.test_worker import OVER, Owner
from tests.pipelines.sources.test_wikipedia_dump import dump, page


def test_what_may_pass_is_a_source_or_a_store_out_of_reach() -> None:
    summary = StokerError("one of two partitions failed")
    summary.__cause__ = SourceUnavailable("busy")
    assert may_pass(summary)
    assert may_pass(StorageUnavailable("away"))
    assert not may_pass(RecipeError("wrong"))
    assert not may_pass(ValueError("a bug"))
    assert not may_pass(None)


@pytest.fixture
def owner(scheduler: Cli) -> Owner:
    return Owner(scheduler)


def row(scheduler: Cli, name: str) -> Any:
    rows = json.loads(scheduler("schedule", "--list", "--json").stdout)
    return next(row for row in rows if row["name"] == name)


@pytest.mark.slow
def test_a_failed_run_is_tried_again_and_its_owner_is_told(
    scheduler: Cli, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scheduler.variables, "STOKER_ATTEMPTS", "1")
    recipe = scheduler.recipe(["one", "busy 2"], name="told")
    with receiving() as (url, received):
        words = ("--cron", "0 3 1 1 *", "--retries", "1", "--retry-wait", "1s", "--notify", url, "--notify-versions")
        done = scheduler("schedule", recipe, *words)
        assert done.returncode == 0, done.stderr
        deployment = owner.deployment("told")
        assert "token" not in json.dumps({**deployment, "parameters": {**deployment["parameters"], "settings": {}}})
        run = owner.run(deployment["id"])
        assert until(lambda: len(received) == 1, 120)
        assert (received[0]["type"], received[0]["title"]) == ("failure", "Stoker: told failed")
        assert "busy" in received[0]["message"]
        state = owner.wait_over(run)
        assert (state["type"], owner("GET", f"/flow_runs/{run}")["run_count"]) == ("FAILED", 2)
        assert "busy" in row(scheduler, "told")["last"]["reason"]
        again = owner.run(deployment["id"])
        assert owner.wait_over(again)["type"] == "COMPLETED"
        assert owner("GET", f"/flow_runs/{again}")["name"].startswith("told 20")
        assert until(lambda: len(received) == 3, 60)
        assert [one["title"] for one in received[1:]] == ["Stoker: told works again", "Stoker: new version told@1"]
        for log in Path(scheduler.folder / ".stoker" / "logs").iterdir():
            assert url not in log.read_text(errors="replace")
    assert scheduler("schedule", "--remove", "told").returncode == 0


@pytest.mark.slow
def test_the_owner_is_told_of_a_run_that_lost_pieces_of_its_source(scheduler: Cli, owner: Owner) -> None:
    (scheduler.folder / "dewiki.xml").write_bytes(dump(page(1, "Some text.")).removesuffix(b"</mediawiki>\n"))
    recipe = 'corpus = "cut"\n[source]\nname = "wikipedia_dump"\ndump = "dewiki.xml"'
    (scheduler.folder / "cut.toml").write_text(recipe)
    with receiving() as (url, received):
        done = scheduler("schedule", "cut.toml", "--cron", "0 3 1 1 *", "--retries", "1", "--notify", url)
        assert done.returncode == 0, done.stderr
        run = owner.run(owner.deployment("cut")["id"])
        assert until(lambda: len(received) == 1, 120)
        assert (received[0]["type"], received[0]["title"]) == ("failure", "Stoker: cut failed")
        assert "1 piece of the source could not be read" in received[0]["message"]
        assert owner.wait_over(run)["name"] == "Incomplete"
        assert owner("GET", f"/flow_runs/{run}")["run_count"] == 1  # another try would lose the same
    assert scheduler("schedule", "--remove", "cut").returncode == 0


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_tried_again_and_its_tasks_are_buried(scheduler: Cli, owner: Owner) -> None:
    recipe = scheduler.recipe(["one", "wait 600"], name="killed")  # it is killed long before
    words = ("--cron", "0 3 1 1 *", "--retries", "1", "--retry-wait", "1h")
    assert scheduler("schedule", recipe, *words).returncode == 0
    run = owner.run(owner.deployment("killed")["id"])
    chosen = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    assert until(lambda: owner("POST", "/task_runs/filter", **chosen), 240)
    (process,) = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and f"PREFECT__FLOW_RUN_ID={run}" in environment(path)
    ]
    os.kill(process, signal.SIGKILL)
    assert until(lambda: owner.state(run)["name"] == "AwaitingRetry", 60)
    assert "retry 1 of 1" in owner.state(run)["message"]
    assert owner("POST", "/task_runs/filter", **chosen) == []
    assert row(scheduler, "killed")["then"]["state"] == "AwaitingRetry"
    assert scheduler("schedule", "--remove", "killed").returncode == 0
    assert owner.state(run)["type"] in OVER


def environment(process: Path) -> str:
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:
        return ""
