"""The flow `ingest` on a real Prefect server: retries, failures, resumption, what it leaves in Prefect's UI."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.flows.conftest import Cli

pytestmark = pytest.mark.slow
WORDS = [f"word-{number}" for number in range(12)]


def ask(api: str, path: str, **body: Any) -> Any:
    """What the Prefect server answers to a filter."""
    request = urllib.request.Request(
        f"{api}{path}", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def until(found: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return value


def shards(cli: Cli) -> dict[str, bytes]:
    return {key: payload for key, payload in cli.objects().items() if "/shards/" in key}


def versions(cli: Cli) -> list[str]:
    return sorted(key for key in cli.objects() if "/versions/" in key)


def test_a_recipe_becomes_a_version_and_a_second_run_reads_nothing(served: Cli) -> None:
    recipe = served.recipe([*WORDS, "reject robots"])
    first = served("ingest", recipe)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("words@1: 12 samples (")
    assert "left out of 13: robots 1" in first.stdout
    assert "Traceback" not in first.stderr
    before = (served.journal(), served.objects())
    second = served("ingest", recipe)
    assert second.returncode == 0, second.stderr
    assert "nothing changed" in second.stderr
    assert (served.journal(), served.objects()) == before


def test_without_a_server_a_run_has_one_of_its_own_and_leaves_none(cli: Cli) -> None:
    done = cli("ingest", cli.recipe(WORDS))
    assert done.returncode == 0, done.stderr
    assert len(versions(cli)) == 1
    port = re.search(r"watched at http://127\.0\.0\.1:(\d+)", done.stderr)
    assert port is not None
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/api/health", timeout=5)
    assert not [line for line in done.stderr.splitlines() if "prefect" in line.lower() and "watched" not in line]


def test_only_what_is_unavailable_is_tried_again(served: Cli) -> None:
    served.variables["STOKER_ATTEMPTS"] = "3"
    done = served("ingest", served.recipe(["a", "busy 2", "b", "c", "d", "broken"]))
    assert done.returncode == 1
    assert served.journal().count("lines-0") == 3
    assert served.journal().count("lines-4") == 1


def test_retries_are_bounded_and_the_line_names_the_partition(served: Cli) -> None:
    served.variables["STOKER_ATTEMPTS"] = "3"
    recipe = served.recipe(["a", "b", "c", "busy 9", "d", "e"])
    done = served("ingest", recipe)
    assert done.returncode == 1
    assert served.journal().count("lines-2") == 3
    line = done.stderr.splitlines()[-1]
    assert line.startswith("stoker: words: 1 of 3 partitions failed and nothing was published; 'lines-2': ")
    assert "Traceback" not in done.stderr
    assert versions(served) == []
    assert sorted(set(served.journal())) == ["lines-0", "lines-2", "lines-4"]  # the others were finished


def test_after_a_failure_the_same_command_repeats_only_what_failed(served: Cli) -> None:
    served.variables["STOKER_ATTEMPTS"] = "1"
    recipe = served.recipe(["a", "b", "c", "busy 1", "d", "e"])
    assert served("ingest", recipe).returncode == 1
    done = served("ingest", recipe)
    assert done.returncode == 0, done.stderr
    assert sorted(served.journal()) == ["lines-0", "lines-2", "lines-2", "lines-4"]


def test_ctrl_c_stops_in_order_and_the_same_command_resumes(
    served: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [line for number in range(12) for line in (f"w{number}", "wait 0.3")]
    recipe = served.recipe(lines)
    served.variables["STOKER_WORKERS"] = "2"
    process = served.start("ingest", recipe)
    until(lambda: len(served.journal()) >= 5)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command resumes"
    assert "Traceback" not in stderr
    assert stdout == ""
    assert versions(served) == []
    done = served("ingest", recipe)
    assert done.returncode == 0, done.stderr
    repeated = len(served.journal()) - 12
    assert 0 <= repeated <= 2  # at most those that were being read
    undisturbed = Cli(tmp_path_factory.mktemp("undisturbed"), served.variables)
    undisturbed.recipe(lines)
    assert undisturbed("ingest", recipe).returncode == 0
    assert shards(served) == shards(undisturbed)


def test_ctrl_c_cuts_what_cannot_be_asked_to_stop(served: Cli) -> None:
    recipe = served.recipe(WORDS)
    (served.folder / recipe).write_text((served.folder / recipe).read_text() + "plan_s = 60\n")
    process = served.start("ingest", recipe)
    until(served.journal)
    os.kill(process.pid, signal.SIGINT)
    stderr = process.communicate(timeout=20)[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "stoker: interrupted; the same command resumes"
    assert "Traceback" not in stderr


def test_a_run_that_was_killed_does_not_stay_running_in_prefects_ui(served: Cli, prefect_url: str) -> None:
    recipe = served.recipe(["a", "wait 60"], name="shot")
    process = served.start("ingest", recipe)
    assert until(served.journal)
    process.kill()
    process.communicate()

    def states() -> list[str]:
        runs = ask(prefect_url, "/flow_runs/filter", flow_runs={"name": {"like_": "shot"}}, sort="START_TIME_ASC")
        return [run["state"]["name"] for run in runs]

    assert until(lambda: states() == ["Running"])
    served.recipe(["a", "b"], name="shot")
    assert served("ingest", recipe).returncode == 0
    assert states() == ["Crashed", "Completed"]
    assert list((served.folder / ".stoker" / "runs").iterdir()) == []


def test_a_second_ctrl_c_ends_at_once(served: Cli) -> None:
    process = served.start("ingest", served.recipe(["a", "wait 60"]))
    until(served.journal)
    os.kill(process.pid, signal.SIGINT)
    assert process.stderr is not None
    while "Ctrl-C again" not in process.stderr.readline():
        pass
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(5) == 130
    process.communicate()


def test_a_killed_run_leaves_no_server_behind_and_is_resumed(
    cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = [line for number in range(10) for line in (f"w{number}", "wait 0.2")]
    recipe = cli.recipe(lines)
    process = cli.start("ingest", recipe)
    until(lambda: len(cli.journal()) >= 4, 60)
    process.kill()
    stderr = process.communicate()[1]
    port = re.search(r"watched at http://127\.0\.0\.1:(\d+)", stderr)
    assert port is not None

    def gone() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/api/health", timeout=5).close()
        except OSError:
            return True
        return False

    assert until(gone)
    assert cli("ingest", recipe).returncode == 0
    undisturbed = Cli(tmp_path_factory.mktemp("undisturbed"))
    undisturbed.recipe(lines)
    assert undisturbed("ingest", recipe).returncode == 0
    assert shards(cli) == shards(undisturbed)


def test_two_runs_at_once_both_end_and_nothing_is_lost(cli: Cli) -> None:
    recipe = cli.recipe([line for number in range(8) for line in (f"w{number}", "wait 0.2")])
    runs = [cli.start("ingest", recipe) for _ in range(2)]  # each with a temporary server on the same new database
    errors = [run.communicate(timeout=180)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert versions(cli) == ["words/versions/00000001.json"]


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
    tasks = ask(prefect_url, "/task_runs/filter", flow_runs={"id": {"any_": [runs[0]["id"]]}})
    assert {"lines-0", "lines-12", "curate", "publish"} <= {re.sub(r"-[0-9a-f]{3}$", "", one["name"]) for one in tasks}


def test_a_thousand_partitions_are_handed_over_a_few_at_a_time(served: Cli) -> None:
    recipe = served.recipe([f"w{number}" for number in range(150)], more="[shards]\npartitions = 40\n")
    text = (served.folder / recipe).read_text() + "each = 1\n"
    (served.folder / recipe).write_text(text)
    done = served("ingest", recipe)
    assert done.returncode == 0, done.stderr
    assert "words@1: 150 samples" in done.stdout


def test_a_terminal_gets_a_bar_and_not_prefects_log(served: Cli) -> None:
    command = f"{sys.executable} -m stoker ingest {served.recipe(WORDS)}"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        cwd=served.folder,
        env=served.environment() | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "words@1: 12 samples" in done.stdout
    assert "━" in done.stdout
    assert "Flow run" not in done.stdout
