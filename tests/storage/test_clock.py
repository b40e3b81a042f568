"""With the same history and clock two empty stores get the same bytes of every object, whatever is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest
from tests.pipelines.films import film
from tests.pipelines.pictures import packed, picture
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import FAST, Reply, Site

BEGIN = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)


class Nights:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.moment = BEGIN

    def __call__(self) -> datetime:
        return self.moment


@dataclass(frozen=True)
class World:
    """What a source reads: a folder and a site."""

    folder: Path
    site: Site

    def image_urls(self, night: int) -> dict[str, object]:
        for number in range(night + 6):
            self.site.pages[f"/{number}.jpg"] = Reply(packed(picture(seed=number)))
        urls = [self.site.url(f"/{number}.jpg") for number in range(-1, night + 6)]
        (self.folder / "urls.txt").write_text("\n".join([*urls, urls[1], "no URL"]))
        return {"lists": "urls.txt", "partition_urls": 3}

    def local_files(self, night: int) -> dict[str, object]:
        for number in range(night + 6):
            (self.folder / f"{number}.png").write_bytes(packed(picture(seed=number), "PNG"))
        (self.folder / "a.txt").write_text(f"night {night}")
        (self.folder / "b.bin").write_bytes(b"\0")
        return {"files": "."}

    def hugging_face(self, night: int) -> dict[str, object]:
        texts = ["one", "", None, "four", f"night {night}"]
        pq.write_table(pa.table({"text": texts, "label": [0, 1, 0, 1, 1]}), self.folder / "x.parquet")
        return {"dataset": "x.parquet", "rows_per_partition": 2}

    def video_frames(self, night: int) -> dict[str, object]:
        film(self.folder / "a.mp4", [0, 500, 1000, 1500, *[2000] * night])
        self.site.pages["/b.mp4"] = Reply(film(self.folder / "b.video.mp4", [0, 1000]).read_bytes())
        (self.folder / "c.mp4").write_bytes(f"no video of night {night}".encode())
        return {"videos": ["[ac].mp4", self.site.url("/b.mp4")]}

    def wikipedia_dump(self, night: int) -> dict[str, object]:
        pages = [
            page(number, f"Text {number} of night {night}.", revision=10 * night + number) for number in range(1, 5)
        ]
        (self.folder / "x.xml").write_bytes(dump(*pages, page(9, "Talk", ns=1)))
        self.site.pages["/y.xml"] = Reply(dump(page(10, "From afar.")))
        return {"dump": ["x.xml", self.site.url("/y.xml")], "wiki": "dewiki"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        (tmp_path / "input").mkdir()
        yield World(tmp_path / "input", site)


def objects(store: MemoryStore) -> dict[str, bytes]:
    return {stored.key: store.read(stored.key) for stored in store.list()}


def times(store: MemoryStore, manifest: Manifest) -> set[str]:
    """Every time at which a version says that something was fetched."""
    tables = [records.decode(store.read(part.records)) for part in manifest.parts]
    found = {
        value for table in tables if "fetched_at" in table.column_names for value in table["fetched_at"].to_pylist()
    }
    return found - {None}


@pytest.mark.parametrize("name", ["image_urls", "local_files", "hugging_face", "video_frames", "wikipedia_dump"])
def test_two_stores_of_one_history_and_clock_hold_the_same_bytes(name: str, world: World, tmp_path: Path) -> None:
    clock = Nights()
    context = Context(root=world.folder, web=FAST, scratch=tmp_path / "scratch", now=clock)
    options: Callable[[int], dict[str, object]] = getattr(world, name)
    stores = MemoryStore(), MemoryStore()
    try:
        for night in (0, 1):
            document = {
                "corpus": "same",
                "source": {"name": name} | options(night),
                "limits": {"rejected_percent": 100},
            }
            recipe = parse(document, root=world.folder)
            clock.moment = BEGIN + timedelta(days=night)
            manifests = [ingest(recipe, store, context).manifest for store in stores]
            assert manifests[0].version == night + 1
            assert manifests[0].created_at == clock.moment.isoformat()
            for store, manifest in zip(stores, manifests, strict=True):
                assert times(store, manifest) <= {(BEGIN + timedelta(days=day)).isoformat() for day in range(night + 1)}
            assert objects(stores[0]) == objects(stores[1])
    finally:
        context.web.close()
