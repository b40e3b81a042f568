"""One rank of a small distributed training, started by torchrun: reports its batches and its weights."""

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stoker.storage import open_store
from stoker.training.loader.loader import Loader
from stoker.training.reading.samples import Samples
from stoker.training.run.distributed import gradient_scale, padded, rank_and_world
from stoker.training.stream.stream import ShardStream

# samples, batch_size, last; none of them divides anything
CASES: dict[str, tuple[int, int, str]] = {
    "a short batch of one": (26, 5, "short"),
    "a padded batch": (26, 5, "pad"),
    "a batch larger than the corpus, padded": (26, 40, "pad"),
    "a batch larger than the corpus": (26, 40, "short"),
    "a dropped batch": (57, 8, "drop"),
    "a short batch of two": (100, 7, "short"),
}


def corpus(samples: int) -> str:
    return f"letters-{samples}"


def make(samples: Samples, draws: Sequence[bytes]) -> tuple[list[str], Tensor]:
    """Keys, and (samples, 5) float64: four inputs and a target, each a function of the key; none of no samples."""
    keys = samples.keys
    rows = [list(hashlib.sha256(key.encode()).digest()[:5]) for key in keys]
    return keys, torch.tensor(rows, dtype=torch.float64).reshape(-1, 5) / 128 - 1


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def learn(store: str, cache: Path, case: str, steps: int, state: dict[str, Any] | None) -> dict[str, Any]:
    """Some steps from a state on: the keys of this rank's batches, those that count, and the state afterwards."""
    samples, batch_size, last = CASES[case]
    rank, world_size = rank_and_world()
    stream = ShardStream(
        open_store(store),
        f"{corpus(samples)}@1",
        batch_size=batch_size,
        last=last,  # type: ignore[arg-type]  # one of the three
        window=2,
        seed=7,
        rank=rank,
        world_size=world_size,
        make=make,
        cache=cache,
    )
    module = net()
    loader = Loader(stream, workers=2)
    if state is not None:
        module.load_state_dict(
            {name: torch.tensor(values, dtype=torch.float64) for name, values in state["module"].items()}
        )
        loader.load_state_dict(state["loader"])
    trained = DistributedDataParallel(module) if dist.is_initialized() else module
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    seen: list[list[str]] = []
    real: list[int] = []
    with closing(stream), closing(loader):
        while len(seen) < steps:
            for keys, rows in loader:
                kept = len(keys) - padded(stream)
                optimiser.zero_grad()
                errors = trained(rows[:kept, :4]) - rows[:kept, 4:]
                (errors.square().sum() * gradient_scale(stream)).backward()
                optimiser.step()
                seen.append(keys)
                real.append(kept)
                if len(seen) == steps:
                    break
        after = {
            "module": {name: tensor.tolist() for name, tensor in module.state_dict().items()},
            "loader": loader.state_dict(),
        }
    return {"seen": seen, "real": real, "state": after, "fetched": stream.counters.sums().get("fetched", 0)}


def main(store: str, cache: str, parts_file: str, reports: str) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    parts = json.loads(Path(parts_file).read_text())
    report = {
        case: [learn(store, Path(cache), case, part["steps"], part["state"]) for part in case_parts]
        for case, case_parts in parts.items()
    }
    Path(reports, f"{rank_and_world()[0]}.json").write_text(json.dumps(report))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
