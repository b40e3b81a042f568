"""Curating many samples again with one changed threshold: what it costs.

    python tests/benchmarks/million/bench_curate.py [--records 1000000] [--near | --few] [--profile] [--folder FOLDER]

Makes a corpus of tables alone, whose rules drop small pictures, and with ``--near`` near copies too, and curates it
again with a slightly greater width; with ``--few`` with another distance of near copies, by which one group has others.
Prints a JSON line: processor and wall seconds, requests, bytes read and written.
"""

import argparse
import cProfile
import json
import pstats
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from stoker.pipelines.stages.curate import Judging
from stoker.pipelines.stages.views.curate_again import Curated, curate_again, recipe_of
from tests.benchmarks.million import corpus
from tests.benchmarks.million.costs import CountingStore, measured

WIDTH = corpus.MIN_WIDTH + 32  # drops a hundredth more
BEFORE = 15  # bits: a distance at which near copies of one group are none


def main() -> None:
    """Print a line for each version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--near", action="store_true")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        store = CountingStore(folder / "store")
        near = arguments.near or arguments.few
        first, cost = measured(
            lambda: corpus.make(store, folder, arguments.records, near=near, distance=BEFORE if arguments.few else 31)
        )
        print(json.dumps({"what": "make", **asdict(cost), "samples": first.samples}), flush=True)
        first = corpus.indexed(store, first)
        changed = corpus.rules() if arguments.few else corpus.rules(width=WIDTH, near=near)
        recipe = recipe_of(first, corpus.document(changed), folder)
        profile = cProfile.Profile(time.process_time)

        def again() -> Curated:
            return curate_again(recipe, store, folder / "scratch", judging=Judging(elders=True))

        curated, cost = measured(lambda: profile.runcall(again) if arguments.profile else again())
        told = {"samples": curated.published.manifest.samples, "dropped": curated.dropped}
        print(json.dumps({"what": "curate", **asdict(cost), **told}))
        print(json.dumps({"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
        if arguments.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
