"""A corpus of pictures whose captions and records hold tokens, of which some are taken out; and a search for tokens."""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

import stoker
from stoker.pipelines.memory.known import Again
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.purge import Purge, purge
from stoker.pipelines.stages.publish import Published, ingest
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import load_manifest
from tests.site import FAST
from tests.system.old_store.inputs import picture

CORPUS = "stories"
TOKEN = "zyxgone{:03d}"  # in caption and record of each sample
_TOKENS = re.compile(rb"zyxgone([0-9]+)")
GONE = (3, 17, 18, 39)


class World:
    """A folder of pictures with captions, and the versions that are made of it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.gone: list[str] = []  # keys
        (folder / "files").mkdir(parents=True, exist_ok=True)

    def put(self, *numbers: int) -> None:
        for number in numbers:
            token, stem = TOKEN.format(number), self.folder / "files" / f"{number:03d}"
            stem.with_suffix(".jpg").write_bytes(picture(number))
            stem.with_suffix(".txt").write_text(f"a picture of {token}")
            about = {"title": f"about {token}", "mood": token if number % 2 else "calm", "author": f"author{number}"}
            stem.with_suffix(".json").write_text(json.dumps(about))

    def run(self, *, again: bool = False) -> Published:
        recipe = parse(
            {
                "corpus": CORPUS,
                "source": {"name": "local_files", "files": "files/*.jpg", "files_per_partition": 8},
                "splits": {"train": 80, "test": 20},
                "shards": {"partitions": 2},
                "limits": {"rejected_percent": 90.0},
            },
            root=self.folder,
        )
        context = Context(root=self.folder, web=FAST, scratch=self.folder / "scratch")
        return ingest(recipe, self.store, context, again=Again(all=again))

    def keys(self, *numbers: int) -> list[str]:
        """The keys of the pictures of these numbers."""
        manifest = load_manifest(self.store, CORPUS)
        rows = stoker.Version(self.store, manifest).records(["key", "author"]).read_all().to_pylist()
        wanted = {f"author{number}" for number in numbers}
        keys = [row["key"] for row in rows if row["author"] in wanted]
        assert len(keys) == len(numbers)
        return keys

    def take_out(self, *numbers: int) -> None:
        keys = self.keys(*numbers)
        forget(self.store, CORPUS, [("key", key) for key in keys])
        self.gone += keys

    def purge(self) -> Purge:
        return purge(self.store, CORPUS, scratch=self.folder / "scratch")


def made(folder: Path, store: Store) -> World:
    """Three versions: of 32 pictures, of 40, and of those without some, which were taken out."""
    world = grown(folder, store)
    world.take_out(*GONE)
    return world


def grown(folder: Path, store: Store) -> World:
    """Two versions, of 32 pictures and of 40."""
    world = World(folder, store)
    world.put(*range(32))
    world.run()
    world.put(*range(32, 40))
    world.run()
    return world


def texts_in(key: str, payload: bytes) -> Iterator[bytes]:
    """All that an object says: its bytes, and those that are packed in it."""
    yield payload
    if key.endswith(".parquet"):
        yield repr(pq.read_table(io.BytesIO(payload)).to_pylist()).encode()
        yield repr(pq.read_metadata(io.BytesIO(payload)).to_dict()).encode()
    if key.endswith((".json", ".jsonl")):  # in which a letter may be written as its number
        for line in payload.splitlines():
            yield repr(json.loads(line)).encode()
    if key.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
            for member in tar:
                yield member.name.encode()
                if file := tar.extractfile(member):
                    yield file.read()


def found(store: Store, *numbers: int) -> list[str]:
    """The objects in which the token of one of these samples is, by whatever name."""
    return [stored.key for stored in store.list("") if holds_token(stored.key, store.read(stored.key), numbers)]


def holds_token(name: str, payload: bytes, numbers: Iterable[int]) -> bool:
    """Whether the token of one of these samples is in an object."""
    wanted = {b"%03d" % number for number in numbers}
    return any(not wanted.isdisjoint(_TOKENS.findall(text)) for text in texts_in(name, payload))


def problems(store: Store) -> list[str]:
    manifests = [load_manifest(store, CORPUS, number) for number in catalog.versions(store, CORPUS)]
    return [problem for manifest in manifests for problem in verify(store, manifest).problems]


def found_all(store: Store) -> list[StoredObject]:
    return list(store.list(""))
