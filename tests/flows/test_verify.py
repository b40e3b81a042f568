"""`stoker verify` through the real command line."""

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
