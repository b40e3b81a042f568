"""Whether the stream keeps a GPU busy: ResNet-18 and ResNet-50 on synthetic batches, and fed by the stream.

    python3 -m tests.benchmarks.gpu.bench_gpu [--networks resnet18,resnet50] [--seconds 15] [--workers N]

Run it in the root of the repository, or as `make bench-gpu`. It needs torch, numpy, pillow, pyarrow, google-crc32c and
simplejpeg, and no more of Stoker's requirements: no installation, no network. Its shards are JPEGs of 256 x 256 px that
it draws itself, or those of a version that was carried along (``--store FOLDER --corpus NAME``).

Prints a JSON object a line: the machine, and for each network images a second on synthetic batches, fed by the stream,
and on one batch of the stream again and again; ``idle``, the share of its time that the GPU had no work, by its own
events; ``stall``, the same by the rates of fed and replayed batches; ``waited``, the share that the loop waited.
Without a GPU it says so and does nothing, unless ``--device cpu`` asks for it, to try the code.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.directory import DirectoryStore
from stoker.training.feeding.consumption import stall_of
from stoker.training.feeding.workload import feed, first_images, replay, workload_of
from stoker.training.pictures.pictures import PictureMaker
from stoker.training.stream.stream import ShardStream
from tests.training import corpora
from tests.training.pictures.photographs import drawn, encoded

_DISTINCT = 256  # images that are drawn; larger data repeats them


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet18,resnet50")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=224, help="pixels of the random crops")
    parser.add_argument("--images", type=int, default=8192, help="samples of the corpus that it makes")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement; three for each network")
    parser.add_argument("--store", default="", help="a folder with a version that was carried along")
    parser.add_argument("--corpus", default="photographs")
    arguments = parser.parse_args(words)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        _print({"skipped": "no GPU: torch finds no CUDA device here; --device cpu tries the code"})
        return 0
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(Path(arguments.store or folder) / ("" if arguments.store else "store"))
        if not arguments.store:
            corpora.version(store, Path(folder), {"train": _photographs(arguments.images)}, corpus=arguments.corpus)
        stream = ShardStream(
            store,
            arguments.corpus,
            batch_size=arguments.batch_size,
            make=PictureMaker(arguments.size),
            cache=Path(folder) / "cache",
        )
        device = torch.device(arguments.device)
        _print(_machine(device, stream, arguments))
        for network in arguments.networks.split(","):
            _print(_measure(network, stream, device, arguments))
        stream.close()
    return 0


def _photographs(count: int) -> list[Sample]:
    jpegs = [encoded(drawn(256, 256, seed)) for seed in range(min(count, _DISTINCT))]
    return [
        Sample(f"photograph-{number:06d}", {"jpg": jpegs[number % len(jpegs)]}, {"label": str(number % 10)})
        for number in range(count)
    ]


def _machine(device: torch.device, stream: ShardStream, arguments: argparse.Namespace) -> dict[str, Any]:  # Any: JSON
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "workers": arguments.workers,
        "batch_size": arguments.batch_size,
        "size": arguments.size,
        "samples": stream.samples,
    }


def _measure(
    network: str, stream: ShardStream, device: torch.device, arguments: argparse.Namespace
) -> dict[str, Any]:  # Any: JSON values
    workload = workload_of(network, device, size=arguments.size)
    synthetic = replay(workload, workload.synthetic(arguments.batch_size), seconds=arguments.seconds)
    fed = feed(workload, stream, workers=arguments.workers, seconds=arguments.seconds)
    replayed = replay(workload, first_images(stream, device), seconds=arguments.seconds)
    return {
        "network": network,
        "synthetic_per_s": round(synthetic, 1),
        "replayed_per_s": round(replayed, 1),
        **{name: value if value is None else round(value, 4) for name, value in asdict(fed).items()},
        "stall": stall_of(fed.samples_per_s, replayed),
    }


def _print(content: dict[str, Any]) -> None:  # Any: JSON values
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
