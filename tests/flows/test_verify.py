"""`stoker verify`, and its repair, through the real command line."""

import json

import pytest

from tests.flows.conftest import Cli
from tests.storage.external_tars import numbered, tar

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
    key = str(shard.relative_to(served.folder / ".stoker/store"))
    assert f"written again: {key}" in repaired.stdout.replace("\n", "")
    assert repaired.stdout.count("written again") == 1
    assert served("verify", "words").returncode == 0
    for records in (served.folder / ".stoker/store/words/raw").rglob("records-*.parquet"):
        records.chmod(0o644)
        records.write_bytes(records.read_bytes()[:-1])
    left = served("verify", "words@1", "--repair", "--json")
    assert left.returncode == 1
    told = json.loads(left.stdout)
    assert "`stoker ingest` of the recipe reads this partition again" in told["advice"][0]
    assert (told["rewritten"], {key.rpartition("/")[2] for key in told["removed"]}) == ([], {"part.json"})
    assert served("ingest", recipe).returncode == 0
    assert served("verify", "words").returncode == 0


@pytest.mark.parametrize("kind", ["statistics", "shards"])
def test_a_damaged_list_is_not_repaired_but_told_with_what_helps(kind: str, served: Cli) -> None:
    recipe = served.recipe([f"word-{number}" for number in range(9)])
    assert served("ingest", recipe).returncode == 0
    (path,) = (served.folder / ".stoker/store/words/lists").glob(f"{kind}-*")
    path.unlink()
    left = served("verify", "words@1", "--repair", "--json")
    assert left.returncode == 1, left.stderr
    told = json.loads(left.stdout)
    assert len(told["advice"]) == 1
    assert f"words/lists/{path.name}, whose SHA-256 is" in told["advice"][0]
    assert "or ingest again" in told["advice"][0]
    assert (told["rewritten"], told["removed"]) == ([], [])
    assert served("ingest", recipe).returncode == 0
    assert served("verify", "words").returncode == 0


def test_what_no_repair_heals_is_told_with_another_remedy_than_the_repair(served: Cli) -> None:
    recipe = served.recipe([f"word-{number}" for number in range(9)])
    assert served("ingest", recipe).returncode == 0
    (served.folder / ".stoker/store/words/versions/00000009.deleted").touch()
    left = served("verify", "words@1", "--repair")
    said = " ".join(left.stdout.split())
    assert left.returncode == 1, left.stderr
    assert "nothing else in the store tells what was in words/versions/00000009.deleted" in said
    assert "--repair" not in said


def test_a_repair_of_indexed_tars_says_what_it_wrote_and_removed(served: Cli) -> None:
    (served.folder / "theirs").mkdir()
    (served.folder / "theirs" / "a.tar").write_bytes(tar(numbered(0, 8)))
    assert served("index", "theirs").returncode == 0
    store = served.folder / ".stoker/store"
    (decisions,), (marker,) = (list((store / "theirs").rglob(name)) for name in ("decisions/*.parquet", "group.json"))
    for path in (decisions, marker):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-9])
    found = json.loads(served("verify", "theirs", "--json").stdout)
    names = [str(path.relative_to(store)) for path in (decisions, marker)]
    assert [problem.partition(": ")[0] for problem in found["problems"]] == names
    assert "removed" not in found
    done = served("verify", "theirs", "--repair", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rewritten"], told["removed"], told["advice"], told["problems"]) == (names[:1], names[1:], [], [])
    again = served("index", "theirs")
    assert "no new one was made" in again.stderr
    assert marker.exists()
