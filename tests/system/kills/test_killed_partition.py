"""kill -9 in the middle of a long partition: of what was finished, no more than 5 s are asked for again."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.reading import segments
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import open_store
from stoker.storage.versions import layout
from tests.conftest import HANGS_S
from tests.site import FAST, Reply, Request, Site
from tests.system.old_store.inputs import picture

pytestmark = pytest.mark.slow
THREADS = 4
IN_FLIGHT = 2 * THREADS + 1
SEED = 20260101


def run(url: str, folder: Path, urls: list[str]) -> None:
    """Ingest one partition of these URLs, at one time, so that two runs write the same bytes."""
    (folder / "list.txt").write_text("".join(f"{one}\n" for one in urls))
    source = {"name": "image_urls", "lists": "list.txt", "partition_urls": 10**6}
    recipe = parse({"corpus": "birds", "source": source, "limits": {"rejected_percent": 100}}, root=folder)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    web = replace(FAST, threads=THREADS, connections_per_host=THREADS)
    ingest(recipe, open_store(url), Context(root=folder, web=web, scratch=folder / "scratch", now=lambda: at))


def start(url: str, folder: Path, urls: list[str]) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=run, args=(url, folder, urls))
    process.start()
    return process


def finished(process: multiprocessing.process.BaseProcess) -> None:
    process.join(HANGS_S)
    assert process.exitcode == 0


def bytes_in(store: Store) -> dict[str, bytes]:
    keys = [stored.key for stored in store.list("birds/") if stored.key.split("/")[1] in ("raw", "shards")]
    return {key: store.read(key) for key in keys}


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.mark.parametrize(
    ("urls", "kills", "delay_s"),
    [(1500, 1, 0.03), pytest.param(5000, 20, 0.03, marks=pytest.mark.nightly)],
)
def test_what_was_finished_is_asked_once(site: Site, tmp_path: Path, urls: int, kills: int, delay_s: float) -> None:
    def answer(request: Request) -> Reply:
        return replace(pictures[int(request.path[1:]) % len(pictures)], delay_s=delay_s)

    pictures = [Reply(picture(number)) for number in range(20)]
    site.pages = {f"/{number}": answer for number in range(urls)}
    names = [site.url(f"/{number}") for number in range(urls)]
    moments = random.Random(SEED)
    stores = {name: DirectoryStore(tmp_path / name) for name in ("calm", "killed")}
    for name in stores:
        (tmp_path / name).mkdir()
    finished(start(f"file://{tmp_path / 'calm'}", tmp_path, names))
    site.log.clear()
    killed = 0
    for _ in range(kills):
        asked = len(site.pages_asked)
        until = asked + (urls * 7 // 10 if kills == 1 else moments.randrange(1, urls * 3 // 10))
        process = start(f"file://{tmp_path / 'killed'}", tmp_path, names)
        while process.is_alive() and len(site.pages_asked) < until:
            time.sleep(0.01)
        if process.is_alive():
            process.kill()
            killed += 1
        process.join(HANGS_S)
    assert killed
    finished(start(f"file://{tmp_path / 'killed'}", tmp_path, names))
    assert len(set(site.pages_asked)) == urls
    per_s = THREADS / delay_s
    most = killed * (IN_FLIGHT + (segments.INTERVAL_S + 1) * per_s)
    assert len(site.pages_asked) - urls <= most
    assert bytes_in(stores["killed"]) == bytes_in(stores["calm"])
    assert not [key for key in bytes_in(stores["killed"]) if layout.is_segment(key)]
