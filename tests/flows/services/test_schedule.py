"""Schedules on a real `stoker up`: they run at their time, pause, resume, go; training follows a corpus."""

import json
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from stoker.flows.schedules import record
from stoker.flows.schedules.record import Record
from stoker.flows.services import outcome
from stoker.flows.services.schedule import POOL_TYPE, Notify, _new_record
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError
from tests.flows.conftest import Cli, ask, until
from tests.flows.services.conftest import api


def test_the_worker_goes_with_this_version_of_prefect() -> None:
    from stoker.flows.services.worker import Worker  # on private modules of Prefect's

    assert Worker.type == POOL_TYPE


def test_a_schedule_that_could_not_be_changed_keeps_its_number(tmp_path: Path) -> None:
    settings, nobody = Settings(home=tmp_path), Notify()

    def change(nonce: str, error: Exception | None = None) -> None:
        with _new_record(settings, "words", nonce, nobody):
            if error is not None:
                raise error

    change("first")
    for nonce in ("second", "third"):
        with pytest.raises(StokerError):
            change(nonce, StokerError("busy"))
    kept = record.load(tmp_path, "words")
    assert kept is not None
    assert "first" in kept.nonces  # of the deployment as it was
    change("fourth")
    kept = record.load(tmp_path, "words")
    assert kept is not None
    assert kept.nonces == ("fourth",)


def test_a_run_that_ends_while_its_schedule_is_changed_undoes_no_change(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with _new_record(settings, "words", "first", Notify()):
        pass
    with _new_record(settings, "words", "second", Notify(versions=True)):
        ending = Thread(target=outcome.failed, args=(settings, "words", "words 2026-01-01", "the source is away"))
        ending.start()
        ending.join(0.2)
    ending.join(10)
    assert record.load(tmp_path, "words") == Record(nonces=("second",), notify_versions=True, failing=True)


@pytest.fixture
def up(scheduler: Cli) -> Cli:
    return scheduler


def runs(up: Cli, **chosen: Any) -> list[Any]:
    found: list[Any] = ask(api(up), "/flow_runs/filter", **chosen)
    return found


def rows(up: Cli) -> dict[str, Any]:
    """The rows of the list, by name."""
    done = up("schedule", "--list", "--json")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def completed(up: Cli, flow: str, name: str) -> list[Any]:
    return runs(
        up,
        flows={"name": {"any_": [flow]}},
        deployments={"name": {"any_": [name]}},
        flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}},
    )


@pytest.mark.slow
def test_an_interval_really_ingests_pauses_resumes_and_goes(up: Cli) -> None:
    recipe = up.recipe(["one", "two"], name="timed")
    done = up("schedule", recipe, "--interval", "4s")
    assert (done.returncode, done.stdout) == (0, "scheduled timed: every 4 s\n"), done.stderr
    assert until(lambda: len(completed(up, "ingest", "timed")) >= 2, 60)
    assert "timed@1" in up("show", "timed").stdout
    up.recipe(["one", "two", "three"], more="[shards]\nsamples = 2\n", name="timed")  # read when the next run starts
    assert until(lambda: up("show", "timed@2").returncode == 0, 30)
    assert "2 shards" in up("show", "timed@2").stdout or "3 shards" in up("show", "timed@2").stdout
    (up.folder / recipe).write_text("not a recipe any more")
    assert until(lambda: "timed.toml: not TOML" in (rows(up)["timed"]["last"] or {})["reason"], 30)
    assert "timed.toml: not TOML" in rows(up)["timed"]["problem"]
    up.recipe(["one", "two", "three"], name="timed")
    warning = rows(up)["timed"]["warning"]
    assert warning == "" or "was made by another recipe than" in warning  # "": the next run was quicker

    assert up("schedule", "--pause", "timed").returncode == 0
    assert "paused" in up("schedule", "--list").stdout
    time.sleep(6)  # what was under way ends
    before = len(runs(up, deployments={"name": {"any_": ["timed"]}}))
    assert up("schedule", up.recipe(["a"], name="witness"), "--interval", "4s").returncode == 0
    assert until(lambda: len(completed(up, "ingest", "witness")) >= 3, 90)  # it would have run too, twice
    assert len(runs(up, deployments={"name": {"any_": ["timed"]}})) == before
    assert up("schedule", "--remove", "witness").returncode == 0
    assert up("schedule", "--resume", "timed").returncode == 0
    done_before = len(completed(up, "ingest", "timed"))
    assert until(lambda: len(completed(up, "ingest", "timed")) > done_before, 60)

    wrong = up("schedule", "--remove", "tiemd")
    assert (wrong.returncode, wrong.stderr) == (1, "stoker: no schedule is called 'tiemd'; did you mean 'timed'?\n")
    assert up("schedule", "--remove", "timed").returncode == 0
    record.save(up.folder / ".stoker", "lost", Record(nonces=("1",)))  # as if Prefect's database was deleted
    listed = up("schedule", "--list").stdout
    assert "timed" not in listed
    assert "lost" in listed
    assert up("schedule", "--remove", "lost").returncode == 0
    assert "lost" not in up("schedule", "--list").stdout


@pytest.mark.slow
def test_a_cron_line_has_its_next_time_in_its_zone(up: Cli) -> None:
    done = up("schedule", up.recipe(["a"], name="nightly"), "--cron", "0 3 * * *", "--timezone", "Asia/Tokyo")
    assert done.stdout == "scheduled nightly: 0 3 * * * (Asia/Tokyo)\n", done.stderr
    assert until(lambda: rows(up)["nightly"]["next_run"], 30).endswith("T03:00:00+09:00")
    assert " 03:00 +09:00\n" in up("schedule", "--list").stdout
    assert up("schedule", "--remove", "nightly").returncode == 0


@pytest.mark.slow
def test_scheduling_again_updates_in_place(up: Cli) -> None:
    recipe = up.recipe([f"word-{number}" for number in range(9)], name="again")

    def deployment(name: str) -> Any:
        return ask(api(up), "/deployments/filter", deployments={"name": {"any_": [name]}})[0]

    def automations() -> list[Any]:
        return [one for one in ask(api(up), "/automations/filter", limit=200) if "again" in one["name"]]

    words = ("schedule", recipe, "--train", "lstm", "--cron")
    assert up(*words, "0 3 * * *").returncode == 0
    before, trained = deployment("again"), deployment("again-lstm")
    assert before["parameters"]["recipe"] == str(up.folder / recipe)
    assert before["parameter_openapi_schema"]["properties"]["recipe"]["title"].startswith("Recipe")
    (automation,) = automations()
    assert up("schedule", "--pause", "again").returncode == 0
    done = up(*words, "30 4 * * *", "--set", "hidden=8")
    assert done.returncode == 0
    assert done.stderr == "again stays paused; stoker schedule --resume again\n"
    after = deployment("again")
    assert (after["id"], after["paused"]) == (before["id"], True)
    assert [one["schedule"]["cron"] for one in after["schedules"]] == ["30 4 * * *"]
    assert deployment("again-lstm")["id"] == trained["id"]
    assert deployment("again-lstm")["parameters"]["options"] == {"hidden": "8"}
    (updated,) = automations()
    assert (updated["id"], updated["enabled"]) == (automation["id"], True)
    assert up("schedule", "--resume", "again").returncode == 0
    assert until(lambda: "T04:30:00" in rows(up)["again"]["next_run"], 30)
    for name in ("again", "again-lstm"):
        assert up("schedule", "--remove", name).returncode == 0
    assert automations() == []


@pytest.mark.slow
def test_what_is_wrong_schedules_nothing(up: Cli) -> None:
    recipe = up.recipe(["a"], name="unplanned")
    for words, message in {
        ("--train", "lstm", "--set", "nosuch=1"): "nosuch",
        ("--train", "lstn"): "no model is called 'lstn'",
        ("--store", "s3://none/none"): "`stoker up`, which will run the schedule, has no keys of S3",
    }.items():
        done = up("schedule", recipe, "--cron", "0 3 * * *", *words)
        assert done.returncode in (1, 2), done.stderr
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert "unplanned" not in up("schedule", "--list").stdout


@pytest.mark.slow
def test_training_follows_every_new_version_of_a_corpus(up: Cli) -> None:
    pytest.importorskip("torch")
    lines = [f"word-{number}" for number in range(60)]
    recipe = up.recipe(lines, more="[shards]\nsamples = 20\n", name="followed")
    small = [word for pair in ("epochs=1", "batch_size=2", "hidden=8", "sample_length=9") for word in ("--set", pair)]
    done = up("schedule", recipe, "--train", "lstm", *small)
    assert done.stdout == "scheduled followed-lstm: trains lstm on every new version of followed\n", done.stderr
    assert "on every new version" in up("schedule", "--list").stdout
    assert up("ingest", recipe).returncode == 0
    assert until(lambda: len(completed(up, "train", "followed-lstm")) == 1, 90)
    up.recipe([*lines, "more"], more="[shards]\nsamples = 20\n", name="followed")
    assert up("ingest", recipe).returncode == 0
    assert until(lambda: len(completed(up, "train", "followed-lstm")) == 2, 90)
    trained = {run["parameters"]["corpus"] for run in completed(up, "train", "followed-lstm")}
    assert trained == {"followed@1", "followed@2"}

    assert up("schedule", "--pause", "followed-lstm").returncode == 0
    up.recipe([*lines, "more", "still-more"], more="[shards]\nsamples = 20\n", name="followed")
    assert up("ingest", recipe).returncode == 0
    time.sleep(8)
    assert len(runs(up, deployments={"name": {"any_": ["followed-lstm"]}})) == 2
    assert up("schedule", "--remove", "followed-lstm").returncode == 0
