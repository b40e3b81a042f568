"""One rank of a training, started by torchrun: trains parts of runs by `stoker.training.train`."""

import json
import sys
from pathlib import Path

import torch.distributed as dist

from stoker.storage import open_store
from stoker.storage.versions.manifest import load_manifest
from stoker.training import train
from stoker.training.run.steps.ranks import Ranks, joined
from tests.training.run.small_runs import after


def main(folder: Path, parts_file: str) -> None:
    with joined() as ranks:
        train_parts(ranks, folder, parts_file)
        dist.barrier()


def train_parts(ranks: Ranks, folder: Path, parts_file: str) -> None:
    store = open_store(str(folder / "store"))
    for part in json.loads(Path(parts_file).read_text()):
        stop_at = part["stop"] if part["stop"] and ranks.rank == part["who"] else 10**6
        result = train(
            store,
            load_manifest(store, part["corpus"]),
            part["model"],
            part["options"],
            resume=part["resume"],
            folder=folder / "runs",
            cache=folder / "cache",
            stop=after(stop_at),
        )
        if ranks.first:
            print(f"RESULT {result.run} {result.resumed_at} {result.step} {result.stopped}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
