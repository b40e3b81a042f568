"""Megabytes of wikitext cleaned in a second of processor time, of this checkout and of another beside it.

    python tests/benchmarks/bench_wikitext.py DUMP.xml.bz2 [--against CHECKOUT] [--rounds 7]

Each round cleans every page of the dump five times in a process of its own, first of one checkout, then of the other,
and the fastest of the five counts: what disturbs a process only slows it.
"""

import argparse
import bz2
import html
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]


def read_texts(dump: Path) -> list[str]:
    """The wikitext of the dump's pages."""
    export = bz2.decompress(dump.read_bytes()).decode("utf-8")
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", export, re.DOTALL)]


def measure(dump: Path) -> float:
    """Megabytes of wikitext (UTF-8) a second of processor time, the best of five passes."""
    from stoker.pipelines.wikipedia.wikitext.clean import plain_text

    texts = read_texts(dump)
    size = sum(len(text.encode()) for text in texts)
    plain_text("{{warm|up}}")
    seconds = []
    for _ in range(5):
        started = time.process_time()
        for text in texts:
            plain_text(text)
        seconds.append(time.process_time() - started)
    return size / 1e6 / min(seconds)


def measure_in(checkout: Path, dump: Path) -> float:
    """The same in a process that imports Stoker from a checkout."""
    command = [sys.executable, __file__, "--one", str(dump)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--against", type=Path, help="another checkout of Stoker")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.dump))
        return
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(measure_in(HERE, options.dump.resolve()))
        if options.against:
            theirs.append(measure_in(options.against.resolve(), options.dump.resolve()))
    print(f"median {statistics.median(ours):.1f} MB/s, best {max(ours):.1f}")
    if theirs:
        ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
        print(f"{options.against}: median {statistics.median(theirs):.1f} MB/s, best {max(theirs):.1f}")
        print(
            f"ours is {ratio:.3f} times as fast by the median of the rounds, {max(ours) / max(theirs):.3f} by the best"
        )


if __name__ == "__main__":
    main()
