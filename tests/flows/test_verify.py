"""`stoker verify`, and its repair, through the real command line."""

import pytest

from tests.flows.conftest import Cli

pytestmark = pytest.mark.slow


def test_a_damaged_version_fails_verification_with_what_and_where(served: Cli) -> None:
    recipe = served.recipe([f"word-{number}" for number in range(120)], more="[shards]\nsamples = 50\n")
    assert served("ingest", recipe).returncode == 0
    intact = served("verify", "words")
    assert intact.returncode == 0, intact.stderr
    assert "words@1 is whole" in intact.stdout
    shard = next((served.folder / ".stoker/store/words/shards").rglob("train-00000.tar"))
    payload = bytearray(shard.read_bytes())
    payload[700] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(payload)
    done = served("verify", "words@1")
    assert done.returncode == 1, done.stderr
    assert "damaged" in done.stdout
    assert "train-00000.tar" in done.stdout.replace("\n", "")
    assert "Traceback" not in done.stderr
    assert "stoker verify --repair words@1" in " ".join(done.stdout.split())
    repaired = served("verify", "words@1", "--repair")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert "words@1 is whole" in repaired.stdout
    assert served("verify", "words").returncode == 0
    for records in (served.folder / ".stoker/store/words/raw").rglob("records-*.parquet"):
        records.chmod(0o644)
        records.write_bytes(records.read_bytes()[:-1])
    left = served("verify", "words@1", "--repair")
    assert left.returncode == 1
    assert "`stoker ingest` of the recipe reads this partition again" in " ".join(left.stdout.split())
    assert served("ingest", recipe).returncode == 0
    assert served("verify", "words").returncode == 0
