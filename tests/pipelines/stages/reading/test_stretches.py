"""A film that was read in stretches becomes the part of one that was read at once; after a kill none is read twice."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.ingest import cut, ingest_partition, ingest_stretch, part_digest, plan
from stoker.pipelines.stages.reading import segments as sealing
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.tombstones import add_tombstones
from tests.fakes import Killed
from tests.fakes import context as fake_context
from tests.pipelines.films import cut_short_films, film
from tests.pipelines.video.decoding.test_run_decoder import CLOSED, OPEN, moving

STRETCHES = 5


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short_films(monkeypatch)
    monkeypatch.setattr(sealing.Segments, "seal_if_due", sealing.Segments.seal)


def context(folder: Path) -> Context:
    return replace(fake_context(folder), now=lambda: datetime(2026, 1, 1, tzinfo=UTC))


def films(folder: Path, *, is_open: bool = False, **options: Any) -> tuple[Recipe, Partition]:
    """A recipe of a film of 10 s with a key frame each second, and its partition."""
    moving(folder / "a.mp4", *(OPEN if is_open else CLOSED)["a.mp4"][:2])
    source = {"name": "video_frames", "videos": "a.mp4", "frames_per_second": 5, **options}
    recipe = parse({"corpus": "films", "source": source}, root=folder)
    (partition,) = plan(recipe, context(folder))
    return recipe, partition


def read_stretches(recipe: Recipe, partition: Partition, store: Store, folder: Path) -> list[Partition]:
    stretches = list(cut(recipe, partition, store, context(folder)))
    for number in range(1, len(stretches) + 1):
        assert ingest_stretch(recipe, partition, store, context(folder), stretches=stretches, number=number)
    return stretches


def whole(recipe: Recipe, partition: Partition, folder: Path) -> tuple[Part, dict[str, bytes]]:
    store = MemoryStore()
    part = ingest_partition(recipe, partition, store, context(folder)).part
    return part, objects_in(store)


def objects_in(store: MemoryStore) -> dict[str, bytes]:
    return {stored.key: store.read(stored.key) for stored in store.list()}


@pytest.mark.parametrize("options", [{}, {"frames_per_second": 25, "short_side": 24}, {"start_s": 3}])
def test_stretches_in_any_order_become_the_part_of_the_whole_film(options: dict[str, Any], tmp_path: Path) -> None:
    recipe, partition = films(tmp_path, **options)
    store = MemoryStore()
    stretches = cut(recipe, partition, store, context(tmp_path))
    numbers = list(range(1, len(stretches) + 1))
    assert len(numbers) == (3 if "start_s" in options else STRETCHES)
    for number in numbers[1::2] + numbers[::2]:
        assert ingest_stretch(recipe, partition, store, context(tmp_path), stretches=stretches, number=number)
    part = ingest_partition(recipe, partition, store, context(tmp_path), stretches=stretches).part
    assert (part, objects_in(store)) == whole(recipe, partition, tmp_path)


def test_after_a_kill_only_stretches_in_flight_are_read_again(tmp_path: Path) -> None:
    recipe, partition = films(tmp_path)
    store, read = MemoryStore(), list[int]()
    stretches = cut(recipe, partition, store, context(tmp_path))

    def progress(count: int, kept: int) -> None:
        read.append(count)
        if len(read) == 25:
            raise Killed

    def go_on() -> None:
        for number in range(1, STRETCHES + 1):
            assert ingest_stretch(
                recipe, partition, store, context(tmp_path), stretches=stretches, number=number, progress=progress
            )

    with pytest.raises(Killed):
        go_on()
    assert len(list(store.list(layout.raw_segments("films", part_digest(recipe, partition))))) > 2
    go_on()
    assert len(read) <= 25 + 50 - 20, "the first two stretches are not read again"
    part = ingest_partition(recipe, partition, store, context(tmp_path), stretches=stretches, progress=progress).part
    assert (part, objects_in(store)) == whole(recipe, partition, tmp_path)


def test_a_film_whose_stretches_are_not_all_there_is_read_at_once(tmp_path: Path) -> None:
    recipe, partition = films(tmp_path)
    store = MemoryStore()
    stretches = read_stretches(recipe, partition, store, tmp_path)
    keys = [one.key for one in store.list(layout.raw_segments("films", part_digest(recipe, partition)))]
    assert len({layout.segment_number(key) // 100_000 for key in keys}) == STRETCHES
    store.delete(keys[-1])
    part = ingest_partition(recipe, partition, store, context(tmp_path), stretches=stretches).part
    assert (part, objects_in(store)) == whole(recipe, partition, tmp_path)


def test_a_damaged_segment_of_a_stretch_is_not_used(tmp_path: Path) -> None:
    recipe, partition = films(tmp_path)
    store = MemoryStore()
    stretches = read_stretches(recipe, partition, store, tmp_path)
    key = next(iter(store.list(layout.raw_segments("films", part_digest(recipe, partition))))).key
    store.write(key, store.read(key)[:-1500] + bytes(1500))
    part = ingest_partition(recipe, partition, store, context(tmp_path), stretches=stretches).part
    assert (part, objects_in(store)) == whole(recipe, partition, tmp_path)


def test_a_film_that_is_damaged_or_cannot_be_cut_is_read_at_once(tmp_path: Path) -> None:
    recipe, partition = films(tmp_path)
    payload = bytearray((tmp_path / "a.mp4").read_bytes())
    payload[len(payload) // 2 : len(payload) // 2 + 400] = bytes(400)
    (tmp_path / "a.mp4").write_bytes(payload)
    (partition,) = plan(recipe, context(tmp_path))
    store = MemoryStore()
    stretches = cut(recipe, partition, store, context(tmp_path))
    told = [
        ingest_stretch(recipe, partition, store, context(tmp_path), stretches=stretches, number=number + 1)
        for number in range(len(stretches))
    ]
    assert not all(told)
    part = ingest_partition(recipe, partition, store, context(tmp_path)).part
    assert part.rejected == {"corrupt": 1}
    assert (part, objects_in(store)) == whole(recipe, partition, tmp_path)
    recipe, partition = films(tmp_path, is_open=True)
    assert cut(recipe, partition, MemoryStore(), context(tmp_path)) == []


def test_a_film_that_was_begun_at_once_is_finished_at_once(tmp_path: Path) -> None:
    recipe, partition = films(tmp_path)
    store = MemoryStore()

    def progress(count: int, kept: int) -> None:
        if count == 20:
            raise Killed

    with pytest.raises(Killed):
        ingest_partition(recipe, partition, store, context(tmp_path), progress=progress)
    assert cut(recipe, partition, store, context(tmp_path)) == ()
    part = ingest_partition(recipe, partition, store, context(tmp_path)).part
    assert (part, objects_in(store)) == whole(recipe, partition, tmp_path)


def test_frames_that_were_forgotten_since_their_stretch_was_read_are_not_in_the_part(tmp_path: Path) -> None:
    recipe, partition = films(tmp_path)
    store = MemoryStore()
    stretches = read_stretches(recipe, partition, store, tmp_path)
    key = f"{partition.name.rpartition('-')[2]}-000004000"
    add_tombstones(store, "films", [("key", key)], at=context(tmp_path).now())
    part = ingest_partition(recipe, partition, store, context(tmp_path), stretches=stretches).part
    assert part.rejected == {"forgotten": 1}
    assert part.kept == 49
    assert [one.key for one in store.list("films/raw/") if layout.is_segment(one.key)] == []


def test_films_of_variable_rate_are_read_in_stretches(tmp_path: Path) -> None:
    stamps = [number * 40 + (number % 7) for number in range(250)]
    film(tmp_path / "v.mkv", stamps, g="25", sc_threshold="0")
    recipe = parse({"corpus": "films", "source": {"name": "video_frames", "videos": "v.mkv"}}, root=tmp_path)
    (partition,) = plan(recipe, context(tmp_path))
    store = MemoryStore()
    stretches = read_stretches(recipe, partition, store, tmp_path)
    assert len(stretches) > 2
    part = ingest_partition(recipe, partition, store, context(tmp_path), stretches=stretches).part
    assert (part, objects_in(store)) == whole(recipe, partition, tmp_path)
