"""Small trainings on several ranks, and the same by one process, for the tests of this folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stoker.storage import open_store
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import load_manifest
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.train import Result, train
from tests.training import corpora
from tests.training.run.launching import launch
from tests.training.run.small_runs import after


@dataclass(frozen=True)
class Part:
    """A training, or the rest of one; ``stop``: the step that rank ``who`` is asked to stop at."""

    model: str
    corpus: str
    options: dict[str, Any]
    resume: bool = False
    stop: int = 0
    who: int = 0


def small_store(folder: Path) -> Store:
    """With a corpus of pictures, ``digits``, and one of texts, ``texts``."""
    store = open_store(str(folder / "store"))
    digits, texts = corpora.digits(), corpora.texts()
    splits = {"train": digits[:99], "validation": digits[150:180]}  # 49, 49 and 1
    corpora.version(store, folder, splits, corpus="digits", per_shard=40)
    splits = {"train": texts[:12], "validation": texts[12:16]}
    corpora.version(store, folder, splits, corpus="texts", per_shard=5)
    return store


def launch_parts(script: str, folder: Path, world_size: int, parts: list[Part]) -> str:
    """What ranks print that do these parts, one after the other."""
    (folder / "parts.json").write_text(json.dumps([asdict(part) for part in parts]))
    return launch(script, world_size, str(folder), str(folder / "parts.json"))


def results_of(output: str) -> list[list[str]]:
    """Run, step that it began at, last step, and whether it was stopped, of each part."""
    return [line.split()[1:] for line in output.splitlines() if line.startswith("RESULT ")]


def alone(folder: Path, store: Store, part: Part) -> Result:
    """The part, done by this process."""
    return train(
        store,
        load_manifest(store, part.corpus),
        part.model,
        part.options,
        resume=part.resume,
        folder=folder / "runs",
        cache=folder / "cache",
        stop=after(part.stop or 10**6),
    )


def state_of(store: Store, corpus: str, run: str) -> dict[str, Any]:
    """The last state of a finished run."""
    newest = checkpoints.newest(store, corpus, run)
    assert newest is not None
    assert newest.info.done
    return newest.state
