"""A corpus that grows writes what is new, and no old shard."""

import hashlib
import io
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.elders.grouping import groups_of, with_groups_of
from stoker.pipelines.stages.publish import ingest
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Payload
from stoker.storage.versions.manifest import Manifest, Part
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import FAST, Reply, Site

ITEMS, NEW = 600, 6


class Counting(MemoryStore):
    """Counts the bytes that are written, by the folder of a corpus."""

    def __init__(self) -> None:
        super().__init__()
        self.written: Counter[str] = Counter()

    def write(self, key: str, payload: Payload) -> None:
        super().write(key, payload)
        self.written[key.split("/")[1]] += self.size(key)

    def create(self, key: str, payload: Payload) -> None:
        super().create(key, payload)
        self.written[key.split("/")[1]] += self.size(key)


def text(number: int) -> str:
    chosen = random.Random(number)
    return " ".join("".join(chosen.choices("etaoinshrdlu", k=chosen.randint(2, 9))) for _ in range(1400))


def noise(number: int) -> bytes:
    made = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(made, "png")
    return made.getvalue()


def of_list(folder: Path, site: Site, numbers: Iterable[int]) -> dict[str, object]:
    for number in numbers:
        if f"/{number}.jpg" not in site.pages:
            site.pages[f"/{number}.jpg"] = Reply(noise(number))
    (folder / "list.txt").write_text("".join(f"{site.url(f'/{number}.jpg')}\n" for number in numbers))
    return {"name": "image_urls", "lists": "list.txt"}


def of_folder(folder: Path, site: Site, numbers: Iterable[int]) -> dict[str, object]:
    (folder / "texts").mkdir(exist_ok=True)
    for number in numbers:
        name = hashlib.sha256(str(number).encode()).hexdigest()
        (folder / "texts" / f"{name}.txt").write_text(text(number))
    return {"name": "local_files", "files": "texts/*.txt", "files_per_partition": 100}


def of_table(folder: Path, site: Site, numbers: Iterable[int]) -> dict[str, object]:
    pq.write_table(pa.table({"text": [text(number) for number in numbers]}), folder / "a.parquet")
    return {"name": "hugging_face", "dataset": "a.parquet", "rows_per_partition": 300}


def of_dump(folder: Path, site: Site, numbers: Iterable[int]) -> dict[str, object]:
    (folder / "jan.xml").write_bytes(dump(*(page(number + 1, text(number)) for number in numbers)))
    return {"name": "wikipedia_dump", "dump": "jan.xml", "partition_megabytes": 3}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(of_list, marks=pytest.mark.slow),
        pytest.param(of_folder, marks=pytest.mark.nightly),
        pytest.param(of_table, marks=pytest.mark.nightly),
        pytest.param(of_dump, marks=pytest.mark.slow),
    ],
)
def test_one_percent_more_writes_no_old_shard_and_two_percent_of_the_bytes(
    tmp_path: Path, make: Callable[[Path, Site, Iterable[int]], dict[str, object]]
) -> None:
    store, now = Counting(), datetime(2026, 3, 2, tzinfo=UTC)

    def run(numbers: Sequence[int]) -> Manifest:
        nonlocal now
        now += timedelta(days=1)
        document = {"corpus": "grows", "source": make(tmp_path, site, numbers), "shards": {"partitions": 2}}
        context = Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch", now=lambda: now)
        return ingest(parse(document, root=tmp_path), store, context).manifest

    with Site() as site:
        numbers = list(range(ITEMS))
        first = run(numbers)
        assert len({shard.group for shard in first.shards}) > 1 or make is not of_folder
        for grown in range(2):
            whole = sum(stored.size for stored in store.list())
            for number in range(NEW):
                numbers.insert(random.Random(number).randrange(len(numbers)), ITEMS + grown * NEW + number)
            store.written.clear()
            manifest = run(numbers)
            assert manifest.samples == len(numbers)
            assert set(first.shards) <= set(manifest.shards)
            assert sum(store.written.values()) < 0.02 * whole, (whole, store.written)


OPTIONS = {"corpus": "a", "source": {"name": "local_files", "files": "x"}, "shards": {"partitions": 9}}
RECIPE = parse(OPTIONS, root=Path())


def part(number: int, kept: int) -> Part:
    name = hashlib.sha256(str(number).encode()).hexdigest()
    size = kept * 10**5
    return Part(name, name, "", "", size, "", "", kept, kept, {}, grouped=kept > 0)


def keys(recipe: Recipe, parts: Sequence[Part]) -> list[tuple[str, ...]]:
    return [tuple(one.digest for one in group) for group in groups_of(recipe, [one for one in parts if one.grouped])]


@given(st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=12), min_size=2, max_size=6))
def test_groups_stay_as_parts_come_and_little_more_than_what_is_new_is_packed(runs: list[list[int]]) -> None:
    before: list[Part] = []
    number = 0
    for kept in runs:
        new = [part(number + place, count) for place, count in enumerate(kept)]
        number += len(new)
        parts = with_groups_of(RECIPE, [*before, *new], before)
        old = set(keys(RECIPE, before))
        packed = {one for group in keys(RECIPE, parts) if group not in old for one in group}
        sizes = {one.digest: one.tar_size for one in parts}
        if before:
            assert sum(sizes[one] for one in packed) <= 2 * sum(one.tar_size for one in new)
        assert [one for group in keys(RECIPE, parts) for one in group] == [one.digest for one in parts if one.grouped]
        assert with_groups_of(RECIPE, parts, parts) == parts, "nothing new, nothing else"
        before = parts


def test_parts_of_which_nothing_counts_any_more_move_no_other_group() -> None:
    first = [part(number, 100) for number in range(20)]
    new = [part(number, 2) for number in range(20, 60)]
    parts = with_groups_of(RECIPE, [*first, *new], first)
    assert len(keys(RECIPE, parts)) == len(keys(RECIPE, first)) + 1
    left = with_groups_of(RECIPE, [one for one in parts if one not in (parts[19], parts[30])], parts)
    assert keys(RECIPE, left)[:-2] == keys(RECIPE, parts)[:-2]
    assert len(keys(RECIPE, left)) == len(keys(RECIPE, parts))
