"""The stream beside other loaders on the same samples, local and from a real S3 server: `make bench-stream`.

    python tests/benchmarks/bench_stream.py [--samples 8192] [--rounds 3] [--only stoker,dali]
        [--rows "S3 raw;no worker"] [--quick] [--photographs FOLDER]

Samples are JPEGs of 256 px and about 18 KB with a small JSON each; "large": four times as many, several times what
window and cache hold; "photographs": of 500 px, of many shapes, qualities and ways of compression, cut out of
scikit-learn's two and of those in FOLDER. Raw: every contender's loop copies every byte of the payloads once. Decoded:
random crops of 224 px in batches of 128; peers are given simplejpeg and OpenCV. `webdataset-pillow` is webdataset with
its default, `stoker-same` the stream with the peers' decoder, `walk` the bare loop over an index, a memory map and the
region decoder. spdl does not shuffle.

Each contender runs in processes of its own, one a rank, in turn, round by round. What counts is `with first/s`: all
samples and all time, from when its libraries are imported: opening the store, making the stream and its workers
included. `after/s` and processor time (of the whole tree of processes) count from the first batch on, before which some
have read much ahead. Caches are empty at first, so `stoker` also verifies the checksum of every shard; `stoker-again`
is the next run, which finds them verified; `stoker-masked` reads a version that leaves out every fifth sample by masks:
0.8 times as many samples a second are as many stored bytes. Figures are medians over the rounds, ratios medians of each
round's ratios to `stoker`.
"""

import argparse
import importlib.metadata
import json
import os
import resource
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.stream_data import prepare, samples, upload
from tests.benchmarks.stream_peers import CONTENDERS, PACKAGES, Task, import_libraries

SHARDS = 8
LARGE = 4  # times as many samples, in shards of the same size
_LIMIT_S = 300


@dataclass(frozen=True)
class Row:
    """What all contenders do: ``data`` is "plain", "large" or "photographs"."""

    where: str
    decoded: bool
    workers: int
    epochs: int = 1
    data: str = "plain"
    ranks: int = 1
    window: int = 8  # shards
    cache: float = 0.0  # share of the data that a cache may hold; 0: as the contender's default is


ROWS = {
    "local raw, 1 worker": Row("local", False, 1, 6),
    "local raw, no worker": Row("local", False, 0, 6),
    "S3 raw, no worker": Row("s3", False, 0),
    "S3 raw, 1 worker": Row("s3", False, 1),
    "S3 raw, 2 workers": Row("s3", False, 2),
    "S3 raw, large, 1 worker": Row("s3", False, 1, data="large", window=4, cache=0.3),
    "local decoded, no worker": Row("local", True, 0),
    "local decoded, 1 worker": Row("local", True, 1),
    "local decoded, 2 workers": Row("local", True, 2),
    "local decoded, 8 workers": Row("local", True, 8),
    "local decoded, photographs, 2 workers": Row("local", True, 2, data="photographs"),
    "local decoded, 2 ranks of 1 worker": Row("local", True, 1, ranks=2),
    "local decoded, 4 ranks of 1 worker": Row("local", True, 1, ranks=4),
    "S3 decoded, 2 workers": Row("s3", True, 2),
}


def child(contender: str, task: Task) -> dict[str, float]:
    """Run one contender in this process."""
    import psutil  # type: ignore[import-untyped,unused-ignore]  # its stubs are not installed
    import torch.distributed
    import torch.utils.data  # every contender's loop has it

    me = psutil.Process()

    def cpu() -> float:
        this = resource.getrusage(resource.RUSAGE_SELF)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = this.ru_utime + this.ru_stime + ended.ru_utime + ended.ru_stime
        for process in me.children(recursive=True):
            try:
                times = process.cpu_times()
                total += times.user + times.system
            except psutil.Error:
                continue  # it has just ended, and is counted in RUSAGE_CHILDREN
        return total

    def memory() -> float:
        total = 0
        for process in (me, *me.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total / 1e6

    before = memory()
    if task.world_size > 1:
        torch.distributed.init_process_group("gloo")
    import_libraries(contender)
    if task.world_size > 1:
        torch.distributed.barrier()
    started = time.perf_counter()
    first = used = 0.0
    seen = counted = 0
    peak = before
    probing = probing_cpu = 0.0  # time spent on measuring memory, which is not the contender's
    for number, batch in enumerate(CONTENDERS[contender](task)):
        if task.decoded:
            seen += len(batch)
        else:
            for sample in batch:
                for payload in sample:
                    bytes(memoryview(payload))  # every byte copied once
            seen += len(batch)
        if not number:
            first, used, counted = time.perf_counter(), cpu(), seen
        elif number in (2, 7, 20) or number % 64 == 63:
            since, since_cpu = time.perf_counter(), time.thread_time()
            peak = max(peak, memory())
            probing += time.perf_counter() - since
            probing_cpu += time.thread_time() - since_cpu
        last = time.perf_counter() - probing
    total = cpu() - probing_cpu
    rest = max(1, seen - counted)
    return {
        "samples": seen,
        "rate": rest / max(1e-9, last - first),
        "seconds": last - started,
        "cpu_ms": (total - used) / rest * 1e6,
        "first_ms": (first - started) * 1e3,
        "peak_mb": peak - before,
    }


_ROOT = Path(__file__).resolve().parents[2]


def measure_apart(contender: str, task: Task, ranks: int) -> dict[str, Any]:  # Any: JSON values
    """Run one contender in processes of its own, one a rank; their figures together."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "PYTHONPATH": str(_ROOT),
        "S3_ENDPOINT_URL": task.endpoint,
        "AWS_ENDPOINT_URL": task.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "HF_HUB_OFFLINE": "1",
        "LITDATA_DISABLE_VERSION_CHECK": "1",  # or it waits for an answer from the network
        "TOKENIZERS_PARALLELISM": "false",
    }
    if task.where == "s3":
        environment |= dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), task.facts["keys"], strict=True))
    processes = []
    for rank in range(ranks):
        own = replace(task, rank=rank, world_size=ranks)
        named = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks), "RANK": str(rank)}
        named |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks), "GLOBAL_RANK": str(rank)}
        command = [sys.executable, __file__, "--child", contender, json.dumps(asdict(own), default=str)]
        processes.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment | (named if ranks > 1 else {}),
                cwd=_ROOT,
            )
        )
    try:
        outputs = [process.communicate(timeout=_LIMIT_S) for process in processes]
    except subprocess.TimeoutExpired:
        return {"error": f"no end in {_LIMIT_S} s"}
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    figures = []
    for process, (stdout, stderr) in zip(processes, outputs, strict=True):
        lines = [line for line in stdout.splitlines() if line.startswith("{")]
        if process.returncode or not lines:
            message = " ".join(stderr.split()[-40:]) or "no output"
            return {"error": message[-300:]}
        figures.append(json.loads(lines[-1]))
    return _together(figures)


def _together(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of all ranks: the slowest ends the run, and has the first global batch."""
    count = sum(rank["samples"] for rank in ranks)
    return {
        "samples": count,
        "rate": sum(rank["rate"] for rank in ranks),
        "whole": count / max(1e-9, *(rank["seconds"] for rank in ranks)),
        "cpu_ms": sum(rank["cpu_ms"] * rank["samples"] for rank in ranks) / max(1, count),
        "first_ms": max(rank["first_ms"] for rank in ranks),
        "peak_mb": sum(rank["peak_mb"] for rank in ranks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="names, with commas between")
    parser.add_argument("--rows", help="parts of the rows' names, with ; between")
    parser.add_argument("--quick", action="store_true", help="1,024 samples, one round")
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs that are cut up, too")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fields = json.loads(options.child[1])
        task = Task(**{**fields, "folder": Path(fields["folder"]), "cache": Path(fields["cache"])})
        print(json.dumps(child(options.child[0], task)))
        return
    count, rounds = (1024, 1) if options.quick else (options.samples, options.rounds)
    names = [name for name in CONTENDERS if (not options.only or name in options.only.split(","))]
    absent = [name for name in names if name in PACKAGES and not _version(PACKAGES[name])]
    names = [name for name in names if name not in absent]
    rows = {
        name: row
        for name, row in ROWS.items()
        if not options.rows or any(part in name for part in options.rows.split(";"))
    }
    print(
        ", ".join(f"{package} {_version(package)}" for package in sorted(set(PACKAGES.values()) | {"stoker", "torch"}))
    )
    if absent:
        print(f"not installed: {', '.join(absent)}")
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder:
        sizes = Path(folder), count, options.photographs
        results = _measure(*sizes, rounds, names, rows)
    for name, figures in results.items():
        _show(name, figures)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def _measure(
    folder: Path, count: int, photographs: Path | None, rounds: int, names: Sequence[str], rows: Mapping[str, Row]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    from stoker.flows.services import seaweed

    plain = samples(count)
    shapes: dict[str, tuple[list[tuple[str, bytes, bytes]], int]] = {
        "plain": (plain, SHARDS),
        "large": (
            [(f"{part}-{key}", jpg, record) for part in range(LARGE) for key, jpg, record in plain],
            LARGE * SHARDS,
        ),
        "photographs": (samples(count // 4, kinds=True, photographs=photographs), SHARDS),
    }
    for data in {row.data for row in rows.values()}:
        prepare(folder / data, *shapes[data], names)
    server = None
    results: dict[str, dict[str, list[dict[str, Any]]]] = {row: {name: [] for name in names} for row in rows}
    try:
        if any(row.where == "s3" for row in rows.values()):
            secret_key = secrets.token_hex(16)
            server = seaweed.start(folder / "seaweed", access_key="bench", secret_key=secret_key, bucket="bench")
            server.wait_ready()
            server.create_bucket()
            for data in {row.data for row in rows.values() if row.where == "s3"}:
                upload(folder, folder / data, server)
        for number in range(rounds):
            for title, row in rows.items():
                for name in names:
                    cache = folder / "cache"
                    if (
                        (row.where == "s3" and name in ("walk", "stoker-again"))
                        or (name in ("webdataset-pillow", "stoker-same") and not row.decoded)
                        or (name == "stoker-masked" and row.decoded)
                    ):
                        continue
                    if name != "stoker-again":
                        shutil.rmtree(cache, ignore_errors=True)
                    cache.mkdir(exist_ok=True)
                    task = Task(
                        folder / row.data,
                        row.where,
                        row.decoded,
                        row.workers,
                        row.epochs,
                        cache,
                        server.endpoint if server else "",
                        window=row.window,
                    )
                    task = replace(task, cache_megabytes=round(row.cache * task.facts["bytes"] / 1e6))
                    figures = measure_apart(name, task, row.ranks)
                    results[title][name].append(figures)
                    print(f"round {number + 1}: {title}: {name}: {figures}", file=sys.stderr, flush=True)
    finally:
        if server is not None:
            server.stop(now=True)
    return results


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _show(row: str, figures: dict[str, list[dict[str, Any]]]) -> None:
    print(f"\n{row}")
    heads = f"{'with first/s':>13}{'x':>6}{'after/s':>10}{'x':>6}{'CPU ms/1,000':>13}{'first ms':>9}{'peak MB':>8}"
    print(f"  {'':<19}{heads}")
    ours = figures.get("stoker", [])
    for name, runs in figures.items():
        good = [(number, run) for number, run in enumerate(runs) if "rate" in run]
        if not good:
            if runs:
                print(f"  {name:<19}  {runs[0].get('error', 'not measured')}")
            continue
        middle = {key: statistics.median(run[key] for _, run in good) for key in good[0][1]}
        beside = [(run, ours[number]) for number, run in good if number < len(ours) and "rate" in ours[number]]
        ratios = {
            key: f"{statistics.median(run[key] / our_run[key] for run, our_run in beside):.2f}" if beside else "-"
            for key in ("rate", "whole")
        }
        print(
            f"  {name:<19}{middle['whole']:>13,.0f}{ratios['whole']:>6}{middle['rate']:>10,.0f}{ratios['rate']:>6}"
            f"{middle['cpu_ms']:>13,.1f}{middle['first_ms']:>9,.0f}{middle['peak_mb']:>8,.0f}"
        )


if __name__ == "__main__":
    main()
