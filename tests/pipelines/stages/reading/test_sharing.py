"""Small clips share raw parts; each is remembered by itself, as one with a part of its own is."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines.errors import SourceUnavailable
from stoker.pipelines.memory.known import NOTHING_AGAIN, Again
from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.sources.video_frames import VideoFrames
from stoker.pipelines.stages import publish
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.pipelines.stages.ingest import Ingested, ingest_partition
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.reading import segments, sharing
from stoker.pipelines.stages.remembering.counting import count_remembered
from stoker.pipelines.stages.remembering.read_rounds import ReadRounds
from stoker.pipelines.stages.unchanged import find_unchanged
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.memory.ledger import newest_head
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.pipelines.films import cut_short_films, film
from tests.pipelines.video.decoding.test_run_decoder import CLOSED, moving
from tests.site import FAST, Reply, Site

BROKEN = b"no video at all"


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Films of one to three frames, and what is none."""
    folder = tmp_path_factory.mktemp("films")
    made = [film(folder / f"{n}.mp4", list(range(0, 1000 * n, 500)), size=(48 + 16 * n, 48)) for n in (1, 2, 3)]
    return [*(path.read_bytes() for path in made), BROKEN]


class Clips:
    """A folder of clips and a corpus of their frames, ingested day after day."""

    def __init__(self, folder: Path, *, are_shared: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.store, self.are_shared = folder, FailingCalls(), are_shared
        self.document: dict[str, object] = {"corpus": "clips", "limits": {"rejected_percent": 100}}
        self.source: dict[str, object] = {"name": "video_frames", "videos": "*.mp4"}
        self.now = datetime(2026, 3, 2, tzinfo=UTC)

    @property
    def recipe(self) -> Recipe:
        return parse(self.document | {"source": self.source}, root=self.folder)

    def context(self) -> Context:
        web = replace(FAST, robots=False)
        return Context(root=self.folder, web=web, scratch=self.folder / "scratch", now=lambda: self.now)

    def put(self, *bodies: bytes, first: int = 0) -> None:
        for number, body in enumerate(bodies, start=first):
            (self.folder / f"{number:03d}.mp4").write_bytes(body)

    def run(self, again: Again = NOTHING_AGAIN, *, days: float = 1.0) -> Published:
        self.now += timedelta(days=days)
        with pytest.MonkeyPatch.context() as patch:
            if not self.are_shared:  # as earlier releases planned
                patch.setattr(VideoFrames, "share", lambda source, partition, context: 1.0)
            return ingest(self.recipe, self.store, self.context(), again=again)

    def state(self, published: Published) -> object:
        """All that a user sees of a version and of the memory."""
        rows = Version(self.store, published.manifest).records(["key", "split", "content_sha256", "partition"])
        told = count_remembered(self.store, "clips", self.now)
        manifest = published.manifest
        return rows.read_all().sort_by("key").to_pylist(), told, manifest.samples, manifest.read, manifest.rejected

    def objects(self) -> dict[str, bytes]:
        return {stored.key: self.store.read(stored.key) for stored in self.store.list()}

    def parts(self) -> list[int]:
        """How many clips are in each part that counts."""
        head = newest_head(self.store, "clips")
        assert head is not None
        return sorted(len(part.holds) for part in head.parts)


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    return Clips(tmp_path / "clips")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the clips that are read."""
    read, log = VideoFrames.read, list[str]()

    def logged(source: VideoFrames, partition: object, context: object) -> Iterator[object]:
        log.append(str(partition.name)[:3])  # type: ignore[attr-defined]
        return read(source, partition, context)  # type: ignore[arg-type]

    monkeypatch.setattr(VideoFrames, "read", logged)
    return log


def test_many_small_clips_share_a_part_and_an_unchanged_night_reads_none(
    clips: Clips, bodies: list[bytes], reads: list[str]
) -> None:
    clips.put(*bodies * 5)
    first = clips.run()
    assert clips.parts() == [20]
    assert len(reads) == 20
    before = clips.objects()
    assert find_unchanged(clips.recipe, clips.store, clips.context()) is not None
    assert clips.run().new is False
    assert (clips.objects(), len(reads)) == (before, 20)
    assert verify(clips.store, first.manifest).problems == ()


def changes(numbers: random.Random, bodies: list[bytes]) -> list[Callable[[Clips], object]]:
    """A night's changes of the folder: clips that come, change, go and come again, and another recipe."""

    def change(place: int, body: bytes | None) -> Callable[[Clips], object]:
        return lambda clips: replace_file(clips.folder / f"{place:03d}.mp4", body)

    def recipe(side: int) -> Callable[[Clips], object]:
        return lambda clips: clips.document.update(steps=[{"name": "image_size", "min_short_side": side}])

    def word(vanished: str) -> Callable[[Clips], object]:
        memory = {"vanished": vanished, "vanished_percent": 100}
        return lambda clips: clips.document.update(memory=memory)

    def forgotten(place: int) -> Callable[[Clips], object]:
        asked = [("url", f"file:{place:03d}.mp4")]
        return lambda clips: forget(clips.store, "clips", asked, now=lambda: clips.now)

    made = [change(numbers.randrange(12), numbers.choice([*bodies, None])) for _ in range(numbers.randrange(5))]
    made += [recipe(numbers.choice([10, 45, 60]))] if numbers.random() < 0.2 else []
    made += [forgotten(numbers.randrange(12))] if numbers.random() < 0.2 else []
    return made + ([word(numbers.choice(["keep", "drop"]))] if numbers.random() < 0.3 else [])


def replace_file(path: Path, body: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if body is not None:
        path.write_bytes(body)


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))])
def test_a_history_of_shared_clips_is_that_of_clips_with_parts_of_their_own(
    seed: int, tmp_path: Path, bodies: list[bytes]
) -> None:
    numbers = random.Random(seed)
    both = [Clips(tmp_path / "shared"), Clips(tmp_path / "own", are_shared=False)]
    if seed % 3 == 2:
        both[0].are_shared = False  # an earlier release's store goes on
    for clips in both:
        clips.put(*bodies * 3)
    for night in range(4):
        again = numbers.choice([NOTHING_AGAIN, NOTHING_AGAIN, Again(older_recipe=True)])
        made = changes(numbers, bodies) if night else []
        for clips in both:
            for change in made:
                change(clips)
        states = [clips.state(clips.run(again)) for clips in both]
        assert states[0] == states[1], f"night {night}"
        both[0].are_shared = True
    for clips in both:
        assert clips.run().new is False


@pytest.mark.parametrize("left", [9, 30, 38, 46])
def test_a_kill_ends_in_the_bytes_of_a_run_without_one(left: int, tmp_path: Path, bodies: list[bytes]) -> None:
    killed, whole = Clips(tmp_path / "a"), Clips(tmp_path / "b")
    for clips in (killed, whole):
        clips.put(*bodies * 2)
        clips.run()
        clips.put(bodies[1], BROKEN, bodies[0], bodies[2], first=6)
        replace_file(clips.folder / "001.mp4", None)
    killed.store.left, killed.store.after = left, left % 2 == 1
    with suppress(StorageUnavailable):
        killed.run()
    killed.store.left = 10**9
    last, expected = killed.run(days=0), whole.run()
    assert killed.state(last) == whole.state(expected)
    shards = [[shard.sha256 for shard in one.manifest.shards] for one in (last, expected)]
    assert shards[0] == shards[1]


def test_after_a_kill_no_clip_is_read_again_but_the_one_that_was(
    clips: Clips, bodies: list[bytes], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments.Segments, "seal_if_due", segments.Segments.seal)
    clips.put(*bodies * 2)
    seal = segments.Segments.seal_if_due

    def die(self: segments.Segments, reading: segments.Reading) -> None:
        seal(self, reading)
        if len(reading.rows) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(segments.Segments, "seal_if_due", die)
    with pytest.raises(KeyboardInterrupt):
        clips.run()
    monkeypatch.setattr(segments.Segments, "seal_if_due", seal)
    assert reads == ["000", "001", "002"]
    clips.put(bodies[0], first=8)
    clips.run()
    assert reads == [*("000", "001", "002"), *(f"{number:03d}" for number in range(2, 9))]


def test_a_clip_of_a_shared_part_is_found_by_its_name(clips: Clips, bodies: list[bytes]) -> None:
    clips.put(*bodies)
    published = clips.run()
    (broken,) = find_lineages(clips.store, published.manifest, "file:003.mp4")
    assert (broken.reason, broken.partition[:8]) == ("not_a_video", "003.mp4-")


@pytest.mark.parametrize("are_shared", [True, False])
def test_a_rejected_clip_that_goes_and_comes_back_is_in_the_accounts(
    are_shared: bool, tmp_path: Path, bodies: list[bytes], reads: list[str]
) -> None:
    clips = Clips(tmp_path / "clips", are_shared=are_shared)
    clips.put(*bodies)
    clips.run()
    for number in (4, 5):
        replace_file(clips.folder / "003.mp4", None)
        clips.run()
        clips.put(BROKEN, first=3)
        clips.put(bodies[0], first=number)
        manifest = clips.run().manifest
        assert (manifest.read, manifest.rejected) == (number + 4, {"not_a_video": 1})
        (broken,) = find_lineages(clips.store, manifest, "file:003.mp4")
        assert broken.reason == "not_a_video"
    assert clips.run().new is False
    assert reads.count("003") == (3 if are_shared else 1)


def test_the_smallest_files_share_a_part_of_thousands(clips: Clips, bodies: list[bytes]) -> None:
    clips.put(b"", b"", bodies[0])
    assert dict(clips.run().manifest.rejected) == {"empty": 2}
    assert clips.parts() == [3]
    source, context = clips.recipe.source, clips.context()
    shares = [source.share(partition, context) for partition in source.partitions(context)]
    assert 1000 < 1 / min(shares) < 10_000


def test_a_lost_part_is_read_again_as_it_was(clips: Clips, bodies: list[bytes]) -> None:
    clips.put(*bodies * 3)
    first = clips.run()
    clips.put(*bodies, first=12)
    second = clips.run(days=0)
    part = first.manifest.parts[0]
    clips.store.write(part.tar, b"damaged")
    clips.store.write(part.records, b"damaged")
    clips.run(days=0)
    for one in (first, second):
        assert verify(clips.store, one.manifest).problems == ()


def test_a_damaged_marker_is_made_again_and_no_clip_is_read(
    clips: Clips, bodies: list[bytes], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    clips.put(*bodies * 2)
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(ReadRounds, "finish", die)
        clips.run()
    (marker,) = [key for key in clips.objects() if key.endswith("part.json")]
    whole = json.loads(clips.store.read(marker))
    clips.store.write(marker, b"{")
    clips.put(bodies[0], first=8)
    assert clips.run(days=0).manifest.read == 15
    assert (clips.parts(), len(reads)) == ([1, 8], 9)
    healed = json.loads(clips.store.read(marker))
    assert (healed["shared"], healed["rejected"]) == (whole["shared"], whole["rejected"])


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def serve(clips: Clips, site: Site, pages: Mapping[str, bytes | None]) -> None:
    """A list of URLs, and what is there; None: a server that does not answer."""
    for path, body in pages.items():
        site.pages[path] = Reply(body) if body is not None else Reply(status=503)
    (clips.folder / "clips.txt").write_text("".join(f"{site.url(path)}\n" for path in pages))
    clips.source = {"name": "video_frames", "lists": "clips.txt"}


def test_urls_of_a_list_share_a_part_and_each_is_asked_for_once(clips: Clips, bodies: list[bytes], site: Site) -> None:
    serve(clips, site, {f"/{number}.mp4": bodies[number % 3] for number in range(9)})
    clips.run()
    assert clips.parts() == [9]
    assert clips.run().new is False
    assert len(site.log) == 9
    again = clips.run(Again(kept=True))
    assert (again.new, len(site.log)) == (False, 18)
    site.pages["/4.mp4"] = Reply(bodies[0])
    clips.run(Again(kept=True))
    assert (clips.parts(), len(site.log)) == ([1, 9], 28)


def test_a_server_that_is_silent_stops_none_of_the_others(clips: Clips, bodies: list[bytes], site: Site) -> None:
    pages: dict[str, bytes | None] = {f"/{number}.mp4": bodies[number % 3] for number in range(6)}
    serve(clips, site, pages | {"/2.mp4": None})
    with pytest.raises(SourceUnavailable, match=r"/2\.mp4: "):
        clips.run()
    site.pages["/2.mp4"] = Reply(bodies[2])
    site.log.clear()
    published = clips.run()
    assert [request.path for request in site.log] == ["/2.mp4"]
    assert len({row["partition"] for row in clips.state(published)[0]}) == 6  # type: ignore[index]
    assert clips.run().new is False


def test_a_lost_part_that_left_a_clip_out_is_read_again_as_it_was(
    clips: Clips, bodies: list[bytes], site: Site
) -> None:
    pages: dict[str, bytes | None] = {f"/{number}.mp4": bodies[number % 3] for number in range(5)}
    serve(clips, site, pages | {"/2.mp4": None})
    with pytest.raises(SourceUnavailable):
        clips.run()
    serve(clips, site, pages)
    first = clips.run().manifest
    (part,) = [one for one in first.parts if one.shared]
    clips.store.write(part.tar, b"damaged")
    clips.store.write(part.records, b"damaged")
    clips.store.delete(f"clips/raw/{part.digest}/part.json")
    site.log.clear()
    clips.run()
    assert sorted(request.path for request in site.log) == [f"/{number}.mp4" for number in (0, 1, 3, 4)]
    assert clips.parts() == [1, 4]
    healed = [one for one in first.parts if one.shared and clips.store.read(one.tar) != b"damaged"]
    assert healed == [part]


def test_the_name_of_a_shared_part_tells_none_of_a_clip_that_was_left_out_and_forgotten(
    clips: Clips, bodies: list[bytes], site: Site, tmp_path: Path
) -> None:
    pages: dict[str, bytes | None] = {"/jane-doe.mp4": bodies[2], "/0.mp4": bodies[0], "/1.mp4": bodies[1]}
    serve(clips, site, pages | {"/jane-doe.mp4": None})
    with pytest.raises(SourceUnavailable):
        clips.run()
    serve(clips, site, pages)
    shared, own = clips.run().manifest.parts
    forget(clips.store, "clips", [("url", site.url("/jane-doe.mp4"))])
    told = purge(clips.store, "clips", scratch=tmp_path / "scratch").receipt["unreached"]
    markers = {key: data for key, data in clips.objects().items() if key.endswith("part.json")}
    assert [key for key, data in markers.items() if b"jane-doe" in data] == [f"clips/raw/{own.digest}/part.json"]
    assert [own.digest in one for one in told if "the name of the partition" in one] == [True]
    assert (len(shared.shared), "jane-doe" in shared.partition) == (2, False)


def test_what_a_part_left_out_is_asked_for_after_a_kill_before_that_was_planned(
    clips: Clips, bodies: list[bytes], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: dict[str, bytes | None] = {f"/{number}.mp4": bodies[number] for number in range(3)}
    serve(clips, site, pages | {"/1.mp4": None})
    left_over = ReadRounds._left_over

    def die(self: ReadRounds) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ReadRounds, "_left_over", die)
    with pytest.raises(KeyboardInterrupt):
        clips.run()
    monkeypatch.setattr(ReadRounds, "_left_over", left_over)
    serve(clips, site, pages)
    published = clips.run()
    assert len({row["partition"] for row in clips.state(published)[0]}) == 3  # type: ignore[index]


@pytest.mark.parametrize("are_shared", [True, False])
def test_a_changed_clip_whose_server_is_silent_counts_as_it_was(
    are_shared: bool, tmp_path: Path, bodies: list[bytes], site: Site
) -> None:
    clips = Clips(tmp_path / "clips", are_shared=are_shared)
    clips.document["splits"] = {"train": 100}  # two get the same body later
    serve(clips, site, {"/0.mp4": bodies[0], "/1.mp4": bodies[1], "/2.mp4": BROKEN, "/3.mp4": bodies[2]})
    clips.run()
    site.pages["/0.mp4"] = Reply(bodies[1])
    site.pages["/2.mp4"] = [Reply(b"broken, in another way"), Reply(status=503)]
    with pytest.raises(SourceUnavailable, match=r"/2\.mp4: "):
        clips.run(Again(kept=True))
    for is_new in (True, False):
        night = clips.run()
        assert (night.new, night.manifest.read, night.manifest.rejected) == (is_new, 8, {"not_a_video": 1})
        (broken,) = find_lineages(clips.store, night.manifest, site.url("/2.mp4"))
        assert broken.reason == "not_a_video"
    site.pages["/2.mp4"] = Reply(bodies[0])
    last = clips.run(Again(kept=True)).manifest
    assert (last.read, last.kept, last.rejected) == (8, 8, {})
    assert clips.run().new is False


def test_behind_a_long_film_each_has_a_part_of_its_own(
    clips: Clips, bodies: list[bytes], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_MOST_FETCHED", len(bodies[0]) + 1)
    serve(clips, site, {f"/{number}.mp4": bodies[0] for number in range(5)})
    published = clips.run()
    assert clips.parts() == [1, 1, 1, 2]
    assert (published.manifest.read, len(site.log)) == (published.manifest.kept, 5)
    assert clips.run().new is False


def test_a_long_film_in_a_shared_part_is_read_at_once_and_sent_once(
    clips: Clips, bodies: list[bytes], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short_films(monkeypatch)

    def by_many(recipe: Recipe, partition: Partition, store: Store, context: Context, **options: Any) -> Ingested:
        return ingest_partition(recipe, partition, store, replace(context, may_cut=True), **options)

    monkeypatch.setattr(publish, "ingest_partition", by_many)
    long = moving(tmp_path / "long.mp4", *CLOSED["a.mp4"][:2]).read_bytes()
    serve(clips, site, {"/0.mp4": bodies[0], "/1.mp4": long, "/2.mp4": bodies[1]})
    site.pages["/1.mp4"] = Reply(long, etag='"v1"')
    clips.run()
    assert clips.parts() == [3]
    assert len(site.log) == 3


def test_an_earlier_releases_store_goes_on_as_it_is(clips: Clips, bodies: list[bytes], reads: list[str]) -> None:
    clips.are_shared = False
    clips.put(*bodies * 2)
    clips.run()
    before = clips.objects()
    clips.are_shared = True
    assert clips.run().new is False
    assert (clips.objects(), len(reads)) == (before, 8)
    clips.put(*bodies, first=8)
    clips.run()
    assert (clips.parts(), len(reads)) == ([*[1] * 8, 4], 12)
    after = clips.objects()
    assert [key for key in before if before[key] != after[key] and "/proofs" not in key] == []
