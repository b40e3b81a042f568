"""The bytes as they were fetched are kept, and another recipe makes samples of them without a request."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.repair import repair
from stoker.pipelines.source import Context
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.pipelines.stages.ingest import IngestStopped, ingest_partition
from stoker.pipelines.stages.publish import Published
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.store import Payload
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout, orphans
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.stages.remembering.world import World
from tests.site import FAST, Reply, Site
from tests.system.old_store.inputs import picture

ANEW = Again(older_recipe=True)


class Keeping(World):
    """A world whose recipe keeps originals, and makes pictures of some size."""

    side, least, keeps = 32, 8, True

    @property
    def recipe(self) -> Recipe:
        document: dict[str, Any] = dict(super().recipe.document)
        steps: list[dict[str, object]] = [{"name": "image_size", "min_short_side": self.least}]
        steps += [{"name": "image", "mode": "center_crop", "size": self.side}]
        return parse(document | {"steps": steps, "store": {"originals": self.keeps}}, root=self.folder)

    def originals(self) -> dict[str, dict[str, bytes]]:
        """The files in each tar of originals, by name."""
        found = {}
        for stored in self.store.list("birds/raw/"):
            if layout.is_originals(stored.key):
                with tarfile.open(fileobj=io.BytesIO(self.store.read(stored.key))) as tar:
                    files = ((member.name, tar.extractfile(member)) for member in tar)
                    found[stored.key] = {name: file.read() for name, file in files if file}
        return found

    def sides(self, published: Published) -> dict[str, int]:
        rows = Version(self.store, published.manifest).records(["url", "width"]).read_all().to_pylist()
        return {row["url"]: row["width"] for row in rows}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Keeping]:
    with Site() as site:
        world = Keeping(tmp_path, site)
        world.serve(*range(10))
        world.names(*range(10))
        yield world


def sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def test_originals_are_the_bytes_that_were_served_also_of_rejected_pictures(world: Keeping) -> None:
    world.least = 20
    world.site.pages["/9.jpg"] = Reply(picture(9, size=(16, 16)))
    published, _ = world.run()
    files = [file for tar in world.originals().values() for name, file in tar.items() if not name.endswith(".json")]
    assert published.manifest.rejected == {"too_small": 1}
    assert sorted(map(sha256, files)) == sorted(map(sha256, [*map(picture, range(9)), picture(9, size=(16, 16))]))
    assert sorted(world.originals()) == sorted({key for part in published.manifest.parts for key in part.originals})
    assert verify(world.store, published.manifest).problems == ()


def test_another_recipe_makes_samples_of_them_while_the_server_is_down(world: Keeping) -> None:
    first, _ = world.run()
    before = world.originals()
    world.side = 24
    world.site.pages.clear()
    second, asked = world.run(again=ANEW)
    assert (second.new, asked, set(world.sides(second).values())) == (True, [], {24})
    assert world.sides(second).keys() == world.sides(first).keys()
    assert world.originals() == before  # none is there twice
    world.side = 16
    third, asked = world.run(again=ANEW)
    assert (asked, set(world.sides(third).values())) == ([], {16})
    assert verify(world.store, third.manifest).problems == ()


def test_without_them_and_without_the_server_samples_stay_as_they_were(world: Keeping) -> None:
    world.keeps = False
    world.run()
    assert world.originals() == {}
    world.side = 24
    world.site.pages.clear()
    second, asked = world.run(again=ANEW)
    assert (asked, set(world.sides(second).values())) == (list(range(10)), {32})


def test_what_the_older_recipe_rejected_is_decided_anew_of_its_original(world: Keeping) -> None:
    world.least = 20
    world.site.pages["/9.jpg"] = Reply(picture(9, size=(16, 16)))
    first, _ = world.run()
    world.least, world.side = 8, 24
    world.site.pages.clear()
    second, asked = world.run()  # without --refresh=recipe: the others stay
    assert (asked, first.manifest.rejected, second.manifest.rejected) == ([], {"too_small": 1}, {})
    assert sorted(world.sides(second).values()) == [24, *[32] * 9]


@pytest.mark.parametrize(("word", "samples"), [("drop", 9), ("keep", 10)])
def test_what_vanished_by_404_is_not_made_anew_unless_it_is_kept(world: Keeping, word: str, samples: int) -> None:
    world.memory = {"vanished": word}
    world.run()
    del world.site.pages["/3.jpg"]
    for _ in range(2):
        refreshed, _ = world.run(again=Again(kept=True))
    assert refreshed.manifest.samples == samples
    world.side = 24
    second, asked = world.run(again=ANEW, days=0)
    assert (asked, len(world.sides(second))) == ([3] if word == "drop" else [], samples)
    assert set(world.sides(second).values()) == {24}
    if word == "drop":
        world.serve(3)
        third, _ = world.run(days=31)
        assert list(world.sides(third).values()) == [24] * 10


def test_a_refresh_asks_the_server_all_the_same(world: Keeping) -> None:
    world.run()
    assert world.run(again=Again(kept=True))[1] == list(range(10))


def test_a_damaged_or_lost_original_is_asked_for_again_and_told(
    world: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    world.serve(*range(10, 60))
    world.names(*range(60))  # where ten URLs fall, by their digests with the site's port, may be one partition
    first, _ = world.run()
    tars = world.originals()
    damaged, lost = sorted(tars)[:2]
    payload = world.store.read(damaged)
    world.store.write(damaged, payload[:600] + bytes([payload[600] ^ 1]) + payload[601:])
    world.store.delete(lost)
    verified = verify(world.store, first.manifest)
    assert [problem.partition(": ")[0] for problem in verified.problems] == [damaged]
    assert verified.lost_originals == (lost,)
    world.side = 24
    second, asked = world.run(again=ANEW)
    assert len(asked) == 1 + len([name for name in tars[lost] if not name.endswith(".json")])
    assert set(world.sides(second).values()) == {24}
    assert "is damaged or lost (sha256" in caplog.text
    assert "is damaged or lost (memory:" in caplog.text
    assert repair(world.recipe, second.manifest, {damaged}, world.store, world.folder / "scratch") == []
    assert verify(world.store, second.manifest).problems == ()


def test_gc_keeps_them_as_long_as_a_part_names_them(world: Keeping) -> None:
    world.run()
    world.side = 24
    world.run(again=ANEW)
    world.store.delete(layout.version("birds", 1))  # the new parts name tars in folders of old ones
    kept = world.originals()
    for number in range(1, 3):
        world.store.delete(layout.ledger("birds", number))

    def found() -> list[str]:
        referenced = orphans.ReferencedKeys(world.store)
        referenced.refresh()
        return [key for orphan in orphans.find(world.store, "birds", referenced.of("birds")) for key in orphan.keys]

    assert set(found()).isdisjoint(kept)
    stray = layout.raw_originals("birds", layout.folder_of(next(iter(kept))).split("/")[2], "0" * 64)
    world.store.create(stray, b"of a killed ingest")
    assert stray in found()


def test_a_partition_that_was_stopped_goes_on_with_its_originals(world: Keeping) -> None:
    world.options["partition_urls"] = 40
    context = Context(root=world.folder, web=FAST, scratch=world.folder / "scratch", now=lambda: world.now)
    (partition,) = world.recipe.source.partitions(context)
    asked = iter([False] * 6)
    with pytest.raises(IngestStopped):
        ingest_partition(world.recipe, partition, world.store, context, stop=lambda: next(asked, True))
    assert [len(files) for files in world.originals().values()] == [12]  # and a record of each
    published, _ = world.run()
    (part,) = published.manifest.parts
    assert len(part.originals) == 2
    world.side = 24
    world.site.pages.clear()
    second, _ = world.run(again=ANEW)
    assert set(world.sides(second).values()) == {24}


def test_a_purge_takes_them_too(world: Keeping) -> None:
    world.run()
    world.side = 24
    world.run(again=ANEW)
    secret = picture(3)
    forget(world.store, "birds", [("url", world.url(3))], now=lambda: world.now)
    done = purge(world.store, "birds", scratch=world.folder / "scratch", now=lambda: world.now)
    assert any(layout.is_originals(key) for key in done.receipt["objects"])
    stored = [world.store.read(stored.key) for stored in world.store.list("birds/")]
    assert not any(secret[-150:-50] in payload for payload in stored)
    newest = load_manifest(world.store, "birds")
    assert verify(world.store, newest).problems == ()
    world.side = 16
    world.site.pages.clear()
    third, asked = world.run(again=ANEW)  # the others are still there
    assert (asked, set(world.sides(third).values()), len(world.sides(third))) == ([], {16}, 9)
    assert verify(world.store, third.manifest).problems == ()


def test_a_purge_that_was_killed_before_its_record_is_finished_by_one_of_more(
    world: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    world.side = 24
    world.run(again=ANEW)

    def forget_and_purge(number: int) -> None:
        forget(world.store, "birds", [("url", world.url(number))], now=lambda: world.now)
        purge(world.store, "birds", scratch=world.folder / "scratch", now=lambda: world.now)

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "create", _dies_at("birds/withdrawn/", world.store.create))
        with pytest.raises(KeyboardInterrupt):
            forget_and_purge(3)
    forget_and_purge(2)
    for number in (1, 2, 3, 4):
        verified = verify(world.store, load_manifest(world.store, "birds", number))
        assert (verified.problems, verified.lost_originals) == ((), ())
    for number in (1, 2, 3):  # what the memory names is enough
        world.store.delete(layout.version("birds", number))
    assert not [
        world.store.read(one.key) for one in world.store.list() if picture(3)[-150:-50] in world.store.read(one.key)
    ]
    world.side = 16
    world.site.pages.clear()
    last, asked = world.run(again=ANEW)
    assert (asked, set(world.sides(last).values()), len(world.sides(last))) == ([], {16}, 8)


def _dies_at(prefix: str, create: Callable[[str, Payload], None]) -> Callable[[str, Payload], None]:
    def dying(key: str, payload: Payload) -> None:
        if key.startswith(prefix):
            raise KeyboardInterrupt
        create(key, payload)

    return dying


def test_a_purge_takes_them_where_no_record_of_theirs_is_left(world: Keeping) -> None:
    world.options["partition_urls"] = 40
    world.least = 20
    world.names(*range(5))
    world.run()
    bad = picture(6)[:-40]
    world.site.pages |= {"/5.jpg": Reply(picture(5, size=(16, 16))), "/6.jpg": Reply(bad)}
    world.names(*range(7))
    world.run()  # a part without samples: both are rejected
    world.least = 8
    world.site.pages["/6.jpg"] = Reply(picture(60))
    world.run(again=Again(reasons=("truncated",)))  # a new part names the tar for 5.jpg, and replaces the old one
    world.names(*range(8))
    last, _ = world.run()

    def found(secret: bytes) -> list[str]:
        stored = world.store.list("birds/")
        return [one.key for one in stored if secret[-150:-50] in world.store.read(one.key)]

    (tar,) = found(bad)
    parts = last.manifest.parts
    assert any(tar in part.originals for part in parts)
    assert layout.folder_of(tar) not in {layout.folder_of(part.records) for part in parts}
    forget(world.store, "birds", [("url", world.url(6))], now=lambda: world.now)
    done = purge(world.store, "birds", scratch=world.folder / "scratch", now=lambda: world.now)
    assert tar in done.receipt["objects"]
    assert (found(bad), found(picture(60))) == ([], [])
    assert purge(world.store, "birds", scratch=world.folder / "scratch", now=lambda: world.now).new is False
    assert verify(world.store, load_manifest(world.store, "birds")).problems == ()
    world.side = 24
    world.site.pages.clear()
    last, asked = world.run(again=ANEW)  # the others are still there
    assert (asked, set(world.sides(last).values()), len(world.sides(last))) == ([], {24}, 7)


@pytest.mark.parametrize("cut", [0, 300, 1024, 2000, 10**9])
def test_a_purge_removes_a_tar_of_them_that_is_damaged(
    world: Keeping, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    world.options["partition_urls"] = 40
    world.run()
    (tar,) = world.originals()
    payload = world.store.read(tar)
    damaged = payload[:600] + bytes([payload[600] ^ 1]) + payload[601:]
    world.store.write(tar, damaged[: max(0, len(damaged) - cut)])
    forget(world.store, "birds", [("url", world.url(3))], now=lambda: world.now)
    purge(world.store, "birds", scratch=world.folder / "scratch", now=lambda: world.now)
    assert world.originals() == {}
    assert f"{tar}: sha256" in caplog.text
    assert verify(world.store, load_manifest(world.store, "birds")).problems == ()


def test_a_source_that_keeps_none_is_refused(tmp_path: Path) -> None:
    document = {"corpus": "pets", "source": {"name": "local_files", "files": "pets"}}
    with pytest.raises(RecipeError, match=r"store\.originals: source 'local_files' keeps none"):
        parse(document | {"store": {"originals": True}}, root=tmp_path)
    parse(document | {"store": {"originals": False}}, root=tmp_path)


def test_they_are_no_part_of_what_a_version_is(world: Keeping) -> None:
    with_them = world.recipe
    world.keeps = False
    assert world.recipe.digest == with_them.digest
    assert replace(with_them, store=world.recipe.store).extraction_digest == world.recipe.extraction_digest


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_wherever_the_store_fails_no_original_is_missed(tmp_path: Path, after: bool) -> None:
    for calls in range(1, 10**3, 6):
        (tmp_path / str(calls)).mkdir()
        with Site() as site:
            world, store = Keeping(tmp_path / str(calls), site), FailingCalls(after=after)
            world.store = store
            world.serve(*range(4))
            world.names(*range(4))
            store.left = calls
            with suppress(StorageUnavailable):
                world.run()
            was_killed, store.left = store.left <= 0, 10**9
            world.run(days=0)
            world.side = 24
            world.site.pages.clear()
            second, asked = world.run(again=ANEW)
            assert (asked, set(world.sides(second).values())) == ([], {24})
            assert verify(store, second.manifest).problems == ()
        if not was_killed:
            break
    assert calls > 12
