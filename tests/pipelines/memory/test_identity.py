"""A candidate keeps its identity wherever it stands in its source, and no two have the same one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.memory.identity import IDENTITY, identity_of
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from tests.pipelines.films import film
from tests.pipelines.pictures import packed, picture
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import FAST, Reply, Site

# Numbers of candidates, in the order in which a source has them: one is not kept.
BEFORE = (3, 4, 5, 6, 7)
AFTER = {"inserted": (1, 3, 4, 2, 5, 6, 7, 8), "removed": (3, 5, 7), "sorted anew": (7, 3, 6, 4, 5)}
REJECTED = 5


@dataclass(frozen=True)
class World:
    """What a source reads: a folder and a site. Each source gets candidates by numbers."""

    folder: Path
    site: Site

    def image_urls(self, numbers: Sequence[int]) -> dict[str, object]:
        for number in numbers:
            self.site.pages[f"/{number}.jpg"] = Reply(b"no" if number == REJECTED else packed(picture(seed=number)))
        (self.folder / "urls.txt").write_text("\n".join(self.site.url(f"/{number}.jpg") for number in numbers))
        return {"name": "image_urls", "lists": "urls.txt", "partition_urls": 3}

    def local_files(self, numbers: Sequence[int]) -> dict[str, object]:
        for path in self.folder.glob("*.png"):
            path.unlink()
        for number in numbers:
            payload = b"no" if number == REJECTED else packed(picture(seed=number), "PNG")
            (self.folder / f"{number}.png").write_bytes(payload)
        return {"name": "local_files", "files": "."}

    def _table(self, numbers: Sequence[int]) -> None:
        """Exported anew: with another time in each row, and in row groups of another size."""
        begin = datetime(2026, 1, len(numbers))
        columns = {
            "text": pa.array([None if number == REJECTED else f"text {number}" for number in numbers], pa.string()),
            "id": [f"id {number}" for number in numbers],
            "exported": [begin + timedelta(seconds=row) for row in range(len(numbers))],
        }
        pq.write_table(pa.table(columns), self.folder / "x.parquet", row_group_size=len(numbers))

    def table_with_a_key(self, numbers: Sequence[int]) -> dict[str, object]:
        self._table(numbers)
        return {"name": "hugging_face", "dataset": "x.parquet", "rows_per_partition": 2, "key": "id"}

    def table_without_one(self, numbers: Sequence[int]) -> dict[str, object]:
        self._table(numbers)
        return {"name": "hugging_face", "dataset": "x.parquet", "rows_per_partition": 2}

    def video_frames(self, numbers: Sequence[int]) -> dict[str, object]:
        for number in numbers:
            path = film(self.folder / f"{number}.mp4", [0, 1000])
            if number == REJECTED:
                path.write_bytes(b"no")
        (self.folder / "a.txt").write_text("\n".join(f"{number}.mp4" for number in numbers))
        return {"name": "video_frames", "lists": "a.txt"}

    def wikipedia_dump(self, numbers: Sequence[int]) -> dict[str, object]:
        made = [page(number, f"Text {number}.", ns=int(number == REJECTED)) for number in numbers]
        (self.folder / "x.xml").write_bytes(dump(*made))
        return {"name": "wikipedia_dump", "dump": "x.xml"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        (tmp_path / "input").mkdir()
        yield World(tmp_path / "input", site)
        FAST.close()


SOURCES = [name for name in vars(World) if not name.startswith("_") and callable(vars(World)[name])]


def identities(world: World, name: str, numbers: Sequence[int]) -> list[tuple[str, str]]:
    """The identities of all candidates, kept and rejected."""
    options: Callable[[Sequence[int]], dict[str, object]] = getattr(world, name)
    document = {"corpus": "a", "source": options(numbers), "limits": {"rejected_percent": 100}}
    context = Context(root=world.folder, web=FAST, scratch=world.folder.parent / "scratch")
    store = MemoryStore()
    manifest = ingest(parse(document, root=world.folder), store, context).manifest
    for shard in manifest.shards:
        assert IDENTITY not in records.decode(store.read(shard.index)).column_names
    rows = [row for part in manifest.parts for row in records.decode(store.read(part.records)).to_pylist()]
    return [identity_of(row) for row in rows]


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("change", AFTER)
def test_a_candidate_keeps_its_identity_whatever_happens_around_it(name: str, change: str, world: World) -> None:
    everyone = {*BEFORE, *AFTER[change]}
    pairs = {number: set(identities(world, name, (9, number))) for number in everyone}
    nine = set.intersection(*pairs.values())  # kept in each of them, as nothing is published without a sample
    of_each = {number: found - nine for number, found in pairs.items()}
    assert len(of_each[REJECTED]) == 1
    assert sum(map(len, of_each.values())) == len(set.union(*of_each.values()))
    for numbers in (BEFORE, AFTER[change]):
        found = identities(world, name, numbers)
        assert len(set(found)) == len(found)
        assert set(found) == set.union(*(of_each[number] for number in numbers))


def test_a_part_that_was_written_without_identities_has_the_keys() -> None:
    assert identity_of({"source": "local_files", "key": "a", IDENTITY: None}) == ("local_files", "a")
    assert identity_of({"key": "a"}) == ("", "a")
