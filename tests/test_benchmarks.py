"""The benchmarks still run: their samples are the same every time, and Stoker's own contender reads them all."""

import bz2
import importlib.util
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import HANGS_S

FOLDER = Path(__file__).resolve().parent / "benchmarks"
PAGE = """  <page><title>Tin</title><ns>0</ns><id>7</id><revision><id>8</id><timestamp>2026-01-01T00:00:00Z</timestamp>
<contributor><username>Ann</username><id>5</id></contributor><model>wikitext</model><text>'''Tin''' melts.</text>
</revision></page>
"""


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None or importlib.util.find_spec("torch") is None,
    reason="scikit-learn or torch is not installed",
)
def test_stoker_and_the_floor_read_every_sample_of_the_stream_benchmark(tmp_path: Path) -> None:
    sys.path.insert(0, str(FOLDER.parents[1]))
    try:
        from tests.benchmarks import stream_data
        from tests.benchmarks.stream_peers import CONTENDERS, SIZE, Task
    finally:
        sys.path.pop(0)
    assert stream_data.samples(3) == stream_data.samples(3)
    kinds = stream_data.samples(12, kinds=True)
    assert kinds == stream_data.samples(12, kinds=True)
    assert len({Image.open(io.BytesIO(jpg)).size for _, jpg, _ in kinds}) > 3
    triples = stream_data.samples(64)
    stream_data.prepare(tmp_path, triples, 8, ["stoker", "walk", "stoker-masked"])
    payloads = {jpg for _, jpg, _ in triples}
    for name in ("stoker", "walk"):
        ranks = [
            replace(Task(tmp_path, "local", False, 1, 1, tmp_path / "cache"), rank=rank, world_size=2)
            for rank in (0, 1)
        ]
        shares = [{bytes(sample[0]) for batch in CONTENDERS[name](task) for sample in batch} for task in ranks]
        assert shares[0] | shares[1] == payloads
        assert not shares[0] & shares[1]
    masked = Task(tmp_path, "local", False, 1, 1, tmp_path / "cache")
    left = [bytes(sample[0]) for batch in CONTENDERS["stoker-masked"](masked) for sample in batch]
    assert sorted(left) == sorted(jpg for number, (_, jpg, _) in enumerate(triples) if number % 5)
    for name in ("stoker", "walk", "stoker-same"):
        decoded = Task(tmp_path, "local", True, 1, 1, tmp_path / "cache")
        shapes = [tuple(batch.shape) for batch in CONTENDERS[name](decoded)]
        assert shapes == [(64, SIZE, SIZE, 3)]


def test_the_wikipedia_benchmark_reads_every_page_and_prints_the_ratios(tmp_path: Path) -> None:
    dump = tmp_path / "enwiki.xml.bz2"
    dump.write_bytes(bz2.compress(f"<mediawiki><siteinfo></siteinfo>\n{PAGE}</mediawiki>\n".encode()))
    command = [sys.executable, str(FOLDER / "bench_wikipedia.py"), str(dump), "--rounds", "1", "--repeat", "3"]
    environment = {**os.environ, "PATH": os.defpath}  # without the peer
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert "3 pages, 30 characters" in done.stdout
    assert "Stoker / bz2 alone: median ratio" in done.stdout


def test_the_curation_benchmark_asks_stoker_and_duckdb_the_same() -> None:
    command = [sys.executable, str(FOLDER / "bench_curation.py"), "--records", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["where", "exact_duplicates"]


@pytest.mark.nightly
def test_the_trainer_costs_little_beside_a_bare_loop_and_a_plain_script() -> None:
    """Bounds for a busy machine; the benchmark itself is for a quiet one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent.parent)}
    command = [sys.executable, str(FOLDER / "bench_train.py"), "--rounds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3600)
    assert done.returncode == 0, done.stderr
    lenet, lstm = map(json.loads, done.stdout.splitlines())
    assert lenet["ratio"] < 1.1
    assert lstm["ratio"] < 1.1
    assert lstm["loss"] < 1.02


@pytest.mark.parametrize("urls", [20_000, pytest.param(10**7, marks=pytest.mark.nightly)])
def test_an_unchanged_list_is_seen_to_be_so_and_of_a_longer_one_the_new_url_alone_is_planned(
    tmp_path: Path, urls: int
) -> None:
    words = [sys.executable, str(FOLDER / "bench_plan.py"), "--urls", str(urls), "--folder", str(tmp_path)]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=HANGS_S if urls < 10**6 else 3600)
    first, unchanged, longer = (json.loads(line[line.index("{") :]) for line in told.stdout.splitlines())
    assert (first["asked"] > 0, unchanged["asked"], longer["asked"]) == (True, 0, 1)
    assert (first["seconds"] < 200 * urls / 10**7 + 2, longer["seconds"] < 20 * urls / 10**7 + 2) == (True, True)
    assert unchanged["seconds"] < 5
    assert max(first["megabytes"], unchanged["megabytes"], longer["megabytes"]) < 300


@pytest.mark.parametrize("records", [10_000, pytest.param(10**6, marks=pytest.mark.nightly)])
def test_one_candidate_of_many_is_found_by_few_requests_in_a_fifth_of_a_second(tmp_path: Path, records: int) -> None:
    words = [
        sys.executable,
        str(FOLDER / "million" / "bench_why.py"),
        "--records",
        str(records),
        "--folder",
        str(tmp_path),
    ]
    told = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=HANGS_S if records < 10**6 else 3600
    )
    *lines, _ = map(json.loads, told.stdout.splitlines())
    asked = {line["what"]: line for line in lines if line["how"] == "with lookups"}
    assert {what: line["found"] for what, line in asked.items()} == {
        "kept": ["kept"], "refused": ["rejected"], "dropped": ["dropped"], "unknown": []
    }  # fmt: skip
    assert all(line["cpu_s"] < 0.2 and line["requests"] < 20 for line in asked.values()), asked
    anew, more = (line for line in lines if line["what"] == "publish")
    assert anew["written"] < 30 * records
    assert anew["cpu_s"] < 20 * records / 10**6 + 1
    assert more["written"] < anew["written"] / 50


@pytest.mark.parametrize(
    ("records", "more"),
    [
        (10_000, ["--few"]),
        pytest.param(10**6, [], marks=pytest.mark.nightly),
        pytest.param(10**6, ["--few"], marks=pytest.mark.nightly),
    ],
)
def test_many_samples_are_curated_again_in_seconds_and_few_bytes_are_written(
    tmp_path: Path, records: int, more: list[str]
) -> None:
    script = FOLDER / "million" / "bench_curate.py"
    words = [sys.executable, str(script), "--records", str(records), "--folder", str(tmp_path), *more]
    told = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=HANGS_S if records < 10**6 else 3600
    )
    made, curated, _ = map(json.loads, told.stdout.splitlines())
    assert curated["samples"] == made["samples"] - curated["dropped"]
    assert 0 < curated["dropped"] < records / 50
    assert curated["cpu_s"] < 25 * records / 10**6 + 2
    assert curated["written"] < 10**7
