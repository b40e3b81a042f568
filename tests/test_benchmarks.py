"""The benchmarks still run: their samples are the same every time, and Stoker's own contender reads them all."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None or importlib.util.find_spec("torch") is None,
    reason="scikit-learn or torch is not installed",
)
FOLDER = Path(__file__).resolve().parent / "benchmarks"


def test_stoker_and_the_floor_read_every_sample_of_the_stream_benchmark(tmp_path: Path) -> None:
    sys.path.insert(0, str(FOLDER.parents[1]))
    try:
        from tests.benchmarks import bench_stream
        from tests.benchmarks.stream_peers import CONTENDERS, SIZE, Task
    finally:
        sys.path.pop(0)
    assert bench_stream.samples(3) == bench_stream.samples(3)
    bench_stream.prepare(tmp_path, 64, ["stoker", "walk"])
    payloads = {jpg for _, jpg, _ in bench_stream.samples(64)}
    for name in ("stoker", "walk"):
        raw = Task(tmp_path, "local", False, 1, 1, tmp_path / "cache")
        assert {bytes(sample[0]) for batch in CONTENDERS[name](raw) for sample in batch} == payloads
        decoded = Task(tmp_path, "local", True, 1, 1, tmp_path / "cache")
        shapes = [tuple(batch.shape) for batch in CONTENDERS[name](decoded)]
        assert shapes == [(64, SIZE, SIZE, 3)]
