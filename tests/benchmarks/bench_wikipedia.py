"""CPU seconds from a dump to a published version, beside wikiextractor and bz2 alone, in turn: paired ratios.

    python tests/benchmarks/bench_wikipedia.py DUMP.xml.bz2 [--repeat 20] [--peer PATH] [--rounds 5] [--other CHECKOUT]

Stoker ingests the whole dump into a store in a folder, with one process and no step or rule: pages cut out and their
checksums compared, text cleaned, samples and records written, curated and packed. wikiextractor (3.1.0 of August 2026)
writes files of JSON with one process, and expands no templates, which would take another pass over the dump. It is run
where its command is found: `pip install wikiextractor==3.1.0` into an environment of its own, for its licence is
AGPL-3. bz2 alone decompresses the dump once. Each is a command of its own, its start included. Pages and characters of
text tell what was kept for it. With ``--repeat`` a small dump is made so many times as long, in streams of 100 pages.
"""

import argparse
import bz2
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_STREAM = 100  # pages
HERE = Path(__file__).resolve().parents[2]
_STOKER = """
import json, sys
from pathlib import Path
from stoker import open_store
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.web.client import Web
dump, folder = map(Path, sys.argv[1:])
recipe = parse(
    {
        "corpus": "wiki",
        "source": {"name": "wikipedia_dump", "dump": dump.name},
        "limits": {"rejected_percent": 100},
    },
    root=dump.parent,
)
context = Context(root=dump.parent, web=Web(), scratch=folder / "scratch")
manifest = ingest(recipe, open_store(str(folder / "store")), context).manifest
columns = [split["columns"]["characters"] for split in manifest.statistics.values() if split["samples"]]
print(json.dumps([manifest.samples, round(sum(column["count"] * column["moments"]["mean"] for column in columns))]))
"""
_BZ2 = """
import bz2, sys
with bz2.open(sys.argv[1]) as file:
    while file.read(1 << 20):
        pass
"""


@dataclass(frozen=True)
class Measured:
    """One run: CPU seconds, and the pages and characters of text that it kept."""

    seconds: float
    pages: int
    characters: int


def run(command: Sequence[str], **options: object) -> tuple[float, str]:
    """CPU seconds of a command and of all that it starts, and its output."""
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, done.stdout


def by_stoker(checkout: Path, dump: Path, folder: Path) -> Measured:
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    seconds, output = run([sys.executable, "-c", _STOKER, str(dump), str(folder)], cwd=checkout, env=environment)
    return Measured(seconds, *json.loads(output))


def by_wikiextractor(peer: str, dump: Path, folder: Path) -> Measured:
    options = ["--json", "--no-templates", "--discard_empty", "--quiet", "--processes", "1"]
    seconds, _ = run([peer, *options, "--output", str(folder), str(dump)])
    texts = [
        json.loads(line)["text"]
        for path in sorted(folder.rglob("wiki_*"))
        for line in path.read_text("utf-8").splitlines()
    ]
    return Measured(seconds, sum(map(bool, texts)), sum(map(len, texts)))


def by_bz2(dump: Path, folder: Path) -> Measured:
    return Measured(run([sys.executable, "-c", _BZ2, str(dump)])[0], 0, 0)


def repeated(dump: Path, times: int, folder: Path) -> Path:
    """The dump with its pages several times, each with an id and a title of its own."""
    export = bz2.decompress(dump.read_bytes()).decode("utf-8")
    head, _, rest = export.partition("  <page>")
    pages = [f"  <page>{page}" for page in rest.rpartition("</mediawiki>")[0].split("  <page>")]
    copies = [page if not copy else _renamed(page, copy) for copy in range(times) for page in pages]
    path = folder / dump.name
    with path.open("wb") as file:
        file.write(bz2.compress(head.encode()))
        for start in range(0, len(copies), _STREAM):
            file.write(bz2.compress("".join(copies[start : start + _STREAM]).encode()))
        file.write(bz2.compress(b"</mediawiki>\n"))
    return path


def _renamed(page: str, copy: int) -> str:
    page = page.replace("</title>", f" {copy}</title>", 1)
    return re.sub("<id>([0-9]+)</id>", lambda match: f"<id>{copy}{match[1].zfill(9)}</id>", page, count=1)


def measure(measured: Callable[[Path, Path], Measured], dump: Path) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        return measured(dump, Path(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", default=shutil.which("wikiextractor"), help="the command wikiextractor")
    parser.add_argument("--other", type=Path, help="another checkout of Stoker")
    parser.add_argument("--repeat", type=int, default=1, help="how often each page is in what is measured")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        dump = options.dump.resolve()
        compare(repeated(dump, options.repeat, Path(folder)) if options.repeat > 1 else dump, options)


def compare(dump: Path, options: argparse.Namespace) -> None:
    """Measure and print all contenders."""
    peers: dict[str, Callable[[Path, Path], Measured]] = {"bz2 alone": by_bz2}
    if options.peer:
        peers["wikiextractor"] = partial(by_wikiextractor, options.peer)
    if options.other:
        peers["other checkout"] = partial(by_stoker, options.other.resolve())
    contenders = {"Stoker": partial(by_stoker, HERE)} | peers
    rounds = []
    for number in range(options.rounds):  # in the other order in every other round
        names = list(contenders)[:: -1 if number % 2 else 1]
        rounds.append({name: measure(contenders[name], dump) for name in names})
    for name in contenders:
        seconds = [each[name].seconds for each in rounds]
        kept = rounds[0][name]
        print(
            f"{name}: median {statistics.median(seconds):.2f} CPU-s ({min(seconds):.2f} to {max(seconds):.2f}); "
            f"{kept.pages} pages, {kept.characters} characters"
        )
    for name in peers:
        ratios = sorted(each["Stoker"].seconds / each[name].seconds for each in rounds)
        print(f"Stoker / {name}: median ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
