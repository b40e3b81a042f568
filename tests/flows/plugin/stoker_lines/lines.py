"""A source for tests of flows: the lines of a file, some of which are orders."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stoker.pipelines.errors import RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.storage.shards.sample import Sample


@dataclass(frozen=True)
class Lines(Source):
    """Samples from lines; every partition that is read leaves a line in ``journal``.

    "wait 0.1" waits, "busy 2" is unavailable twice, "die 2" kills its worker twice, "big 9" is a sample of 9 bytes,
    "broken" is broken, "bug" raises an error that nobody expects, "reject robots" is a reject; any other line is a
    sample with this key.

    Example::

        corpus = "words"
        [source]
        name = "lines"
        path = "words.txt"
    """

    path: str
    each: int = 2  # lines of a partition
    journal: str = "journal"
    plan_s: float = 0.0  # that planning takes

    def partitions(self, context: Context) -> Iterator[Partition]:
        """One for every few lines."""
        _note(context.root / self.journal, "planned") if self.plan_s else None
        time.sleep(self.plan_s)
        path = context.root / self.path
        if not path.exists():
            raise RecipeError(f"{path}: no such file")
        lines = path.read_text().splitlines()
        for start in range(0, len(lines), self.each):
            yield Partition(f"lines-{start}", {"lines": lines[start : start + self.each]})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """Do what the lines say."""
        _note(context.root / self.journal, partition.name)
        own = context.root / f"{self.path}.journal"  # of this file alone: "busy" and "die" count in it
        _note(own, partition.name)
        for line in partition.payload["lines"]:
            word, _, rest = line.partition(" ")
            if word == "wait":
                time.sleep(float(rest))
            elif word == "busy":
                if _count(own, partition.name) <= int(rest):
                    raise SourceUnavailable(f"{partition.name}: busy")
            elif word == "big":
                yield Candidate(Sample("big", {"bin": bytes(int(rest))}, {"licence": "CC0-1.0"}))
            elif word == "broken":
                raise SourceBroken(f"{partition.name}: malformed")
            elif word == "die":  # the process: by a signal, as often as it is told
                if _count(own, partition.name) <= int(rest):
                    os.kill(os.getpid(), signal.SIGKILL)
            elif word == "bug":
                raise ZeroDivisionError("a bug")
            elif word == "reject":
                yield Candidate(Sample(f"{partition.name}-{rest}", {}), Rejected(rest))
            else:
                yield Candidate(Sample(line, {"txt": f"The line {line}.".encode()}, {"licence": "CC0-1.0"}))


def _note(journal: Path, name: str) -> None:
    with journal.open("a") as file:
        file.write(f"{name}\n")


def _count(journal: Path, name: str) -> int:
    return journal.read_text().splitlines().count(name)
