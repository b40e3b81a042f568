"""What became of one candidate of many: with lookups and without, and what the lookups cost.

    python tests/benchmarks/million/bench_why.py [--records 1000000] [--folder FOLDER]

Makes a corpus of tables alone, publishes it without lookups, with them, and with a hundredth more, and asks for a kept,
a dropped, a refused and an unknown candidate. Prints a JSON line for each: processor and wall seconds, requests, bytes.
"""

import argparse
import json
import resource
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from stoker.pipelines.stages.remembering.former import find_former
from stoker.pipelines.stages.why import Search
from stoker.storage.shards.kinds import DECISIONS
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.verified import verified_table
from tests.benchmarks.million import corpus
from tests.benchmarks.million.costs import Cost, CountingStore, measured

ASKED = {"kept": 0, "refused": 13}  # by kind: the number of a candidate


def ask(store: CountingStore, version: int, text: str) -> list[str]:
    """What becomes known of a candidate, as the command line asks."""
    manifest = load_manifest(store, corpus.CORPUS, version)
    search = Search(store, manifest)
    lineages = search.lineages(text)
    former = None if lineages else find_former(store, manifest, text, search.finder)
    return [one.state for one in lineages] + ["former"] * (former is not None)


def texts(store: CountingStore, manifest: Manifest) -> dict[str, str]:
    """What is asked for."""
    decisions = manifest.decisions
    table = verified_table(store, decisions.key, DECISIONS, sha256=decisions.sha256)
    asked = {what: corpus.url(number) for what, number in ASKED.items()}
    return asked | {"dropped": table["key"][0].as_py(), "unknown": "https://example.org/unknown"}


def tell(what: str, how: str, cost: Cost, **more: object) -> None:
    print(json.dumps({"what": what, "how": how, **asdict(cost), **more}))


def main() -> None:
    """Print a line for each question, and for each publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    count = arguments.records
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        store = CountingStore(Path(name) / "store")
        first = corpus.make(store, Path(name), count)
        for what, text in texts(store, first).items():
            found, cost = measured(partial(ask, store, 1, text))
            tell(what, "without lookups", cost, found=found)
        second, cost = measured(lambda: corpus.indexed(store, first))
        tell("publish", "all anew", cost, lookups=[asdict(file) for file in second.lookups])
        store.delete(layout.version(corpus.CORPUS, 1))
        for what, text in texts(store, second).items():
            found, cost = measured(partial(ask, store, 2, text))
            tell(what, "with lookups", cost, found=found)
        grown = corpus.grown(store, Path(name), second, count, count // 100)
        sizes = [file.size for file in grown.lookups if file not in second.lookups]
        tell("publish", "a hundredth more", Cost(0, 0, 0, 0, sum(sizes)), lookups=len(grown.lookups))
        print(json.dumps({"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


if __name__ == "__main__":
    main()
