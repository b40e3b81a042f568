"""Writing shards: Stoker's TarWriter, webdataset's two writers, Python's tarfile and a lower bound on the same samples.

    python tests/benchmarks/bench_write.py [--rounds 5] [--folder FOLDER] [--shapes 10000x18000,100000x300]

Each round runs every writer once, in turn, on SAMPLESxBYTES samples of one image field and one JSON record. Stoker
and the floor also compute the SHA-256 of the tar; the others do not. The floor is a copy, the hash and write(2) of as
many bytes, a megabyte at a time. Ratios are medians over the rounds of processor time to that of Stoker's ``add`` in
the same round. Peak memory is that of a process that writes, less what it holds before it writes.
"""

import argparse
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import TarWriter, encode_sample

Writer = Callable[[list[Sample], Path], None]


def make(samples: int, size: int) -> Iterator[Sample]:
    """Samples that differ, cut from one piece of noise."""
    noise = memoryview(os.urandom(size + 4096))
    for number in range(samples):
        start = number % 4096
        record = {"label": number % 10, "url": f"http://example.org/{number}", "licence": "CC0-1.0", "width": 224}
        yield Sample(f"sample-{number:07d}", {"jpg": bytes(noise[start : start + size])}, record)


def by_stoker(samples: list[Sample], folder: Path) -> None:
    with TarWriter(folder / "a.tar") as writer:
        for sample in samples:
            writer.add(sample)
        writer.close()


def by_copying(regions: list[bytes], folder: Path) -> None:
    with TarWriter(folder / "a.tar") as writer:
        for sample_bytes in regions:
            writer.add_bytes(sample_bytes)
        writer.close()


def by_webdataset(samples: list[Sample], folder: Path) -> None:
    import webdataset

    with webdataset.TarWriter(str(folder / "a.tar")) as writer:
        for sample in samples:
            writer.write({"__key__": sample.key, **sample.fields, "json": dict(sample.record)})


def by_webdataset_shards(samples: list[Sample], folder: Path) -> None:
    import webdataset

    with webdataset.ShardWriter(str(folder / "a-%05d.tar"), maxcount=10**9, maxsize=1e12, verbose=0) as writer:
        for sample in samples:
            writer.write({"__key__": sample.key, **sample.fields, "json": dict(sample.record)})


def by_tarfile(samples: list[Sample], folder: Path) -> None:
    with tarfile.open(folder / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for name, payload in (*sample.fields.items(), ("json", json.dumps(dict(sample.record)).encode())):
                info = tarfile.TarInfo(f"{sample.key}.{name}")
                info.size = len(payload)
                tar.addfile(info, io.BytesIO(payload))


def floor(size: int, folder: Path) -> None:
    source, target, digest = os.urandom(2**20), bytearray(2**20), hashlib.sha256()
    with (folder / "a.tar").open("wb", buffering=0) as file:
        for _ in range(-(-size // 2**20)):
            target[:] = source
            digest.update(target)
            file.write(target)


WRITERS: dict[str, Writer] = {
    "stoker": by_stoker,
    "webdataset.TarWriter": by_webdataset,
    "webdataset.ShardWriter": by_webdataset_shards,
    "tarfile": by_tarfile,
}


def timed(write: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    """Seconds of processor time and of the clock; the written files are deleted."""
    cpu, clock = time.process_time(), time.perf_counter()
    write(folder)
    seconds = time.process_time() - cpu, time.perf_counter() - clock
    for path in folder.iterdir():
        path.unlink()
    return seconds


def compare(samples: int, size: int, rounds: int, folder: Path) -> dict[str, Any]:
    """The figures of one shape, by writer."""
    chosen = list(make(samples, size))
    regions = [encode_sample(sample)[0] for sample in chosen]
    whole = sum(len(sample_bytes) for sample_bytes in regions) + 1024
    runs: dict[str, Callable[[Path], None]] = {
        name: lambda where, write=write: write(chosen, where)  # type: ignore[misc]  # mypy infers no default's type
        for name, write in WRITERS.items()
    }
    runs["stoker, regions as they are"] = lambda where: by_copying(regions, where)
    runs["floor"] = lambda where: floor(whole, where)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for write in runs.values():  # once for imports and caches
        timed(write, folder)
    for _ in range(rounds):
        for name, write in runs.items():
            times[name].append(timed(write, folder))
    ours = [cpu for cpu, _ in times["stoker"]]
    rows = {}
    for name, rounds_of_writer in times.items():
        cpu, clock = (statistics.median(column) for column in zip(*rounds_of_writer, strict=True))
        ratio = statistics.median(cpu / mine for (cpu, _), mine in zip(rounds_of_writer, ours, strict=True))
        rows[name] = {
            "samples_per_s": samples / clock,
            "megabytes_per_s": whole / clock / 1e6,
            "cpu_ms_per_1000": cpu / samples * 1e6,
            "cpu_to_stoker": ratio,
        }
    return {"samples": samples, "size": size, "megabytes": whole / 1e6, "writers": rows}


def peak(samples: int, size: int, folder: Path) -> float:
    """Peak megabytes that writing adds to a process of its own."""
    words = [sys.executable, __file__, "--hold", f"{samples}x{size}", "--folder", str(folder)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def hold(samples: int, size: int, folder: Path) -> None:
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory(dir=folder) as name, TarWriter(Path(name) / "a.tar") as writer:
        for sample in make(samples, size):
            writer.add(sample)
        writer.close()
    print(resident("VmHWM") - before)


def resident(which: str) -> float:
    """Megabytes of this process, by Linux' name: now (VmRSS), or at most (VmHWM)."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{which}:")[1].split()[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--shapes", default="10000x18000,100000x300")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--hold", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        samples, size = map(int, options.hold.split("x"))
        hold(samples, size, options.folder)
        return
    results = []
    for shape in options.shapes.split(","):
        samples, size = map(int, shape.split("x"))
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            result = compare(samples, size, options.rounds, Path(name))
            result["peak_megabytes"] = {times: peak(samples * times, size, Path(name)) for times in (1, 5)}
        results.append(result)
        if not options.json:
            show(result)
    if options.json:
        print(json.dumps(results, indent=1))


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['samples']:,} samples of {result['size']:,} bytes, {result['megabytes']:,.0f} MB as a tar")
    print(f"{'':28} {'samples/s':>10} {'MB/s':>7} {'CPU ms/1,000':>13} {'CPU to stoker':>14}")
    for name, row in result["writers"].items():
        print(
            f"{name:28} {row['samples_per_s']:>10,.0f} {row['megabytes_per_s']:>7,.0f} {row['cpu_ms_per_1000']:>13.1f} "
            f"{row['cpu_to_stoker']:>14.2f}"
        )
    peaks = ", ".join(f"{mb:.1f} MB at {times}x the samples" for times, mb in result["peak_megabytes"].items())
    print(f"stoker's peak memory: {peaks}")


if __name__ == "__main__":
    main()
