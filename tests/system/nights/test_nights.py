"""Thirty nights of a corpus whose site changes each day: every request, sample and memory is what the design says."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.version import Version
from tests.fakes import FailingCalls
from tests.site import FAST, Site
from tests.system.nights.model import Model
from tests.system.nights.site_script import HONEST, Night, Script, conditions_of, path_of

# One attempt a URL, and no host that counts as down: each request is one that the model names.
WEB = replace(FAST, robots=False, attempts=1, failures_before_down=10**6)
FIRST = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


class Corpus:
    """A corpus of a site, ingested night after night."""

    def __init__(self, folder: Path, site: Site, script: Script, store: Store, vanished: str = "keep") -> None:
        self.vanished = vanished
        self.folder, self.site, self.script, self.store = folder, site, script, store
        self.now = FIRST
        site.pages = dict(script.handlers())

    @property
    def recipe(self) -> Recipe:
        urls = (self.site.url(path_of(number)) for number in self.script.listed)
        (self.folder / "list.txt").write_text("".join(f"{url}\n" for url in urls))
        source = {"name": "image_urls", "lists": "list.txt", "partition_urls": 40}
        tables = {"limits": {"rejected_percent": 100}, "memory": {"vanished": self.vanished, "vanished_percent": 100}}
        return parse({"corpus": "birds", "source": source, **tables}, root=self.folder)

    def ingest(self, night: Night) -> Published:
        again = Again(all=night.retry_failed, kept=night.refresh, older_than=timedelta(days=night.older_than_days))
        context = Context(root=self.folder, web=WEB, scratch=self.folder / "scratch", now=lambda: self.now)
        try:
            return ingest(self.recipe, self.store, context, again=again)
        finally:
            WEB.close()

    def asked(self) -> Counter[tuple[str, str, str]]:
        """The requests since the last time."""
        found = Counter((request.path, *conditions_of(request)) for request in self.site.log)
        self.site.log.clear()
        return found

    def samples(self, published: Published) -> dict[str, tuple[str, str]]:
        """The hash of the fetched bytes and the split of each sample, by its path."""
        rows = Version(self.store, published.manifest).records(["url", "sha256", "split"]).read_all().to_pylist()
        start = len(self.site.url(""))
        return {row["url"][start:]: (row["sha256"], row["split"]) for row in rows}


def run_nights(corpus: Corpus, nights: int) -> None:
    """Compare each night with the model."""
    model = Model(drops=corpus.vanished == "drop")
    splits, before, night = dict[str, str](), dict[str, bytes](), Night(False, 0, False)
    for number in range(nights):
        expected = model.night(corpus.script, night, corpus.now)
        published = corpus.ingest(night)
        assert corpus.asked() == expected, f"night {number}"
        samples = corpus.samples(published)
        assert {path: sha for path, (sha, _) in samples.items()} == {
            path: hashlib.sha256(body).hexdigest() for path, body in model.kept.items()
        }, f"night {number}"
        assert published.new == (model.kept != before), f"night {number}"
        before = model.kept
        assert {path: split for path, (_, split) in samples.items()}.items() >= {
            path: split for path, split in splits.items() if path in samples
        }.items(), "a split is for ever"
        splits |= {path: split for path, (_, split) in samples.items()}
        night = corpus.script.next_night()
        corpus.now += timedelta(days=1)
    assert verify(corpus.store, published.manifest).problems == ()
    for page, known in list(model.known.items())[:: max(1, len(model.known) // 60)]:
        (found,) = find_lineages(corpus.store, published.manifest, corpus.site.url(path_of(page)))
        last = found.attempts.made[-1]
        assert (last.reason, last.at) == (known.reason, known.at)
        assert known.kind in ("kept", "bytes") or last.tries == known.tries


@pytest.mark.slow
@pytest.mark.parametrize("vanished", ["keep", "drop"])
def test_thirty_nights_make_the_requests_of_the_design_and_no_other(tmp_path: Path, site: Site, vanished: str) -> None:
    run_nights(Corpus(tmp_path, site, Script(pages=200, seed=1), MemoryStore(), vanished), 30)


@pytest.mark.nightly
def test_thirty_nights_of_2000_pages(tmp_path: Path, site: Site) -> None:
    run_nights(Corpus(tmp_path, site, Script(pages=2000, seed=2), MemoryStore()), 30)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    pages=st.integers(4, 60),
    nights=st.integers(2, 12),
    vanished=st.sampled_from(["keep", "drop"]),
)
def test_any_script_makes_the_requests_of_the_design(
    tmp_path_factory: pytest.TempPathFactory, site: Site, seed: int, pages: int, nights: int, vanished: str
) -> None:
    site.log.clear()
    folder = tmp_path_factory.mktemp("nights")
    run_nights(Corpus(folder, site, Script(pages=pages, seed=seed), MemoryStore(), vanished), nights)


def test_two_stores_with_the_same_history_have_the_same_bytes(tmp_path: Path, site: Site) -> None:
    def history() -> dict[str, bytes]:
        store = MemoryStore()
        corpus = Corpus(tmp_path, site, Script(pages=60, seed=3), store)
        night = Night(False, 0, False)
        for _ in range(8):
            corpus.ingest(night)
            night = corpus.script.next_night()
            corpus.now += timedelta(days=1)
        return {stored.key: bytes(store.read(stored.key)) for stored in store.list()}

    assert history() == history()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_crashes_lose_and_mix_nothing(tmp_path: Path, site: Site, seed: int) -> None:
    """All is asked for each night, so that the corpus holds what the site does, however often an ingest is cut off."""
    store, chance = FailingCalls(after=seed % 2 == 1), random.Random(seed)
    script = Script(pages=40, seed=seed, modes=HONEST)
    corpus, held = Corpus(tmp_path, site, script, store), dict[str, bytes]()
    for _ in range(10):
        published = None
        while published is None:
            store.left = chance.choice([10**9, chance.randrange(1, 120)])
            with suppress(StorageUnavailable):
                published = corpus.ingest(Night(True, 0, True))
        store.left = 10**9
        for number in script.listed:
            page = script.all[number]
            if not page.fault:
                held.pop(path_of(number), None)
                if page.revision >= 0:
                    held[path_of(number)] = page.body
        samples = corpus.samples(published)
        assert {path: sha for path, (sha, _) in samples.items()} == {
            path: hashlib.sha256(body).hexdigest() for path, body in held.items()
        }
        assert verify(store, published.manifest).problems == ()
        script.next_night()
        corpus.now += timedelta(days=1)
