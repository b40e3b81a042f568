"""A folder with tables or dumps, a store and a clock: what ingests of several days see."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stoker.pipelines.memory.known import NOTHING_AGAIN, Again
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import Published, ingest
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.version import Version
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import FAST

Row = tuple[str, str]  # text, label


class World:
    """A folder with tables or dumps, a store and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, MemoryStore()
        self.now = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
        self.source: dict[str, Any] = {"name": "hugging_face", "dataset": "table", "rows_per_partition": 10}
        self.steps: list[dict[str, Any]] = []

    def table(self, rows: Sequence[Row], *, name: str = "a", exported: str = "monday") -> None:
        (self.folder / "table").mkdir(exist_ok=True)
        columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
        table = pa.table(columns | {"exported": [exported] * len(rows)})
        pq.write_table(table, self.folder / "table" / f"{name}.parquet")

    def dump(self, name: str, *pages: tuple[int, int, str]) -> None:
        """A dump of pages: number, revision, text."""
        made = [
            page(number, text).replace(f"<revision><id>{number + 1000}<", f"<revision><id>{revision}<")
            for number, revision, text in pages
        ]
        (self.folder / name).write_bytes(dump(*made))

    @property
    def recipe(self) -> Recipe:
        limits, shards = {"rejected_percent": 100}, {"partitions": 1}
        document = {"corpus": "rows", "source": self.source, "steps": self.steps, "limits": limits, "shards": shards}
        return parse(document, root=self.folder)

    def run(self, store: Store | None = None, *, days: float = 1.0, again: Again = NOTHING_AGAIN) -> Published:
        self.now += timedelta(days=days)
        return ingest(self.recipe, store or self.store, self.context(), again=again)

    def context(self) -> Context:
        return Context(root=self.folder, web=FAST, scratch=self.folder / "scratch", now=lambda: self.now)

    def samples(self, manifest: Manifest) -> dict[str, tuple[str, str]]:
        """The split and the text of each sample."""
        columns = ["key", "split", "content_sha256"]
        rows = Version(self.store, manifest).records(columns=columns).read_all().to_pylist()
        return {row["key"]: (row["split"], row["content_sha256"]) for row in rows}


def rows(*numbers: int) -> list[Row]:
    return [(f"text number {number}", "even" if number % 2 == 0 else "odd") for number in numbers]
