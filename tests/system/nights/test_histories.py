"""Whatever happens to a source, and whenever an ingest of it is killed: no sample moves, and none vanishes."""

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.storage.errors import StorageUnavailable
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from tests.fakes import FailingCalls
from tests.pipelines.stages.remembering.read_world import World, rows
from tests.site import Reply, Site
from tests.system.old_store.inputs import picture

ITEMS, NEVER = 18, 10**9
KINDS: dict[str, dict[str, Any]] = {  # Any: TOML
    "table": {"name": "hugging_face", "dataset": "table", "rows_per_partition": 7},
    "table with keys": {"name": "hugging_face", "dataset": "table", "rows_per_partition": 7, "key": "text"},
    "dump": {"name": "wikipedia_dump", "dump": "*.xml"},
    "folder": {"name": "local_files", "files": "texts/**/*.txt", "files_per_partition": 5},
    "list": {"name": "image_urls", "lists": "*.list.txt", "partition_urls": 5},
}

Night = tuple[
    str, int, int | None
]  # what happens to the source, where, and the call of the store at which it is killed
nights = st.lists(
    st.tuples(
        st.sampled_from(["insert", "remove", "shuffle", "export", "divide"]),
        st.integers(0, 10**6),
        st.none() | st.integers(1, 120),
    ),
    min_size=1,
    max_size=4,
)


class Shown(World):
    """A source that shows some of the items 0, 1, 2, ... in an order."""

    def __init__(self, folder: Path, kind: str, site: Site) -> None:
        super().__init__(folder)
        self.kind, self.site, self.told = kind, site, list(range(ITEMS))
        self.source = dict(KINDS[kind])
        self.failing = FailingCalls()
        self.store = self.failing
        self.show(0, [self.told])

    def change(self, what: str, seed: int, number: int) -> None:
        place, told = seed % len(self.told), self.told
        if what == "insert":
            self.told = [*told[:place], 100 + number, *told[place:]]
        elif what == "remove" and len(told) > 1:
            self.told = [*told[:place], *told[place + 1 :]]
        elif what == "shuffle":
            self.told = [*reversed(told[place:]), *told[:place]]
        is_divided = what == "divide" and place
        self.show(number + 1, [self.told[:place], self.told[place:]] if is_divided else [self.told])

    def show(self, day: int, parts: Sequence[Sequence[int]]) -> None:
        """Exported anew: in files of other names, or with other times or comments."""
        for old in ("table", "texts"):
            shutil.rmtree(self.folder / old, ignore_errors=True)
        for file in [*self.folder.glob("*.xml"), *self.folder.glob("*.list.txt")]:
            file.unlink()
        for name, part in zip("ab", parts, strict=False):
            if self.kind.startswith("table"):
                self.table(rows(*part), name=name, exported=f"day {day}")
            elif self.kind == "dump":
                self.dump(f"{name}-{day}.xml", *((one + 1, one + 1001, f"Text number {one}") for one in part))
            elif self.kind == "folder":
                (self.folder / "texts" / name).mkdir(parents=True)
                for one in part:
                    (self.folder / "texts" / name / f"{one:03}.txt").write_text(f"text number {one}")
            else:
                for one in part:
                    self.site.pages.setdefault(f"/{one}.jpg", Reply(picture(one)))
                lines = "".join(f"{self.site.url(f'/{one}.jpg')}\n" for one in part)
                (self.folder / f"{name}.list.txt").write_text(f"{lines}\n" * (1 + day % 2))

    def night(self, killed_at: int | None) -> Manifest:
        self.failing.left = NEVER if killed_at is None else killed_at
        with suppress(StorageUnavailable):
            self.run()
        self.failing.left = NEVER
        return self.run(days=0).manifest

    def splits(self, manifest: Manifest) -> dict[str, str]:
        """By the hash of a sample's content: a file may be under another name."""
        return {content: split for split, content in self.samples(manifest).values()}


def check(kind: str, history: list[Night]) -> None:
    found: list[list[tuple[str, list[str]]]] = []
    objects: list[dict[str, str]] = []
    with Site() as site:
        for kills in (False, True):
            with TemporaryDirectory() as name:
                world = Shown(Path(name), kind, site)
                manifest = world.night(None)
                before, items = world.splits(manifest), ITEMS
                versions = []
                for number, (what, seed, killed_at) in enumerate(history):
                    world.change(what, seed, number)
                    manifest = world.night(killed_at if kills else None)
                    after = world.splits(manifest)
                    items += what == "insert"
                    assert before.items() <= after.items(), "a sample moved or vanished"
                    assert (len(after), manifest.samples) == (items, items)
                    before = after
                    # Tars alone: indexes name raw parts, and those of what was read again the number of a ledger head.
                    versions.append((manifest.content, [shard.sha256 for shard in manifest.shards]))
                assert verify(world.store, manifest).problems == ()
                found.append(versions)
                keys = [one.key for one in world.store.list()]
                objects.append({key: hashlib.sha256(world.store.read(key)).hexdigest() for key in keys})
    assert found[0] == found[1], "a kill made another version"
    if all(killed_at is None for _, _, killed_at in history):
        assert objects[0] == objects[1]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2, deadline=None)
@given(history=nights)
@example(history=[("divide", 950632, 117), ("divide", 370972, 47), ("remove", 790630, 52), ("divide", 262040, 63)])
def test_no_sample_moves_and_none_vanishes(kind: str, history: list[Night]) -> None:
    check(kind, history)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(history=nights)
def test_no_sample_moves_and_none_vanishes_in_many_histories(kind: str, history: list[Night]) -> None:
    check(kind, history)
