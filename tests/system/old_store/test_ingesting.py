"""Into a store that commit 01b1951 wrote the same recipes are ingested: nothing doubles, moves or is fetched again."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from stoker.pipelines.recipe import load
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import Published, ingest
from stoker.storage.indexed.indexing import index
from stoker.storage.indexed.tars import find_tars
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import newest_head
from stoker.storage.versions.version import Version
from tests.site import FAST, Site
from tests.system.old_store.inputs import PORT, RECIPES, SITE
from tests.system.old_store.make import INDEXED, TARS, reply

READ_AGAIN = {"squares", "wiki"}  # step image and source wikipedia_dump are of another version: they read better now
CRAWLED = {"pages": ["/pages/index.html", *(f"/pages/{page}.html" for page in (0, 1, 2, 3, "gone"))]}
MORE_REJECTS = {"scored"}  # an empty line of its list is a candidate now, and packed with the others' parts
# Rules of another version, and rows that are counted now, give a version of the same samples.
UNCHANGED = {"plain", "pages", "tables", "films", "scored"}


_TAKEN: list[int] = []  # the port, where it stayed another program's: that is waited for once


def site_at_port() -> Site | None:
    deadline = time.monotonic() + (0 if _TAKEN else 120)  # another run of these tests has it for a while
    while True:
        with suppress(OSError):
            return Site(port=PORT)
        if time.monotonic() > deadline:
            _TAKEN.append(PORT)
            return None
        time.sleep(0.1)


@pytest.fixture
def site(unpacked: Path) -> Iterator[Site]:
    """The web site under its old address."""
    served = site_at_port()
    if served is None:
        pytest.skip(f"port {PORT} is another program's")
    for path in (unpacked / "site").rglob("*"):
        if path.is_file():
            place = f"/{path.relative_to(unpacked / 'site').as_posix()}"
            served.pages[place] = reply(place, path.read_bytes())
    with served:
        yield served


def objects(store: Store, corpus: str) -> dict[str, bytes]:
    """The objects of a corpus by key; of a group's marker what it said before it had a checksum."""
    found: dict[str, bytes] = {}
    for stored in store.list(f"{corpus}/"):
        payload = store.read(stored.key)
        if stored.key.endswith("/group.json"):
            marker = json.loads(payload)
            marker.pop("checksum", None)
            payload = json.dumps(marker, sort_keys=True).encode()
        found[stored.key] = payload
    return found


def split_of_samples(store: Store, manifest: Manifest) -> list[tuple[str, str]]:
    rows = Version(store, manifest).records(columns=["key", "split"]).read_all().to_pylist()
    return sorted((row["key"], row["split"]) for row in rows)


def run(store: Store, unpacked: Path, corpus: str, scratch: Path) -> Published:
    recipe = load(unpacked / "inputs" / f"{corpus}.toml")
    return ingest(recipe, store, Context(root=recipe.root, web=FAST, scratch=scratch))


@pytest.mark.parametrize("corpus", RECIPES)
def test_nothing_is_fetched_again_and_nothing_moves(
    own_store: Store, unpacked: Path, site: Site, tmp_path: Path, corpus: str
) -> None:
    old = load_manifest(own_store, corpus)
    before, splits = objects(own_store, corpus), split_of_samples(own_store, old)
    published = run(own_store, unpacked, corpus, tmp_path)
    now = published.manifest
    assert sorted(site.pages_asked) == sorted(CRAWLED.get(corpus, []))
    assert split_of_samples(own_store, now) == splits
    assert {key: payload for key, payload in objects(own_store, corpus).items() if key in before} == before
    if corpus not in READ_AGAIN:
        assert {part.digest for part in old.parts} <= {part.digest for part in now.parts}
    if corpus not in READ_AGAIN | MORE_REJECTS:
        assert now.shards == old.shards
    assert published.new == (corpus not in UNCHANGED)
    assert verify(own_store, now).problems == ()
    again = run(own_store, unpacked, corpus, tmp_path)
    assert (again.new, again.manifest) == (False, now)
    assert len(catalog.versions(own_store, corpus)) == old.version + published.new


def test_of_a_list_that_grew_only_the_end_is_fetched(unpacked: Path, site: Site, tmp_path: Path) -> None:
    shutil.copytree(unpacked / "store" / "birds", tmp_path / "store" / "birds")
    shutil.copytree(unpacked / "inputs", tmp_path / "inputs")
    store = DirectoryStore(tmp_path / "store")
    old = load_manifest(store, "birds")
    splits = split_of_samples(store, old)
    with (tmp_path / "inputs" / "birds-2.csv").open("a") as file:
        file.writelines(f"{SITE}/plain/{number:02d}.png,new,kind 0\n" for number in range(4))
    now = run(store, tmp_path, "birds", tmp_path / "scratch").manifest
    assert {part.digest for part in old.parts[:-1]} <= {part.digest for part in now.parts}
    assert len(site.pages_asked) <= old.parts[-1].read + 4
    assert [row for row in split_of_samples(store, now) if row in splits] == splits
    assert now.samples == old.samples + 4


def test_outcomes_of_before_there_was_a_ledger_have_the_time_of_then(
    unpacked: Path, site: Site, tmp_path: Path
) -> None:
    shutil.copytree(unpacked / "store" / "birds", tmp_path / "store" / "birds")
    store = DirectoryStore(tmp_path / "store")
    old = load_manifest(store, "birds")
    run(store, unpacked, "birds", tmp_path / "scratch")
    head = newest_head(store, "birds")
    assert head is not None
    tables = [table for stored in head.outcomes for table in outcomes.open_outcomes(store, stored).scan()]
    known = pa.concat_tables(tables).to_pylist()
    published = datetime.fromisoformat(old.created_at)
    adopted = [one for one in known if one["part"] in {part.digest for part in old.parts}]
    assert {one["reason"] is None for one in adopted} == {True, False}
    assert all(one["at"] <= published for one in adopted)


@pytest.mark.parametrize("corpus", INDEXED)
def test_tars_that_are_indexed_again_keep_keys_and_splits(own_store: Store, unpacked: Path, corpus: str) -> None:
    old = load_manifest(own_store, corpus)
    tars = find_tars(str(unpacked / TARS) if corpus == "elsewhere" else f"{own_store.url}/{TARS}", own_store)
    now = index(tars, own_store, corpus)
    assert now is not None
    assert split_of_samples(own_store, now.manifest) == split_of_samples(own_store, old)
    assert verify(own_store, now.manifest).problems == ()
    again = index(tars, own_store, corpus)
    assert again is not None
    assert (again.new, again.manifest) == (False, now.manifest)
