"""The flow `ingest` on a real Prefect server: retries, failures, resumption, what it leaves in Prefect's UI."""

import json
import os
import pickletools
import resource
import signal
import struct
from collections.abc import Iterator
from dataclasses import replace

import cloudpickle  # type: ignore[import-untyped]  # it has no stubs
import pytest

from stoker.flows import ingest
from stoker.pipelines.recipe import parse
from stoker.pipelines.stages import publish
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.versions import layout
from tests.conftest import HANGS_S
from tests.fakes import context
from tests.flows.conftest import Cli, shards, until, versions
from tests.pipelines.films import film
from tests.site import FAST, Reply, Site

pytestmark = pytest.mark.slow
AT_ONCE = (100_000, 200_000)  # first segments of the two stretches of a film of twelve minutes
WORDS = [f"word-{number}" for number in range(12)]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def test_a_recipe_becomes_a_version_and_a_second_run_reads_nothing(served: Cli) -> None:
    recipe = served.recipe([*WORDS, "reject robots"])
    first = served("ingest", recipe)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("words@1: 12 samples (")
    assert "rejected 1 of 13: robots 1" in first.stdout
    assert "Traceback" not in first.stderr
    before = (served.journal(), served.objects())
    second = served("ingest", recipe)
    assert second.returncode == 0, second.stderr
    assert "nothing changed" in second.stderr
    assert (served.journal(), served.objects()) == before


def test_an_ingest_with_nothing_to_do_starts_no_prefect(served: Cli) -> None:
    (served.folder / "notes.txt").write_text("a note")
    (served.folder / "notes.toml").write_text('corpus = "notes"\n[source]\nname = "local_files"\nfiles = "notes.txt"\n')
    assert served("ingest", "notes.toml").returncode == 0
    served.variables["STOKER_PREFECT_URL"] = "http://127.0.0.1:9/api"  # where nothing answers
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    second = served("ingest", "notes.toml", "--json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert second.returncode == 0, second.stderr
    assert "nothing changed since this version" in second.stderr
    assert (json.loads(second.stdout)["reference"], json.loads(second.stdout)["new"]) == ("notes@1", False)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert served("ingest", "notes.toml", "--retry-failed").returncode == 1, (
        "a flow is asked for, and there is no Prefect"
    )


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
    stdout, stderr = process.communicate(timeout=HANGS_S)
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


def test_a_thousand_partitions_are_handed_over_a_few_at_a_time(served: Cli) -> None:
    recipe = served.recipe([f"w{number}" for number in range(150)], more="[shards]\npartitions = 40\n")
    text = (served.folder / recipe).read_text() + "each = 1\n"
    (served.folder / recipe).write_text(text)
    done = served("ingest", recipe)
    assert done.returncode == 0, done.stderr
    assert "words@1: 150 samples" in done.stdout


def test_tasks_take_no_class_along_that_other_processes_lack() -> None:
    """Pydantic makes State[Any] when it is first named; with some versions others then look it up, and find nothing."""
    for task in (
        ingest.plan_task,
        ingest.partition_task,
        ingest.curate_task,
        ingest.pack_task,
        ingest.publish_task,
    ):
        assert "State[Any]" not in {argument for _, argument, _ in pickletools.genops(cloudpickle.dumps(task))}


@pytest.mark.parametrize("is_remote", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_a_long_film_is_read_in_stretches_after_a_kill_too_and_has_the_bytes_of_one_reading(
    is_remote: bool, served: Cli, site: Site
) -> None:
    path = served.folder / "long.mp4"
    film(path, list(range(0, 700_000, 1000)), size=(160, 120), g="20", qp="8", sc_threshold="0")
    with path.open("ab") as file:  # as large as long films are: smaller ones are not looked at
        file.write(struct.pack(">I4s", 5 << 20, b"free") + bytes((5 << 20) - 8))
    site.pages["/long.mp4"] = Reply(path.read_bytes(), etag='"v1"')
    video = site.url("/long.mp4") if is_remote else "long.mp4"
    recipe = {"corpus": "films", "source": {"name": "video_frames", "videos": video}}
    (served.folder / "films.toml").write_text(
        f'corpus = "films"\n[source]\nname = "video_frames"\nvideos = "{video}"\n'
    )
    store = DirectoryStore(served.folder / "whole")
    (served.folder / "whole").mkdir()
    publish.ingest(parse(recipe, root=served.folder), store, replace(context(served.folder), web=FAST))
    whole = [store.read(one.key) for one in store.list("films/shards/") if one.key.endswith(".tar")]
    site.log.clear()

    served.variables |= {"STOKER_WORKERS": "2" if is_remote else "1", "STOKER_ALLOW_PRIVATE": "127.0.0.1"}
    process = served.start("ingest", "films.toml")
    assert until(
        lambda: {layout.segment_number(key) for key in served.objects() if layout.is_segment(key)} & {*AT_ONCE}
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = served("ingest", "films.toml")
    assert done.returncode == 0, done.stderr
    found = served.objects()
    assert [found[key] for key in sorted(found) if "/shards/" in key and key.endswith(".tar")] == whole
    assert not [key for key in found if layout.is_segment(key)]
    asked = [request.headers.get("range") for request in site.asked("/long.mp4")]
    assert asked == ([None, f"bytes={path.stat().st_size - 1}-"] if is_remote else []), "it is sent once"
    assert not list(served.folder.glob(".stoker/downloads/*"))
