"""A billion samples in 100,000 shards on 1,024 ranks: order, share and restore at once, in little memory."""

import json
import subprocess
import sys

import pytest

from tests.conftest import HANGS_S

_MEASURED = """
import json, resource, time
from stoker.storage.versions.manifest import Decisions, Manifest, Shard
from stoker.storage.stores.memory import MemoryStore
from stoker.training import ShardStream
import numpy, pyarrow

def grown():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def manifest():
    def shard(number):
        return Shard(f"c/shards/{number:032x}/train-00000.tar", "train", 10_000, 10**9, f"{number:064x}",
                     f"c/shards/{number:032x}/train-00000.parquet", 10**6, f"{number:064x}", f"{number:032x}")
    return Manifest("c", 1, "", "0", {}, "0", None, "0" * 32, (), tuple(map(shard, range(100_000))),
                    Decisions("d", 1, "0", {}, 0), {}, {})

made = manifest()
found = {}
store = MemoryStore()
before, at = grown(), time.perf_counter()
stream = ShardStream(store, made, batch_size=4096, seed=1, rank=1023, world_size=1024)
found["build_s"] = time.perf_counter() - at
at = time.perf_counter()
shards, rows = stream.order(0).locate(0, 4096)
found["order_s"] = time.perf_counter() - at
at = time.perf_counter()
state = stream.state_dict() | {"epoch": 3, "delivered": 4096 * 200_000}
stream.load_state_dict(state)
found["restore_s"] = time.perf_counter() - at
at = time.perf_counter()
shares = [stream.locate(stream.epoch, stream.delivered + 4 * rank, stream.delivered + 4 * rank + 4)
          for rank in range(1024)]
found["share_s"] = time.perf_counter() - at
assert sum(len(rows) for one in shares for _, some in one for _, rows, _ in some) == 4096
assert stream.samples == 10**9 and len(shards) == len(rows) == 4096
found["megabytes"] = grown() - before
found["state"] = len(json.dumps(state))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_order_share_and_restore_of_a_billion_samples_take_under_a_second_and_200_megabytes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED], capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    for name in ("build_s", "order_s", "restore_s", "share_s"):
        assert found[name] < 1, found
    assert found["megabytes"] < 200
    assert found["state"] < 500  # bytes
