"""A source that lists nothing: of a changed recipe, what older ones made stays; nothing to do is seen without a run."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from stoker.pipelines.memory import file_notes
from stoker.pipelines.memory.known import Again
from stoker.pipelines.sources import hugging_face, wikipedia_dump
from stoker.pipelines.stages.remembering.counting import count_remembered
from stoker.pipelines.stages.unchanged import find_unchanged
from stoker.pipelines.video import names
from stoker.storage.errors import StorageUnavailable
from stoker.storage.shards.shard import iter_samples
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.films import film
from tests.pipelines.stages.remembering.read_world import World, rows
from tests.site import Reply, Site
from tests.system.old_store.inputs import picture

REMADE = Again(older_recipe=True)
NOTE = "made by an older recipe"
PLAIN = {"name": "text_normalise", "form": "NFKC"}  # writes a raised 2 as 2


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def texts(world: World, manifest: Manifest) -> dict[str, str]:
    tars = (world.store.read(shard.key) for shard in manifest.shards)
    return {one.key: one.fields["txt"].decode() for tar in tars for one in iter_samples(tar)}


def splits(world: World, manifest: Manifest) -> dict[str, str]:
    return {key: split for key, (split, _) in world.samples(manifest).items()}


def older(world: World) -> int:
    remembered = count_remembered(world.store, "rows", world.now)
    assert remembered is not None
    return remembered.older_recipe


def test_pages_of_an_older_recipe_stay_and_newcomers_are_made_by_the_new_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.source = {"name": "wikipedia_dump", "dump": "*.xml"}
    world.steps = [{"name": "text_length", "min_characters": 6}]
    world.dump("jan.xml", (1, 11, "Gold² melts"), (2, 12, "Tin²"), (3, 13, "#REDIRECT [[Tin]]"))
    first = world.run().manifest
    assert (texts(world, first), first.rejected) == ({"dewiki-1": "Gold² melts"}, {"too_short": 1, "redirect": 1})
    world.steps = [PLAIN, {"name": "text_length", "min_characters": 3}]
    second = world.run().manifest
    # What was too short for the older recipe is not for this one.
    assert (texts(world, second), second.rejected) == (
        {"dewiki-1": "Gold² melts", "dewiki-2": "Tin2"},
        {"redirect": 1},
    )
    assert caplog.text.count(f"1 sample was {NOTE} and stays; `stoker ingest RECIPE --refresh=recipe`") == 1
    assert older(world) == 1
    assert set(first.shards) <= set(second.shards), "no old shard is written again"
    assert not world.run().new
    world.dump("feb.xml", (1, 11, "Gold² melts"), (4, 14, "Iron²"))
    third = world.run().manifest
    assert texts(world, third) == texts(world, second) | {"dewiki-4": "Iron2"}
    assert caplog.text.count(NOTE) == 1, "told once"
    assert verify(world.store, third).problems == ()


def test_pages_are_made_anew_on_demand_and_keep_their_splits(world: World) -> None:
    world.source = {"name": "wikipedia_dump", "dump": "*.xml"}
    world.dump("jan.xml", *((number, number, f"Text² {number:04}") for number in range(1, 40)), (40, 40, "Ore"))
    first = world.run().manifest
    (world.folder / "jan.xml").unlink()
    world.dump("feb.xml", *((number, number, f"Text² {number:04}") for number in range(2, 40)), (40, 40, "Ore"))
    world.steps = [PLAIN, {"name": "text_length", "min_characters": 4}]
    assert world.run().manifest.samples == 40
    remade = world.run(again=REMADE).manifest
    # What the source no longer has stays as it is.
    assert texts(world, remade) == {
        key: text if key == "dewiki-1" else text.replace("²", "2")
        for key, text in texts(world, first).items()
        if text != "Ore"
    }
    assert splits(world, remade).items() <= splits(world, first).items()
    assert remade.rejected == {"too_short": 1}
    assert (older(world), verify(world.store, remade).problems) == (1, ())
    assert not world.run().new
    world.dump("mar.xml", (50, 50, "New text"))
    grown = world.run().manifest
    assert grown.rejected == {"too_short": 1}, "what was rejected when it was made anew still counts"
    assert not world.run(again=REMADE).new


@pytest.mark.parametrize("keyed", [False, True])
def test_rows_that_are_made_anew_keep_their_keys_wherever_they_stand(world: World, keyed: bool) -> None:
    world.source |= {"key": "text"} if keyed else {}
    told = [(f"{text}²", label) for text, label in rows(*range(30))]
    world.table(told)
    first = world.run().manifest
    world.table([("First²", "odd"), *reversed(told)])
    world.steps = [PLAIN]
    kept = world.run().manifest
    assert texts(world, first).items() <= texts(world, kept).items()
    assert (kept.known, kept.samples, older(world)) == (30, 31, 30)
    remade = world.run(again=REMADE).manifest
    assert texts(world, remade) == {key: text.replace("²", "2") for key, text in texts(world, kept).items()}
    assert splits(world, remade) == splits(world, kept)
    assert (older(world), verify(world.store, remade).problems) == (0, ())


def test_a_video_that_an_older_recipe_made_is_neither_asked_for_nor_decoded(world: World) -> None:
    with Site() as site:
        body = film(world.folder / "film.mp4", list(range(0, 10_000, 500))).read_bytes()
        site.pages["/film.mp4"] = Reply(body, headers={"Content-Type": "video/mp4"})
        world.source = {"name": "video_frames", "videos": site.url("/film.mp4"), "format": "png"}
        first = world.run().manifest
        seen = len(site.pages_asked)
        world.source |= {"frames_per_second": 2, "format": "jpg"}
        second = world.run().manifest
        assert (len(site.pages_asked), set(second.shards)) == (seen, set(first.shards))
        assert (older(world), world.run().new) == (first.samples, False)
        remade = world.run(again=REMADE).manifest
        assert (remade.samples, older(world)) == (2 * first.samples, 0)
        assert not world.run().new


def test_of_a_video_that_had_too_many_frames_those_are_read_that_are_none_too_many_now(world: World) -> None:
    film(world.folder / "film.mp4", list(range(0, 10_000, 500)))
    world.source = {"name": "video_frames", "videos": "film.mp4", "format": "png", "max_frames": 4}
    first = world.run().manifest
    assert (first.samples, first.rejected) == (4, {"too_long": 1})
    world.source |= {"max_frames": 100, "format": "jpg"}
    second = world.run().manifest
    extensions = Version(world.store, second).records(columns=["members"]).read_all()["members"].to_pylist()
    formats = sorted(
        member["extension"] for members in extensions for member in members if member["extension"] != "json"
    )
    assert formats == ["jpg"] * 6 + ["png"] * 4
    assert (second.rejected, second.known, older(world)) == ({}, 4, 4)
    film(world.folder / "film.mp4", list(range(0, 10_000, 500)), title="Other bytes")
    assert (world.run().manifest.samples, older(world)) == (10, 0)


def test_a_site_is_not_asked_for_pictures_that_an_older_recipe_made(world: World) -> None:
    with Site() as site:
        for number in range(6):
            site.pages[f"/{number}.jpg"] = Reply(picture(number))
        images = "".join(f'<img src="/{number}.jpg">' for number in range(6))
        site.pages["/"] = Reply(images.encode(), headers={"Content-Type": "text/html"})
        world.source = {"name": "image_urls", "start": site.url("/"), "partition_urls": 4}
        first = world.run().manifest
        seen = len(site.pages_asked)
        world.steps = [{"name": "image", "mode": "pad", "size": 16, "format": "png"}]
        second = world.run().manifest
        assert (site.pages_asked[seen:], set(second.shards)) == (["/"], set(first.shards))
        remade = world.run(again=REMADE).manifest
        assert (remade.samples, older(world)) == (6, 0)
        assert splits(world, remade) == splits(world, first)


@pytest.mark.parametrize("resumes", [REMADE, Again()], ids=["refresh", "plain"])
def test_a_kill_while_rows_are_made_anew_ends_in_the_same_version(tmp_path: Path, resumes: Again) -> None:
    def remade(folder: Path, calls: int) -> tuple[Manifest, bool, dict[str, str]]:
        folder.mkdir()
        world, store = World(folder), FailingCalls()
        world.store = store
        world.table([(f"{text}²", label) for text, label in rows(*range(30))])
        world.run(store)
        world.steps = [PLAIN]
        world.run(store)
        store.left = calls
        with suppress(StorageUnavailable):
            world.run(store, again=REMADE)
        was_killed, store.left = store.left <= 0, 10**9
        manifest = world.run(store, days=0, again=resumes).manifest
        assert verify(store, manifest).problems == ()
        return manifest, was_killed, texts(world, manifest)

    expected, _, wanted = remade(tmp_path / "whole", 10**9)
    for calls in range(1, 10**3, 31):
        manifest, was_killed, found = remade(tmp_path / str(calls), calls)
        if resumes == REMADE:
            assert (manifest.content, manifest.version) == (expected.content, 3)
        else:  # what was not planned yet is not made anew without being asked to
            assert set(found) == set(wanted)
        if not was_killed:
            break
    assert calls > 90


def of_table(world: World, number: int) -> None:
    world.table(rows(*range(20 + number)))


def of_dump(world: World, number: int) -> None:
    world.source = {"name": "wikipedia_dump", "dump": "*.xml"}
    world.dump("jan.xml", *((one, one, f"Text {one:04}") for one in range(1, 20 + number)))


def of_video(world: World, number: int) -> None:
    world.source = {"name": "video_frames", "videos": "*.mp4"}
    film(world.folder / "film.mp4", list(range(0, 10_000 + 1000 * number, 500)))


def refused(path: Path) -> None:
    raise AssertionError(f"{path} is read")


@pytest.mark.parametrize("make", [of_table, of_dump, of_video])
def test_nothing_is_read_of_files_that_are_as_they_were(
    world: World, make: Callable[[World, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_notes, "SETTLED_S", 0)
    make(world, 0)
    published = world.run()
    before = {one.key for one in world.store.list()}
    with monkeypatch.context() as patched:
        patched.setattr(hugging_face, "_counted", refused)
        patched.setattr(wikipedia_dump, "scan_dump", refused)
        patched.setattr(names, "_sha256", refused)
        assert find_unchanged(world.recipe, world.store, world.context()) == published.manifest
    for path in world.folder.rglob("*.*"):
        os.utime(path)  # touched, and of the same bytes: they are read, and nothing is to be done
    assert find_unchanged(world.recipe, world.store, world.context()) == published.manifest
    assert {one.key for one in world.store.list()} == before
    make(world, 1)
    assert find_unchanged(world.recipe, world.store, world.context()) is None
    assert world.run().new
    world.steps = [{"name": "text_length"}]
    assert find_unchanged(world.recipe, world.store, world.context()) is None


def test_a_site_is_not_crawled_for_it(world: World) -> None:
    with Site() as site:
        site.pages["/1.jpg"] = Reply(picture(1))
        site.pages["/"] = Reply(b"<img src='/1.jpg'>", headers={"Content-Type": "text/html"})
        world.source = {"name": "image_urls", "start": site.url("/")}
        world.run()
        seen = len(site.pages_asked)
        assert find_unchanged(world.recipe, world.store, world.context()) is None
        assert len(site.pages_asked) == seen


def test_images_with_more_pixels_than_the_recipe_allows_now_are_taken_out_on_demand(world: World) -> None:
    world.source = {"name": "local_files", "files": "*.png"}
    for side in (16, 24, 48):
        Image.effect_noise((side, side), 64).save(world.folder / f"{side}.png")
    assert world.run().manifest.samples == 3
    world.steps = [{"name": "image_size", "max_long_side": 40}]
    assert world.run().manifest.samples == 3
    remade = world.run(again=REMADE).manifest
    assert (remade.samples, dict(remade.rejected)) == (2, {"too_many_pixels": 1})
    assert not world.run(again=REMADE).new
    world.steps = [{"name": "image_size", "max_long_side": 60}]
    assert world.run().manifest.samples == 3
