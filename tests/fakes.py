"""Small sources and stores that tests use where the real thing would hide what is being shown."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from stoker.pipelines.partition import Partition, cut
from stoker.pipelines.recipe import Limits, Recipe, Schedule, Sharding
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Candidate, Context, Provenance, Source
from stoker.pipelines.step import Step
from stoker.pipelines.web.client import Web
from stoker.storage.errors import StorageUnavailable
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Payload, StoredObject

READS: list[str] = []  # the partitions that Words was asked to read, in order


@dataclass(frozen=True)
class Words(Source):
    """A sample a word; "!reason" is a candidate rejected at the source; "word=label" has a label."""

    planning: ClassVar[frozenset[str]] = frozenset({"words", "target"})

    words: tuple[str, ...]
    target: int = 4
    clock: str = "2026-01-01T00:00:00+00:00"

    def partitions(self, context: Context) -> Iterator[Partition]:
        times: Counter[str] = Counter()
        for run in cut(self.words, str, target=self.target):
            times[run[0]] += 1
            yield Partition(f"words-{run[0]}-{times[run[0]]}", {"words": run})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        READS.append(partition.name)
        for word in partition.payload["words"]:
            word, _, label = word.partition("=")
            key = word.strip("!").replace(" ", "_")
            record = {"url": f"word:{word}"} | ({"label": label} if label else {})
            sample = Sample(key, {"txt": word.encode()}, record, {"fetched_at": self.clock})
            yield Candidate(sample, Rejected(word[1:]) if word.startswith("!") else None)


def recipe(
    words: tuple[str, ...],
    *,
    corpus: str = "words",
    steps: tuple[Step, ...] = (),
    rules: tuple[Rule, ...] = (),
    **source: Any,
) -> Recipe:
    return Recipe(
        corpus=corpus,
        source=Words(words, **source),
        steps=steps,
        rules=rules,
        splits={"train": 75, "validation": 25},
        shards=Sharding(samples=5, partitions=3),
        limits=Limits(),
        provenance=Provenance(licence="CC0-1.0"),
        schedule=Schedule(),
        document={"corpus": corpus, "rules": [{"name": name_of(rule)} | vars(rule) for rule in rules]},
    )


def context(folder: Path, *, trusted: bool = False) -> Context:
    return Context(root=folder, web=Web(), scratch=folder / "scratch", trusted=trusted)


class Failing(MemoryStore):
    """A store whose n-th write fails: before it happens, or after it did and the answer was lost."""

    def __init__(self, left: int = 10**9, *, after: bool = False) -> None:
        super().__init__()
        self.left = left
        self.after = after

    def create(self, key: str, payload: Payload) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise StorageUnavailable(f"{key}: down")
        super().create(key, payload)
        if self.left == 0:
            raise StorageUnavailable(f"{key}: the answer was lost")


class Counting(MemoryStore):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        self.reads.append(key)
        return super().read(key, start=start, size=size)


class Killed(BaseException):
    """As kill -9: nothing is tidied up."""


class FailingCalls(MemoryStore):
    """A store whose n-th call of any kind fails: before it happens, or after it did and the answer was lost."""

    def __init__(self, left: int = 10**9, *, after: bool = False) -> None:
        super().__init__()
        self.left, self.after = left, after

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:  # Any: those of the method
        self.left -= 1
        if self.left == 0 and not self.after:
            raise StorageUnavailable("down")
        found = method(*arguments, **options)
        if self.left == 0:
            raise StorageUnavailable("the answer was lost")
        return found

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        return bytes(self._call(super().read, key, start=start, size=size))

    def size(self, key: str) -> int:
        return int(self._call(super().size, key))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return iter(self._call(super().list, prefix))

    def write(self, key: str, payload: Payload) -> None:
        self._call(super().write, key, payload)

    def create(self, key: str, payload: Payload) -> None:
        self._call(super().create, key, payload)

    def delete(self, key: str) -> None:
        self._call(super().delete, key)
