"""The stream beside other loaders on the same samples, local and from a real S3 server: `make bench-stream`.

    python tests/benchmarks/bench_stream.py [--samples 8192] [--rounds 3] [--only stoker,dali] [--rows raw] [--quick]

Samples are JPEGs of 256 px and about 18 KB with a small JSON each. Raw: every contender's loop copies every byte of the
payloads once. Decoded: random crops of 224 px in batches of 128; peers are given simplejpeg and OpenCV,
`webdataset-pillow` is webdataset with its default, `walk` the bare loop over an index, a memory map and the region
decoder. Each contender runs in a process of its own, in turn, round by round; rates and processor time (of the whole
tree of processes) count from the first batch on, which is reported by itself and begins when everything is imported.
Some have read much ahead by then: `with first/s` counts all samples and the time from the beginning.
Caches are empty at first, so `stoker` also verifies the checksum of every shard; `stoker-again` is the next run, which
finds them verified. Figures are medians over the rounds, ratios medians of each round's ratios.
"""

import argparse
import importlib.metadata
import io
import json
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.stream_peers import CONTENDERS, PACKAGES, Task

SHARDS = 8
ROWS = {  # name → (where, decoded, workers, epochs)
    "local raw, 1 worker": ("local", False, 1, 6),
    "S3 raw, 1 worker": ("s3", False, 1, 1),
    "local decoded, 1 worker": ("local", True, 1, 1),
    "local decoded, 2 workers": ("local", True, 2, 1),
    "S3 decoded, 2 workers": ("s3", True, 2, 1),
}


def samples(count: int) -> list[tuple[str, bytes, bytes]]:
    """Keys, JPEGs and JSON, the same on every machine: pieces of scikit-learn's photographs."""
    import random

    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    draw = random.Random(1)
    jpegs = []
    for number in range(min(count, 512)):
        photograph = photographs[number % len(photographs)]
        side = draw.uniform(0.35, 1) * min(photograph.size)
        left, top = draw.uniform(0, photograph.width - side), draw.uniform(0, photograph.height - side)
        image = photograph.resize((256, 256), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=88)
        jpegs.append(file.getvalue())
    return [
        (f"sample-{number:06d}", jpegs[number % len(jpegs)], json.dumps({"label": number % 10, "n": number}).encode())
        for number in range(count)
    ]


def prepare(folder: Path, count: int, names: Sequence[str]) -> None:
    """Write the samples in every contender's own format."""
    from stoker.storage import open_store
    from stoker.storage.shards.sample import Sample
    from tests.training import corpora

    triples = samples(count)
    store = open_store(str(folder / "stoker"))
    ours = [Sample(key, {"jpg": jpg}, json.loads(record)) for key, jpg, record in triples]
    manifest = corpora.version(store, folder, {"train": ours}, corpus="bench", per_shard=-(-count // SHARDS))
    tars = [str(store.path(shard.key)) for shard in manifest.shards]
    facts: dict[str, Any] = {
        "samples": count,
        "tars": tars,
        "dali": [],
        "bytes": sum(len(jpg) for _, jpg, _ in triples),
    }
    if "mosaicml-streaming" in names:
        _write_mds(folder / "mds", triples)
    if "litdata" in names:
        _write_litdata(folder / "litdata", triples)
    if "dali" in names:
        for tar in tars:
            facts["dali"].append(f"{folder}/{len(facts['dali'])}.idx")
            subprocess.run([Path(sys.executable).with_name("wds2idx"), tar, facts["dali"][-1]], check=True)
    if "energon" in names:
        _write_energon(folder / "energon", tars)
    (folder / "facts.json").write_text(json.dumps(facts))


def _write_mds(folder: Path, triples: Sequence[tuple[str, bytes, bytes]]) -> None:
    code = (
        "import pickle, sys; from tests.benchmarks.stream_peers import stub_torchvision; stub_torchvision()\n"
        "from streaming import MDSWriter\n"
        "with MDSWriter(out=sys.argv[1], columns={'jpg': 'bytes', 'json': 'bytes'}, size_limit='20mb') as out:\n"
        "    for _, jpg, record in pickle.load(sys.stdin.buffer): out.write({'jpg': jpg, 'json': record})\n"
    )
    import pickle

    subprocess.run([sys.executable, "-c", code, str(folder)], input=pickle.dumps(triples), check=True, cwd=_ROOT)


def _write_litdata(folder: Path, triples: Sequence[tuple[str, bytes, bytes]]) -> None:
    from litdata.streaming.writer import BinaryWriter  # type: ignore[import-not-found,unused-ignore]  # see peers.txt

    folder.mkdir(parents=True)
    writer = BinaryWriter(str(folder), chunk_bytes="20MB")
    for number, (_, jpg, record) in enumerate(triples):
        writer[number] = (jpg, record)
    writer.done()
    writer.merge()


def _write_energon(folder: Path, tars: Sequence[str]) -> None:
    # In peers.txt alone, as every contender:
    from megatron.energon.flavors import BaseWebdatasetFactory  # type: ignore[import-not-found,unused-ignore]

    folder.mkdir(parents=True)
    for number, tar in enumerate(tars):
        shutil.copyfile(tar, folder / f"{number:03d}.tar")
    names = [f"{number:03d}.tar" for number in range(len(tars))]
    BaseWebdatasetFactory.prepare_dataset(folder, names, split_parts_ratio=[("train", 1.0)], workers=1)
    text = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
    (folder / ".nv-meta" / "dataset.yaml").write_text(text)


def upload(folder: Path, server: Any) -> None:  # Any: seaweed.Server
    """Put everything into the bucket ``bench``, and its URLs into facts.json."""
    from stoker.storage.stores.s3 import S3Store

    keys = (server.access_key, server.secret_key)
    server.create_bucket()
    store = S3Store("bench", endpoint=server.endpoint, access_key=keys[0], secret_key=keys[1])
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] in ("stoker", "mds", "litdata"):
            key = path.relative_to(folder).as_posix()
            if "/.stoker/" not in f"/{key}":
                store.write(key, path)
    facts = json.loads((folder / "facts.json").read_text())
    client = store._connection.client()
    keys_of_tars = [Path(tar).relative_to(folder).as_posix() for tar in facts["tars"]]
    facts["urls"] = [
        client.generate_presigned_url("get_object", Params={"Bucket": "bench", "Key": key}, ExpiresIn=7 * 24 * 3600)
        for key in keys_of_tars
    ]
    facts["keys"] = keys
    (folder / "facts.json").write_text(json.dumps(facts))


def child(contender: str, task: Task) -> dict[str, float]:
    """Run one contender in this process."""
    import psutil  # type: ignore[import-untyped,unused-ignore]  # its stubs are not installed
    import torch.utils.data  # noqa: F401  # every contender's loop has it

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
    for _ in CONTENDERS[contender](Task(**{**task.__dict__, "epochs": 0})):  # imports, and nothing else
        break
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
        "whole": seen / max(1e-9, last - started),
        "cpu_ms": (total - used) / rest * 1e6,
        "first_ms": (first - started) * 1e3,
        "peak_mb": peak - before,
    }


_ROOT = Path(__file__).resolve().parents[2]


def measure_apart(contender: str, task: Task) -> dict[str, Any]:  # Any: JSON values
    """Run one contender in a process of its own."""
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
    task_json = json.dumps(
        {name: str(value) if isinstance(value, Path) else value for name, value in task.__dict__.items()}
    )
    try:
        process = subprocess.run(
            [sys.executable, __file__, "--child", contender, task_json],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment,
            cwd=_ROOT,
        )
    except subprocess.TimeoutExpired:
        return {"error": "no end in 300 s"}
    lines = [line for line in process.stdout.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        message = " ".join(process.stderr.split()[-40:]) or "no output"
        return {"error": message[-300:]}
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="names, with commas between")
    parser.add_argument("--rows", help="parts of the rows' names, with commas between")
    parser.add_argument("--quick", action="store_true", help="1,024 samples, one round")
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
        if not options.rows or any(part in name for part in options.rows.split(","))
    }
    print(
        ", ".join(f"{package} {_version(package)}" for package in sorted(set(PACKAGES.values()) | {"stoker", "torch"}))
    )
    if absent:
        print(f"not installed: {', '.join(absent)}")
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder:
        results = _measure(Path(folder), count, rounds, names, rows)
    for name, figures in results.items():
        _show(name, figures)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def _measure(
    folder: Path, count: int, rounds: int, names: Sequence[str], rows: dict[str, Any]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    from stoker.flows.services import seaweed

    prepare(folder, count, names)
    server = None
    results: dict[str, dict[str, list[dict[str, Any]]]] = {row: {name: [] for name in names} for row in rows}
    try:
        if any(row[0] == "s3" for row in rows.values()):
            secret_key = secrets.token_hex(16)
            server = seaweed.start(folder / "seaweed", access_key="bench", secret_key=secret_key, bucket="bench")
            server.wait_ready()
            upload(folder, server)
        for number in range(rounds):
            for row, (where, decoded, workers, epochs) in rows.items():
                for name in names:
                    cache = folder / "cache"
                    if (where == "s3" and name in ("walk", "stoker-again")) or (
                        name == "webdataset-pillow" and not decoded
                    ):
                        continue
                    if name != "stoker-again":
                        shutil.rmtree(cache, ignore_errors=True)
                    cache.mkdir(exist_ok=True)
                    endpoint = server.endpoint if server else ""
                    task = Task(folder, where, decoded, workers, epochs, cache, endpoint)
                    figures = measure_apart(name, task)
                    results[row][name].append(figures)
                    print(f"round {number + 1}: {row}: {name}: {figures}", file=sys.stderr, flush=True)
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
    heads = f"{'samples/s':>10}{'x':>6}{'with first/s':>13}{'x':>6}{'CPU ms/1,000':>13}{'first ms':>9}{'peak MB':>8}"
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
            f"  {name:<19}{middle['rate']:>10,.0f}{ratios['rate']:>6}{middle['whole']:>13,.0f}{ratios['whole']:>6}"
            f"{middle['cpu_ms']:>13,.1f}{middle['first_ms']:>9,.0f}{middle['peak_mb']:>8,.0f}"
        )


if __name__ == "__main__":
    main()
