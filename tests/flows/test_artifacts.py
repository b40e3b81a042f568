"""What a run leaves in Prefect's UI."""

import re
from typing import Any

import pytest

from tests.flows.conftest import Cli, ask, until

pytestmark = pytest.mark.slow
WORDS = [f"word-{number}" for number in range(12)]


def test_a_run_that_lost_pieces_of_its_source_ends_as_incomplete(served: Cli, prefect_url: str) -> None:
    done = served("ingest", served.recipe([*WORDS, "reject lost"], name="lost_things"))
    assert done.returncode == 1
    assert "lost_things@1 is not whole: 1 piece of the source could not be read" in done.stderr
    (run,) = ask(prefect_url, "/flow_runs/filter", flow_runs={"name": {"like_": "lost_things"}})
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Incomplete")
    assert "lost_things@1 is not whole" in run["state"]["message"]


def test_prefects_ui_gets_progress_a_table_and_the_event(served: Cli, prefect_url: str) -> None:
    recipe = served.recipe([*WORDS, "reject robots"], name="seen_things")
    assert served("ingest", recipe).returncode == 0
    found = {one["key"]: one for one in ask(prefect_url, "/artifacts/latest/filter")}
    assert found["seen-things-progress"]["data"] == 100.0
    text = found["seen-things-version"]["data"]
    assert "**12 samples kept**" in text
    assert "| robots | 1 | robots.txt forbids it |" in text
    assert "| CC0-1.0 | 12 |" in text

    def published() -> list[Any]:
        chosen = {"event": {"name": ["stoker.version.published"]}}
        return [
            event
            for event in ask(prefect_url, "/events/filter", filter=chosen)["events"]
            if event["resource"]["prefect.resource.id"] == "stoker.corpus.seen_things"
        ]

    events = until(published)
    assert [event["payload"]["reference"] for event in events] == ["seen_things@1"]
    runs = ask(prefect_url, "/flow_runs/filter", flow_runs={"name": {"like_": "seen_things"}})
    assert [run["state"]["name"] for run in runs] == ["Completed"]

    def has_all_tasks() -> bool:  # Prefect's server learns of them by events, a little later
        tasks = ask(prefect_url, "/task_runs/filter", flow_runs={"id": {"any_": [runs[0]["id"]]}})
        names = {re.sub(r"-[0-9a-f]{3}$", "", one["name"]) for one in tasks}
        return names >= {"lines-0", "lines-12", "curate", "publish"}

    assert until(has_all_tasks)
