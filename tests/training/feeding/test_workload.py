"""A network trains on synthetic batches and on those of a stream, and its speed is measured."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from stoker.training.feeding.workload import feed, first_images, replay, workload_of
from stoker.training.pictures.pictures import PictureMaker
from stoker.training.stream.stream import ShardStream
from tests.training.conftest import Small

CPU = torch.device("cpu")


@pytest.mark.parametrize("network", ["resnet18", "lenet", "mlp", "lstm"])
def test_a_step_changes_the_weights(network: str) -> None:
    workload = workload_of(network, CPU, size=32)
    before = [weights.detach().clone() for weights in workload.module.parameters()]
    workload.step(workload.synthetic(2))
    pairs = zip(before, workload.module.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)


def test_the_rate_is_that_of_the_steps() -> None:
    workload = workload_of("mlp", CPU, size=8)
    steps: list[int] = []

    def slow(batch: torch.Tensor) -> None:
        steps.append(len(batch))
        time.sleep(0.01)

    object.__setattr__(workload, "step", slow)
    begun = time.monotonic()
    rate = replay(workload, torch.zeros(32), seconds=0.1)
    assert rate == pytest.approx(32 * len(steps) / (time.monotonic() - begun), rel=0.3)
    assert replay(workload, torch.zeros(32), seconds=60, stop=lambda: True) > 0


def test_a_network_is_fed_by_a_stream_also_beyond_an_epoch_and_the_stream_stays_where_it_is(digits: Small) -> None:
    stream = ShardStream(digits.store, digits.manifest, cache=digits.cache, batch_size=64, make=PictureMaker(28))
    workload = workload_of("lenet", CPU, size=28)
    fed = feed(workload, stream, workers=1, seconds=0.3)
    assert fed.samples_per_s > 0
    assert 0 <= fed.waited <= 1
    assert fed.idle is None
    assert (stream.epoch, stream.delivered) == (0, 0)
    assert first_images(stream, CPU).shape == (64, 28, 28, 3)
    stream.close()


HEAVY = {"prefect", "boto3", "botocore", "fastapi", "duckdb", "sqlalchemy", "webdataset", "httpx", "pydantic"}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_the_benchmark_of_a_gpu_skips_where_there_is_none_and_needs_little_of_what_stoker_requires() -> None:
    tiny = ["--device", "cpu", "--networks", "resnet18", "--size", "32", "--images", "12", "--batch-size", "4"]
    script = (
        "import sys\n"
        f"for name in {sorted(HEAVY)}: sys.modules[name] = None\n"  # importing it raises ImportError
        "from tests.benchmarks.gpu.bench_gpu import main\n"
        f"main([]); main({[*tiny, '--workers', '1', '--seconds', '0.1']})\n"
    )
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    skipped, machine, found = map(json.loads, done.stdout.splitlines())
    assert "no GPU" in skipped["skipped"]
    assert (machine["samples"], machine["device"]) == (12, "cpu")
    assert found["network"] == "resnet18"
    assert min(found[name] for name in ("synthetic_per_s", "replayed_per_s", "samples_per_s")) > 0
    assert found["idle"] is None
    assert 0 <= found["stall"] <= 1
