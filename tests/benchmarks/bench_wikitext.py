"""Megabytes of wikitext cleaned in a second of processor time, of this checkout and of another beside it.

    python tests/benchmarks/bench_wikitext.py DUMP.xml.bz2 [--against CHECKOUT] [--rounds 25]

Two processes, one of each checkout, clean every page of the dump in turn, so that what slows the machine slows both.
The first two rounds do not count.
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


def serve(dump: Path) -> None:
    """For each line on standard input, the seconds of processor time that one pass over the dump's pages takes."""
    from stoker.pipelines.wikipedia.wikitext.clean import plain_text

    texts = read_texts(dump)
    plain_text("{{warm|up}}")
    for _ in sys.stdin:
        started = time.process_time()
        for text in texts:
            plain_text(text)
        print(time.process_time() - started, flush=True)


class Cleaner:
    """A process that cleans the dump's pages with the Stoker of a checkout."""

    def __init__(self, checkout: Path, dump: Path) -> None:
        command = [sys.executable, __file__, "--serve", str(dump)]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        self.process = subprocess.Popen(
            command, env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self) -> float:
        """Seconds of processor time for one pass."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--against", type=Path, help="another checkout of Stoker")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    dump = options.dump.resolve()
    if options.serve:
        serve(dump)
        return
    size = sum(len(text.encode()) for text in read_texts(dump)) / 1e6
    checkouts = [HERE, *([options.against.resolve()] if options.against else [])]
    cleaners = [Cleaner(checkout, dump) for checkout in checkouts]
    rounds = [[cleaner.measure() for cleaner in cleaners] for _ in range(options.rounds + 2)][2:]
    for cleaner in cleaners:
        cleaner.close()
    for checkout, seconds in zip(checkouts, zip(*rounds, strict=True), strict=True):
        print(f"{checkout}: median {size / statistics.median(seconds):.1f} MB/s, best {size / min(seconds):.1f}")
    if options.against:
        ratios = sorted(other / ours for ours, other in rounds)
        middle = len(ratios) // 4
        best = min(other for _, other in rounds) / min(ours for ours, _ in rounds)
        print(
            f"ours is {statistics.median(ratios):.3f} times as fast by the median of the rounds (the middle half: "
            f"{ratios[middle]:.3f} to {ratios[-1 - middle]:.3f}), {best:.3f} by the best"
        )


if __name__ == "__main__":
    main()
