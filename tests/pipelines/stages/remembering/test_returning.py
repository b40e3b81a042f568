"""What a source has again, after another state in its place: the samples are those of what it has now."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from stoker.pipelines.stages.unchanged import find_unchanged
from stoker.storage.errors import StorageUnavailable
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.films import film
from tests.pipelines.stages.remembering.read_world import World


def of_table(world: World, state: str) -> None:
    """A text that changes, and one that is too short in one of the states."""
    world.source = world.source | {"key": "label"}
    world.steps = [{"name": "text_length", "min_characters": 8}]
    short = "short" if state == "b" else "long enough"
    world.table([(f"the text of {state}", "one"), ("another text", "two"), (short, "three")])
    world.table([("a text beside", "four")], name="b")


def of_dump(world: World, state: str) -> None:
    """A text that is altered under its revision."""
    world.source = {"name": "wikipedia_dump", "dump": "*.xml"}
    world.dump("jan.xml", (1, 11, f"Text {state}"), (2, 12, "Second"))


def of_clips(world: World, state: str) -> None:
    """Clips that share a part, one of which the list labels anew."""
    for name, size in (("one", (64, 48)), ("two", (80, 48))):
        if not (world.folder / f"{name}.mp4").exists():
            film(world.folder / f"{name}.mp4", [0, 500], size=size)
    (world.folder / "clips.csv").write_text(f"url,label\none.mp4,{state}\ntwo.mp4,other\n")
    world.source = {"name": "video_frames", "lists": "clips.csv"}


def told(world: World, manifest: Manifest) -> list[tuple[object, ...]]:
    columns = ("label", "width", "content_sha256", "split")
    found = Version(world.store, manifest).records().read_all().to_pylist()
    return sorted((tuple(row.get(name) for name in columns) for row in found), key=str)


@pytest.mark.parametrize("make", [of_table, of_dump, of_clips])
def test_samples_are_those_of_the_state_that_is_back(tmp_path: Path, make: Callable[[World, str], None]) -> None:
    world = World(tmp_path)
    seen: dict[str, list[tuple[object, ...]]] = {}
    for state in "abab":
        make(world, state)
        published = world.run()
        assert published.new
        assert seen.setdefault(state, told(world, published.manifest)) == told(world, published.manifest)
        assert find_unchanged(world.recipe, world.store, world.context()) == published.manifest
    assert seen["a"] != seen["b"]


def test_what_was_read_long_ago_is_read_again_beside_what_was_known_then(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.source = world.source | {"key": "label"}
    states = {"a": ("1", "2"), "b": ("one", "2"), "c": ("un", "deux")}
    seen: dict[str, list[tuple[object, ...]]] = {}
    for state in "abcb":
        world.table([(f"text {text}", str(number)) for number, text in enumerate(states[state])])
        found = told(world, world.run().manifest)
        assert seen.setdefault(state, found) == found


def test_a_kill_while_a_state_is_read_again_ends_in_the_same_bytes(tmp_path: Path) -> None:
    def back(folder: Path, calls: int) -> tuple[Manifest, bool]:
        folder.mkdir()
        world, store = World(folder), FailingCalls(after=calls % 2 == 1)
        world.store, store.left = store, 10**9
        for state in "ab":
            of_table(world, state)
            world.run()
        of_table(world, "a")
        store.left = calls
        with suppress(StorageUnavailable):
            world.run()
        was_killed, store.left = store.left <= 0, 10**9
        return world.run(days=0).manifest, was_killed

    expected, _ = back(tmp_path / "whole", 10**9)
    for calls in range(2, 10**3, 11):
        manifest, was_killed = back(tmp_path / str(calls), calls)
        assert (manifest.content, manifest.version) == (expected.content, 3)
        if not was_killed:
            break
    assert calls > 13


@pytest.mark.parametrize("keyed", [False, True])
def test_rows_of_one_identity_stay_what_they_are_however_often_the_table_is_exported(
    tmp_path: Path, keyed: bool
) -> None:
    """A text with two labels, and with a key a key twice: no version, and none of them is lost."""
    world = World(tmp_path)
    if keyed:
        world.source = world.source | {"key": "text"}
    twice = [("one text", "a"), ("another text", "b"), ("one text", "c")]
    world.table(twice)
    first = world.run()
    assert first.manifest.samples == (2 if keyed else 3)
    for number, table in enumerate((twice, twice[::-1], twice)):
        world.table(table, exported=f"export {number}")
        again = world.run()
        assert (again.new, again.manifest.samples) == (False, first.manifest.samples)
    world.table(twice[1:], exported="without the first")
    last = world.run().manifest
    assert [row[0] for row in told(world, last)] == ["b", "c"]
