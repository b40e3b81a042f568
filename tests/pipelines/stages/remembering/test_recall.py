"""A corpus whose recipe changed: what older recipes made stays, and is made anew on demand."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.ingest import IngestStopped
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.remembering.counting import count_remembered
from stoker.pipelines.stages.unchanged import find_unchanged
from stoker.storage.errors import CorruptShard
from stoker.storage.shards.kinds import PACKED_INDEX
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.verified import verified_table
from stoker.storage.versions.version import Version
from tests.pipelines.stages.remembering.world import World as ListedWorld
from tests.site import FAST, Reply, Site
from tests.system.old_store.inputs import picture

REMADE = Again(older_recipe=True)
SMALL, SMALLER = ({"name": "image", "mode": "pad", "size": size, "format": "png"} for size in (32, 16))
NOTE = "made by an older recipe"


class World(ListedWorld):
    """A site with pictures, and a recipe with steps."""

    steps: Sequence[Mapping[str, object]] = (SMALL,)

    @property
    def recipe(self) -> Recipe:
        return parse({**super().recipe.document, "steps": [*self.steps]}, root=self.folder)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        yield World(tmp_path, site)


def widths(world: World, published: Published) -> Counter[int]:
    records = Version(world.store, published.manifest).records(columns=["width"]).read_all()
    return Counter(records["width"].to_pylist())


def splits(world: World, published: Published) -> dict[str, str]:
    found: dict[str, str] = {}
    for shard in published.manifest.shards:
        index = verified_table(world.store, shard.index, PACKED_INDEX, sha256=shard.index_sha256, columns=["url"])
        found |= dict.fromkeys(index["url"].to_pylist(), shard.split)
    return found


def test_what_an_older_recipe_made_stays_and_newcomers_are_made_by_the_new_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.serve(*range(8))
    world.names(*range(6))
    first, _ = world.run()
    assert NOTE not in caplog.text
    world.steps = (SMALLER,)
    del world.site.pages["/0.jpg"]  # it would fail tonight
    world.names(*range(1, 5), 6)  # and 5 is listed no more
    second, asked = world.run()
    assert (asked, widths(world, second)) == ([6], Counter({32: 6, 16: 1}))
    assert caplog.text.count(f"6 samples were {NOTE} and stay; `stoker ingest RECIPE --refresh=recipe`") == 1
    assert splits(world, first).items() <= splits(world, second).items()
    assert verify(world.store, second.manifest).problems == ()
    assert world.run()[1] == []


def test_rejects_of_an_older_recipe_are_due_again(world: World) -> None:
    world.serve(*range(6))
    world.site.pages["/4.jpg"] = Reply(b"no picture at all")
    world.names(*range(6))
    world.steps = ({"name": "image_size", "min_short_side": 1000}, SMALL)
    world.limit = 100
    with pytest.raises(RecipeError, match="too_small 5"):
        world.run()
    world.asked()
    world.steps = (SMALL,)
    published, asked = world.run()
    assert (asked, published.manifest.rejected) == ([0, 1, 2, 3, 5], {"not_an_image": 1})
    assert world.run()[1] == []


def test_refresh_makes_anew_what_an_older_recipe_made(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.serve(*range(8))
    world.names(*range(8))
    first, _ = world.run()
    world.steps = (SMALLER,)
    world.run()
    del world.site.pages["/2.jpg"]
    world.site.pages["/3.jpg"] = Reply(b"no picture at all")
    caplog.clear()
    remade, asked = world.run(again=REMADE)
    assert (asked, widths(world, remade)) == ([*range(8)], Counter({16: 6, 32: 1}))
    assert remade.manifest.rejected == {"not_an_image": 1}
    assert NOTE not in caplog.text
    before = splits(world, first)
    assert splits(world, remade) == {url: split for url, split in before.items() if url != world.url(3)}
    assert verify(world.store, remade.manifest).problems == ()
    world.serve(2)
    healed, asked = world.run()
    assert (asked, widths(world, healed)) == ([2], Counter({16: 7}))
    assert splits(world, healed)[world.url(2)] == before[world.url(2)]
    assert world.run(again=REMADE)[1] == []


def test_a_sample_that_the_new_recipe_rejects_goes_only_when_it_is_made_anew(world: World) -> None:
    world.serve(*range(6))
    world.names(*range(6))
    world.run()
    world.steps = ({"name": "image_size", "min_short_side": 1000}, SMALL)
    world.names(*range(5))
    assert world.run()[0].manifest.samples == 6
    world.names(*range(5))
    world.limit = 100
    remade, asked = world.run(again=REMADE)
    assert (asked, remade.manifest.samples, remade.manifest.rejected) == ([0, 1, 2, 3, 4], 1, {"too_small": 5})


class Folder:
    """A folder of pictures whose folders are their labels."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.now = root, MemoryStore(), datetime(2026, 3, 2, tzinfo=UTC)
        self.steps: Sequence[Mapping[str, object]] = ()
        for number in range(20):
            self.put(f"cats/{number:02d}.jpg", number)

    def put(self, name: str, number: int) -> None:
        path = self.root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))

    def move(self, old: str, new: str) -> None:
        (self.root / "photos" / new).parent.mkdir(exist_ok=True)
        (self.root / "photos" / old).rename(self.root / "photos" / new)

    @property
    def recipe(self) -> Recipe:
        source = {"name": "local_files", "files": "photos", "label": "folder", "files_per_partition": 3}
        splits = {"train": 50, "test": 50}
        rules = [{"name": "exact_duplicates"}]
        return parse(
            {"corpus": "photos", "source": source, "steps": [*self.steps], "splits": splits, "rules": rules},
            root=self.root,
        )

    def run(self) -> tuple[Published, dict[str, tuple[str, str]]]:
        """What was published, and label and split of each sample by its path."""
        self.now += timedelta(days=1)
        context = Context(root=self.root, web=FAST, scratch=self.root / "scratch", now=lambda: self.now)
        published = ingest(self.recipe, self.store, context)
        assert verify(self.store, published.manifest).problems == ()
        rows = Version(self.store, published.manifest).records(columns=["url", "label", "split"]).read_all().to_pylist()
        return published, {row["url"].removeprefix("file:"): (row["label"], row["split"]) for row in rows}


@pytest.mark.parametrize("steps", [(), (SMALLER,)])
def test_a_file_that_is_moved_keeps_its_split_and_gets_its_new_label(
    tmp_path: Path, steps: Sequence[Mapping[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder(tmp_path)
    _, before = folder.run()
    names = [f"{number:02d}.jpg" for number in range(12)]
    for name in names:
        folder.move(f"cats/{name}", f"dogs/{name}")
    folder.steps = steps  # changed in the same night
    moved, after = folder.run()
    assert {after[f"dogs/{name}"] for name in names} == {("dogs", split) for split in ("train", "test")}
    for name in names:
        assert after[f"dogs/{name}"] == ("dogs", before[f"cats/{name}"][1])
    assert (len(after), moved.manifest.rejected) == (20, {})
    assert "12 files are under other names now" in caplog.text
    assert "not there any more" not in caplog.text
    told = count_remembered(folder.store, "photos", folder.now)
    assert told is not None
    assert (told.classes, told.vanished) == ({"kept": 20}, 0)
    assert not folder.run()[0].new
    folder.move("dogs/00.jpg", "cats/00.jpg")
    _, at_last = folder.run()
    assert (len(at_last), at_last["cats/00.jpg"]) == (20, before["cats/00.jpg"])
    assert not folder.run()[0].new


def test_a_copy_of_a_file_that_is_still_there_is_no_move(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.run()
    folder.put("dogs/copy.jpg", 3)
    copied, after = folder.run()
    assert (len(after), copied.manifest.decisions.dropped) == (20, {"label_conflict": 1})


def test_a_copy_is_no_move_where_there_was_no_ledger_either(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = Folder(tmp_path)
    _, before = folder.run()
    for stored in list(folder.store.list(layout.ledgers("photos"))):
        folder.store.delete(stored.key)
    for number in range(20):
        folder.put(f"dogs/copy{number}.jpg", number)
    copied, after = folder.run()
    assert (after, copied.manifest.decisions.dropped) == (before, {"label_conflict": 20})
    assert "another name" not in caplog.text


def test_the_caption_of_a_picture_that_was_removed_is_no_sample(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "photos" / "cats" / "03.txt").write_text("a cat")
    _, before = folder.run()
    (tmp_path / "photos" / "cats" / "03.jpg").unlink()
    published, after = folder.run()
    assert (published.new, after) == (False, before)
    context = Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch", now=lambda: folder.now)
    assert find_unchanged(folder.recipe, folder.store, context) == published.manifest


def test_a_killed_run_of_an_older_recipe_is_not_finished_by_it(world: World) -> None:
    world.serve(*range(8))
    world.names(*range(4))
    world.run()
    world.names(*range(8))
    context = Context(root=world.folder, web=FAST, scratch=world.folder / "scratch", now=lambda: world.now)
    with pytest.raises(IngestStopped):
        ingest(world.recipe, world.store, context, stop=lambda: len(world.site.pages_asked) > 5)
    world.asked()
    world.steps = (SMALLER,)
    second, asked = world.run()
    assert (asked, widths(world, second)) == ([4, 5, 6, 7], Counter({32: 4, 16: 4}))
    assert world.run()[1] == []


def test_lost_outcomes_stop_an_ingest_until_the_memory_begins_anew_and_no_sample_is_lost(world: World) -> None:
    world.serve(*range(4))
    world.names(*range(4))
    first, _ = world.run()
    (lost,) = [one.key for one in world.store.list() if "/outcomes/" in one.key]
    world.store.delete(lost)
    world.names(*range(5))
    world.serve(4)
    with pytest.raises(CorruptShard, match=rf"{lost}: it is lost; restore .* remove all heads in .* memory/"):
        world.run()
    for head in [one.key for one in world.store.list() if "/memory/" in one.key]:
        world.store.delete(head)
    second, asked = world.run()
    assert asked == [4]
    assert splits(world, first).items() <= splits(world, second).items()
