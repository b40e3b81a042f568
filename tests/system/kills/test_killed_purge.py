"""kill -9 of `stoker forget --purge` at any moment: the same command goes on, and it is as if nothing had happened."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import stoker
from stoker.flows.cli.cli import main
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.measured.studies import Study, save_study
from stoker.storage.versions.memory.withdrawn import load_withdrawn
from tests.conftest import HANGS_S
from tests.pipelines.stages.forgetting.world import CORPUS, GONE, World, found, grown, holds_token, problems

pytestmark = pytest.mark.slow
SEED = 20260101
CHANGES = {"os.link": "create", "os.rename": "write", "os.remove": "delete"}  # how a folder's objects change
AT_RANDOM = 20
NEW = range(40, 56)  # pictures of an ingest that was killed

Change = tuple[str, str]  # what happens to an object, and in which folder of its corpus it lies


def store_in(folder: Path) -> DirectoryStore:
    return DirectoryStore(folder / ".stoker" / "store")


def watch(store: DirectoryStore, changes: list[Change], kill_at: int) -> None:
    """Note each change of an object from now on, and kill this process right before one, counted from 1; 0: never."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:  # Any: those of the event
        if event not in CHANGES:
            return
        name = os.fspath(arguments[0 if event == "os.remove" else 1])
        if name.startswith(f"{store.root}/{CORPUS}/"):
            changes.append((CHANGES[event], name.removeprefix(f"{store.root}/{CORPUS}/").partition("/")[0]))
            if len(changes) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


def command(folder: Path, words: list[str], kill_at: int) -> None:
    """Run `stoker WORDS` in a folder, in which the changes are written at its end."""
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith("STOKER_")]:
        del os.environ[name]
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    changes: list[Change] = []
    watch(store_in(folder), changes, kill_at)
    code = main(words)
    (folder / "changes.json").write_text(json.dumps(changes))
    sys.exit(code)


def killed_ingest(folder: Path, kill_at: int) -> None:
    """Read all files anew, and more."""
    world = World(folder, store_in(folder))
    world.put(*NEW)
    for number in GONE:
        (folder / "files" / f"{number:03d}.txt").write_text(f"again a picture of zyxgone{number:03d}")
    watch(store_in(folder), [], kill_at)
    world.run(again=True)


def start(target: Any, *arguments: object) -> BaseProcess:  # Any: functions of any arguments
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    process.join(HANGS_S)
    return process.exitcode


def samples_in(folder: Path) -> dict[int, dict[str, str]]:
    """The checksum of each sample of each version, by its key."""
    store = store_in(folder)
    return {
        number: {
            sample.key: sha256(repr(sorted(sample.fields.items())).encode()).hexdigest()
            for sample in stoker.version(store, f"{CORPUS}@{number}")
        }
        for number in catalog.versions(store, CORPUS)
    }


def receipts_in(folder: Path) -> list[dict[str, Any]]:  # Any: JSON values
    """What the purges so far say that they did, without the time and the number of a file that is written twice."""
    told = [dict(one.receipt) for one in load_withdrawn(store_in(folder), CORPUS)]
    return [{name: value for name, value in one.items() if name not in ("at", "tombstones")} for one in told]


@dataclass(frozen=True)
class Calm:
    """A store before a purge, and what an undisturbed purge makes of it."""

    folder: Path  # before
    words: list[str]  # of the command
    changes: list[Change]
    whole_s: float
    samples: dict[int, dict[str, str]]
    receipts: list[dict[str, Any]]  # Any: JSON values


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("purges")
    before = folder / "before"
    world = grown(before, store_in(before))
    gone = world.keys(*GONE)
    about = {"key": gone[0], "url": "https://example.org/zyxgone003.jpg", "expected": "cat"}
    evaluation = {"reference": f"{CORPUS}@2", "metrics": {"wrong": [about]}}
    checkpoint = {"version": f"{CORPUS}@2", "sample": "what a model wrote of zyxgone003", "metrics": {}}
    for key, content in {
        layout.evaluation(CORPUS, "cnn-0001", f"{CORPUS}@2", "test", 7): evaluation,
        layout.evaluation("birds", "cnn-0002", f"{CORPUS}@2", "test", 7): evaluation,
        f"{layout.run(CORPUS, 'lstm-0001')}000000010.json": checkpoint,
    }.items():
        world.store.write(key, json.dumps(content).encode())
    digest = load_manifest(world.store, CORPUS, 2).content
    save_study(world.store, Study(CORPUS, 2, "quick", digest, "accuracy", "2026-01-01T00:00:00+00:00"))
    held = len(found(world.store, *GONE))
    assert ended(start(killed_ingest, before, 16)) == -signal.SIGKILL
    assert len(found(world.store, *GONE)) > held
    assert list(world.store.list(layout.leases(CORPUS)))  # of a process that is gone: the purge goes on at once
    kept = {
        number: {key: one for key, one in samples.items() if key not in gone}
        for number, samples in samples_in(before).items()
    }
    words = ["forget", CORPUS, *(word for key in gone for word in ("--key", key)), "--purge", "--yes"]
    shutil.copytree(before, folder / "whole")
    started = time.monotonic()
    assert ended(start(command, folder / "whole", words, 0)) == 0, (folder / "whole" / "output").read_text()
    whole_s = time.monotonic() - started
    changes = [(kind, of) for kind, of in json.loads((folder / "whole" / "changes.json").read_text())]
    newest = max(kept) + 1
    return Calm(before, words, changes, whole_s, kept | {newest: kept[newest - 1]}, receipts_in(folder / "whole"))


def check_whole(calm: Calm, folder: Path) -> None:
    """Everything is as after an undisturbed purge."""
    assert samples_in(folder) == calm.samples
    assert receipts_in(folder) == calm.receipts
    assert problems(store_in(folder)) == []
    files = [path for path in (folder / ".stoker").rglob("*") if path.is_file()]
    assert [path for path in files if holds_token(path.name, path.read_bytes(), GONE)] == []


def test_a_purge_leaves_nothing_also_of_a_killed_ingest(calm: Calm) -> None:
    check_whole(calm, calm.folder.parent / "whole")
    assert len(calm.receipts) == 1
    kinds = set(calm.changes)
    assert {("create", "tombstones"), ("create", "versions"), ("create", "withdrawn"), ("delete", "shards")} <= kinds
    assert {("write", "runs"), ("delete", "studies"), ("delete", "raw"), ("create", "memory")} <= kinds


def killed(calm: Calm, folder: Path, *, at: int = 0, after_s: float = HANGS_S) -> bool:
    """Whether the command was killed, right before a change or that long after it was begun."""
    shutil.copytree(calm.folder, folder)
    process = start(command, folder, calm.words, at)
    process.join(after_s)
    process.kill()
    return ended(process) == -signal.SIGKILL


def check_it_goes_on(calm: Calm, folder: Path) -> None:
    """What the killed command left is whole, and the same command brings it to its end."""
    assert problems(store_in(folder)) == []
    for number, samples in samples_in(folder).items():
        assert calm.samples[number].items() <= samples.items()
    assert ended(start(command, folder, calm.words, 0)) == 0, (folder / "output").read_text()
    check_whole(calm, folder)


@pytest.mark.parametrize(
    "kinds",
    [
        [("write", "tombstones"), ("create", "withdrawn"), ("delete", "shards")],
        pytest.param([], marks=pytest.mark.nightly, id="each change"),
    ],
)
def test_a_command_that_is_killed_at_a_change_goes_on(calm: Calm, tmp_path: Path, kinds: list[Change]) -> None:
    for number in [calm.changes.index(kind) + 1 for kind in kinds] or range(1, len(calm.changes) + 1):
        folder = tmp_path / f"{number}"
        assert killed(calm, folder, at=number), number
        check_it_goes_on(calm, folder)


@pytest.mark.parametrize("moments", [1, pytest.param(AT_RANDOM, marks=pytest.mark.nightly)])
def test_a_command_that_is_killed_at_any_moment_goes_on(calm: Calm, tmp_path: Path, moments: int) -> None:
    chance = random.Random(SEED)
    times = 0
    for number in range(100 * moments):  # it may be faster than before
        folder = tmp_path / f"{number}"
        times += killed(calm, folder, after_s=chance.uniform(0, calm.whole_s))
        check_it_goes_on(calm, folder)
        if times == moments:
            return
    pytest.fail(f"it was killed {times} times of {moments}")
