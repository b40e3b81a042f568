"""A site, a list of its pictures, a store and a clock: what ingests of several days see."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stoker.pipelines.memory.known import NOTHING_AGAIN, Again
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.web.client import Web
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from tests.site import FAST, Reply, Site
from tests.system.old_store.inputs import picture


class World:
    """A site with pictures, a list of them, a store and a clock."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site, self.store = folder, site, MemoryStore()
        self.now = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
        self.list: list[str] = []
        self.options: dict[str, object] = {"partition_urls": 4}
        self.memory: dict[str, object] = {}
        self.limit, self.partitions = 90.0, 2
        self.seen = 0

    def serve(self, *numbers: int) -> None:
        for number in numbers:
            self.site.pages[f"/{number}.jpg"] = Reply(picture(number))

    @property
    def recipe(self) -> Recipe:
        (self.folder / "list.txt").write_text("".join(f"{line}\n" for line in self.list))
        source = {"name": "image_urls", "lists": "list.txt"} | self.options
        limits = {"rejected_percent": self.limit}
        tables = {"limits": limits, "shards": {"partitions": self.partitions}, "memory": self.memory}
        return parse({"corpus": "birds", "source": source, **tables}, root=self.folder)

    def url(self, number: int) -> str:
        return self.site.url(f"/{number}.jpg")

    def names(self, *numbers: int) -> None:
        self.list = [self.url(number) for number in numbers]

    @property
    def context(self) -> Context:
        return Context(root=self.folder, web=FAST, scratch=self.folder / "scratch", now=lambda: self.now)

    def run(
        self, *, store: Store | None = None, again: Again = NOTHING_AGAIN, days: float = 1.0, web: Web = FAST
    ) -> tuple[Published, list[int]]:
        """Ingest, a day later; what was published, and the numbers of the pictures that were asked for."""
        self.now += timedelta(days=days)
        published = ingest(self.recipe, store or self.store, replace(self.context, web=web), again=again)
        return published, self.asked()

    def asked(self) -> list[int]:
        paths, self.seen = self.site.pages_asked[self.seen :], len(self.site.pages_asked)
        return sorted(int(path[1:].removesuffix(".jpg")) for path in paths)
