"""kill -9 at random moments: the bytes are those of an undisturbed run, and nothing finished is done again."""

import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.versions.manifest import load_manifest
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli

pytestmark = pytest.mark.slow
LINES = [line for number in range(24) for line in (f"word-{number}", "wait 0.04", "reject robots")]
KILLS = 5  # in a round
SEED = 20260101
RECIPE = "[shards]\nsamples = 4\npartitions = 4\n"


def shas(cli: Cli) -> dict[str, str]:
    return {key: hashlib.sha256(payload).hexdigest() for key, payload in cli.objects().items() if "/shards/" in key}


def done_partitions(cli: Cli) -> set[str]:
    return {json.loads(payload)["partition"] for key, payload in cli.objects().items() if key.endswith("/part.json")}


def run_and_kill(cli: Cli, recipe: str, after_s: float) -> None:
    """Start an ingest and kill it and all its children that long after; it may have ended before."""
    process = cli.start("ingest", recipe)
    deadline = time.monotonic() + after_s
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANGS_S)


@pytest.mark.parametrize("rounds", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_kills_change_no_byte_and_repeat_no_finished_partition(rounds: int, tmp_path: Path, prefect_url: str) -> None:
    calm = cli_in(tmp_path / "calm", prefect_url)
    started = time.monotonic()
    first = calm("ingest", calm.recipe(LINES, RECIPE))
    whole_s = time.monotonic() - started
    assert first.returncode == 0, first.stderr
    expected = shas(calm)
    assert len(expected) > 4
    moments = random.Random(SEED)
    for number in range(rounds):
        cli = cli_in(tmp_path / f"round-{number}", prefect_url)
        recipe = cli.recipe(LINES, RECIPE)
        for _ in range(KILLS):
            done, read = done_partitions(cli), len(cli.journal())
            run_and_kill(cli, recipe, moments.uniform(0.4, 1.0) * whole_s)
            assert not done & set(cli.journal()[read:])
        done, read = done_partitions(cli), len(cli.journal())
        last = cli("ingest", recipe)
        assert last.returncode == 0, last.stderr
        assert not done & set(cli.journal()[read:])
        assert {key: sha for key, sha in shas(cli).items() if key in expected} == expected
        versions = [key for key in cli.objects() if "/versions/" in key]
        assert len(versions) == 1
        store = DirectoryStore(cli.folder / ".stoker" / "store")
        named = {shard.sha256 for shard in load_manifest(store, "words").shards}
        assert named <= set(expected.values())
        assert cli("verify", "words").returncode == 0


def cli_in(folder: Path, prefect_url: str) -> Cli:
    folder.mkdir()
    assert os.access(folder, os.W_OK)
    return Cli(folder, {"STOKER_PREFECT_URL": prefect_url, "STOKER_RETRY_S": "0.05"})
