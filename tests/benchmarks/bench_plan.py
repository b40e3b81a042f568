"""Planning an ingest of a long list of URLs: the first one, then with all known, unchanged and with one URL more.

    python tests/benchmarks/bench_plan.py [--urls 1000000] [--folder FOLDER]

Writes a list and a ledger that knows all of it (every tenth URL was gone), and prints for each of the three the
processor time in seconds and the peak memory in megabytes, each of a process of its own. Nothing is fetched.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context, ListedSource
from stoker.pipelines.stages.remembering.rounds import Rounds
from stoker.pipelines.tables.url_entries import key_of
from stoker.pipelines.web.client import Web
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import Ledger, create_head
from stoker.storage.versions.memory.outcomes import SCHEMA, hashes_of
from stoker.storage.versions.memory.sealed_parquet import StoredTable
from stoker.storage.versions.verified import put

CORPUS, LIST = "big", "list.txt"
AT = datetime(2026, 1, 1, tzinfo=UTC)
IN_FILE = 500_000  # outcomes
IN_PART = 500


def url(number: int) -> str:
    return f"https://host{number % 1000}.example.org/photos/{number % 977}/picture-{number:09d}.jpg"


def context(folder: Path) -> Context:
    return Context(root=folder, web=Web(), scratch=folder / "scratch", now=lambda: AT)


def recipe_in(folder: Path) -> Recipe:
    return parse({"corpus": CORPUS, "source": {"name": "image_urls", "lists": LIST}}, root=folder)


def make(folder: Path, urls: int) -> None:
    """The list, and the ledger that knows it."""
    (folder / "store").mkdir(parents=True)
    with (folder / LIST).open("w") as file:
        file.writelines(f"{url(number)}\n" for number in range(urls))
    recipe, store = recipe_in(folder), DirectoryStore(folder / "store")
    assert isinstance(recipe.source, ListedSource)
    starts = range(0, urls, IN_FILE)
    stored = tuple(_put(store, range(start, min(urls, start + IN_FILE)), recipe.extraction_digest) for start in starts)
    listing = recipe.source.listing(context(folder))
    made = Ledger(CORPUS, 1, "2026-01-01", "1", outcomes=stored, source="image_urls")
    create_head(
        store, replace(made, extraction=recipe.extraction_digest, listing=listing, vanished=recipe.memory.vanished)
    )


def _put(store: Store, numbers: range, extraction: str) -> StoredTable:
    ids = [key_of(url(number)) for number in numbers]
    gone = [number % 10 == 0 for number in numbers]
    columns = {
        "hash": hashes_of("image_urls", ids),
        "source": ["image_urls"] * len(ids),
        "id": ids,
        "key": ids,
        "definite": [not one for one in gone],
        "class": ["moment" if one else "kept" for one in gone],
        "reason": ["gone" if one else None for one in gone],
        "at": [AT] * len(ids),
        "tries": [2 + number // 10 % 6 for number in numbers],
        "stamp": [""] * len(ids),
        "recipe": [extraction] * len(ids),
        "part": [f"{number // IN_PART:032x}" for number in numbers],
        "row": [number % IN_PART for number in numbers],
    }
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(ids), field.type)
        for field in SCHEMA
    ]
    payload, written = outcomes.encode(outcomes.merge(pa.table(arrays, schema=SCHEMA)))
    stored = written.stored_as(layout.outcomes(CORPUS, written.sha256))
    put(store, stored.key, payload, sha256=written.sha256)
    return stored


def measure(folder: Path, store: str) -> dict[str, float]:
    """Plan an ingest of the list in this process."""
    rounds = Rounds(recipe_in(folder), context(folder), DirectoryStore(folder / store))
    started = time.process_time()
    partitions = rounds.next() if rounds.known_parts() is None else None
    seconds = time.process_time() - started
    asked = sum(len(partition.payload["urls"]) for partition in partitions or ())
    # Not by getrusage: there a process begins with the peak of the one that started it.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"asked": asked, "seconds": seconds, "megabytes": int(peak.split()[1]) / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--urls", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.folder, arguments.measure)))
        return
    with tempfile.TemporaryDirectory(prefix="stoker-", dir=arguments.folder) as name:
        folder = Path(name) / "plan"
        make(folder, arguments.urls)
        (folder / "empty").mkdir()
        for what in ("first", "unchanged", "one more"):
            if what == "one more":
                with (folder / LIST).open("a") as file:
                    file.write("https://new.example.org/picture.jpg\n")
            store = "empty" if what == "first" else "store"
            words = [sys.executable, __file__, "--measure", store, "--folder", str(folder)]
            print(what, subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
