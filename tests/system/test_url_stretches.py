"""A film behind a URL that is read in stretches becomes the part of one that was read at once, and is sent once."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stoker.pipelines.errors import NotAtOnce
from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.ingest import ingest_partition, ingest_stretch, plan
from stoker.pipelines.stages.reading import segments as sealing
from stoker.pipelines.web.downloads import claim
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.tombstones import add_tombstones
from tests.fakes import Killed
from tests.pipelines.films import cut_short_films
from tests.pipelines.video.decoding.test_run_decoder import CLOSED, moving
from tests.site import FAST, Reply, Site

STRETCHES, FRAMES = 5, 50
WEB = replace(FAST, robots=False)


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short_films(monkeypatch)
    monkeypatch.setattr(sealing.Segments, "seal_if_due", sealing.Segments.seal)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Two films of 10 s with a key frame each second."""
    path = moving(tmp_path_factory.mktemp("films") / "a.mp4", *CLOSED["a.mp4"][:2])
    return [path.read_bytes(), moving(path, *CLOSED["a.mp4"][:2], frames=255).read_bytes()]


@pytest.fixture
def site(bodies: list[bytes]) -> Iterator[Site]:
    with Site() as site:
        site.pages["/film.mp4"] = Reply(bodies[0], etag='"v1"')
        yield site


def ranges(site: Site) -> list[str]:
    """What was asked for of the film; "": all of it."""
    return [request.headers.get("range", "") for request in site.asked("/film.mp4")]


class Run:
    """A run with several workers that reads the film of a site."""

    def __init__(self, site: Site, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.store = folder, MemoryStore()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        source = {"name": "video_frames", "videos": site.url("/film.mp4"), "frames_per_second": 5}
        self.recipe = parse({"corpus": "films", "source": source}, root=folder)
        (self.partition,) = plan(self.recipe, self.context())
        self.frames_read = 0

    def context(self, *, may_cut: bool = True) -> Context:
        now = self.now
        return Context(root=self.folder, web=WEB, scratch=self.folder / "scratch", now=lambda: now, may_cut=may_cut)

    def begin(self) -> list[Partition]:
        """The stretches, once the film is downloaded."""
        with pytest.raises(NotAtOnce) as raised:
            ingest_partition(self.recipe, self.partition, self.store, self.context())
        assert len(raised.value.stretches) == STRETCHES
        return [Partition(**stretch.as_json()) for stretch in raised.value.stretches]

    def read_stretch(self, stretches: list[Partition], number: int, *, killed_at: int = 0) -> bool:
        def progress(count: int, kept: int) -> None:
            self.frames_read += 1
            if self.frames_read == killed_at:
                raise Killed

        return ingest_stretch(
            self.recipe,
            self.partition,
            self.store,
            self.context(),
            stretches=stretches,
            number=number,
            progress=progress,
        )

    def join(self, stretches: list[Partition]) -> Part:
        def progress(count: int, kept: int) -> None:
            self.frames_read += 1

        context = self.context(may_cut=False)
        return ingest_partition(
            self.recipe, self.partition, self.store, context, stretches=stretches, progress=progress
        ).part

    def __call__(self, *, killed_at: int = 0) -> Part:
        """As workers read the film, one after the other."""
        self.frames_read, stretches = 0, self.begin()
        for number in range(1, STRETCHES + 1):
            assert self.read_stretch(stretches, number, killed_at=killed_at)
        return self.join(stretches)

    def whole(self) -> tuple[Part, dict[str, bytes]]:
        """As one worker reads the film, which is asked for once more."""
        store, context = MemoryStore(), replace(self.context(may_cut=False), downloads=self.folder / "other")
        return ingest_partition(self.recipe, self.partition, store, context).part, objects_in(store)

    def left(self) -> list[str]:
        """Files of downloads."""
        return [path.name for path in (self.folder / "scratch" / "downloads").rglob("*") if path.is_file()]


def objects_in(store: MemoryStore) -> dict[str, bytes]:
    return {stored.key: store.read(stored.key) for stored in store.list()}


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Run:
    return Run(site, tmp_path / "run")


def test_a_film_is_sent_once_and_its_stretches_become_the_part_of_one_reading(site: Site, run: Run) -> None:
    part = run()
    assert (ranges(site), run.frames_read, part.read) == ([""], FRAMES, FRAMES)
    assert run.left() == []
    assert (part, objects_in(run.store)) == run.whole()


def test_after_a_kill_the_film_is_not_sent_again_and_no_stretch_read_again(
    site: Site, run: Run, bodies: list[bytes]
) -> None:
    expected = run.whole()
    site.log.clear()
    with pytest.raises(Killed):
        run(killed_at=25)
    run.now += timedelta(days=1)
    part = run()
    assert ranges(site) == ["", f"bytes={len(bodies[0]) - 1}-"]
    assert run.frames_read <= FRAMES - 20, "of the first two stretches nothing is read again"
    assert (part, objects_in(run.store)) == expected, "with the time at which the film was received"
    assert run.left() == []


def test_of_a_film_that_changed_since_the_kill_nothing_old_is_used(site: Site, run: Run, bodies: list[bytes]) -> None:
    with pytest.raises(Killed):
        run(killed_at=25)
    site.pages["/film.mp4"] = Reply(bodies[1], etag='"v2"')
    part = run()
    assert run.frames_read == part.read == FRAMES + 1
    assert (part, objects_in(run.store)) == run.whole()
    assert run.left() == []


@pytest.mark.parametrize("how", ["holds it", "left it", "removed it", "got another one"])
def test_a_film_that_somebody_else_claimed_meanwhile_is_read_at_once(
    how: str, site: Site, run: Run, bodies: list[bytes]
) -> None:
    expected, stretches, url = run.whole(), run.begin(), site.url("/film.mp4")
    run.frames_read = 0
    assert run.read_stretch(stretches, 1)
    if how == "got another one":
        site.pages["/film.mp4"] = [Reply(bodies[1], etag='"v2"'), Reply(bodies[0], etag='"v1"')]
    with suppress(Killed), claim(run.context().downloads, url) as path:
        WEB.download(url, path, max_size=2 * len(bodies[0]), outlasts=True)
        if how == "holds it":
            assert not run.read_stretch(stretches, 2)
            part = run.join(stretches)
        elif how != "removed it":
            raise Killed
    if how != "holds it":
        assert not run.read_stretch(stretches, 2)
        part = run.join(stretches)
    last = f"bytes={len(bodies[0]) - 1}-"
    thief = {"left it": [last], "got another one": [last]}.get(how, [""])
    assert ranges(site)[1:] == ["", last, *thief] if how != "got another one" else len(ranges(site)) == 4
    assert (part, objects_in(run.store)) == expected
    assert run.left() == []


def test_a_film_that_was_forgotten_meanwhile_is_neither_asked_for_nor_kept(site: Site, run: Run) -> None:
    stretches = run.begin()
    run.frames_read = 0
    assert run.read_stretch(stretches, 1)
    add_tombstones(run.store, "films", [("url", site.url("/film.mp4"))], at=run.now)
    assert not run.read_stretch(stretches, 2)
    part = run.join(stretches)
    assert (part.read, part.rejected, ranges(site)) == (1, {"forgotten": 1}, [""])
    assert run.left() == []
    assert [key for key in objects_in(run.store) if layout.is_segment(key)] == []


def test_a_film_that_was_begun_at_once_is_finished_at_once(site: Site, run: Run) -> None:
    def progress(count: int, kept: int) -> None:
        if count == 20:
            raise Killed

    expected = run.whole()
    with pytest.raises(Killed):
        ingest_partition(run.recipe, run.partition, run.store, run.context(may_cut=False), progress=progress)
    part = ingest_partition(run.recipe, run.partition, run.store, run.context()).part
    assert (part, objects_in(run.store)) == expected


def test_a_film_for_which_the_disk_has_no_room_is_read_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(run.folder)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    part = ingest_partition(run.recipe, run.partition, run.store, run.context()).part
    assert (part, objects_in(run.store)) == run.whole()


def test_stretches_whose_segments_are_lost_are_read_as_a_whole(site: Site, run: Run) -> None:
    stretches, expected = run.begin(), run.whole()
    run.frames_read = 0
    assert all(run.read_stretch(stretches, number + 1) for number in range(STRETCHES))
    run.store.delete(next(key for key in objects_in(run.store) if layout.is_segment(key)))
    asked = len(ranges(site))
    assert (run.join(stretches), objects_in(run.store)) == expected
    assert len(ranges(site)) == asked, "what was downloaded is there"
    assert run.left() == []


def test_a_film_that_the_server_would_have_to_send_again_is_read_at_once(
    site: Site, run: Run, bodies: list[bytes]
) -> None:
    site.pages["/film.mp4"] = Reply(bodies[0])
    part = ingest_partition(run.recipe, run.partition, run.store, run.context()).part
    assert (part, objects_in(run.store)) == run.whole()
