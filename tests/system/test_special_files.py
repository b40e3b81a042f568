"""Pipes, sockets and devices where a recipe or a list names a file: an error or a reject at once, never a wait."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stoker import version
from stoker.pipelines.errors import RecipeError, SourceError
from stoker.pipelines.source import Context, Source
from stoker.pipelines.sources.hugging_face import HuggingFace
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.sources.local_files import LocalFiles
from stoker.pipelines.sources.video_frames import VideoFrames
from stoker.pipelines.sources.wikipedia_dump import WikipediaDump
from stoker.storage import open_store
from stoker.storage.errors import NotFound, StorageRefused
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.verification.repair_indexed import repair_indexed
from stoker.storage.verification.verify import verify
from stoker.storage.versions.tar_store import store_of_tars
from stoker.storage.versions.verified import verified_view
from stoker.training import ShardStream
from tests.conftest import HANGS_S
from tests.pipelines.pictures import packed, picture
from tests.pipelines.sources.test_wikipedia_dump import dump, page
from tests.site import FAST
from tests.storage.external_tars import indexed, numbered, put, tar

DUMP = "barwiki-20200101-pages-articles-multistream.xml.bz2"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # the address of a socket is short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: dict[str, Callable[[Path], None]] = {"a pipe": pipe, "a socket": bound_socket, "a device": device}
SOURCES: dict[str, Callable[[str], Source]] = {
    "a.txt": lambda name: ImageUrls(lists=name),
    "a.csv": lambda name: ImageUrls(lists=name, columns=("mood",)),
    "a.tsv.gz": lambda name: ImageUrls(lists=name),
    "a.json": lambda name: ImageUrls(lists="*.json"),
    "a.jsonl.zst": lambda name: ImageUrls(lists=name),
    "b.parquet": lambda name: ImageUrls(lists=name),
    "c.parquet": lambda name: ImageUrls(lists=name, columns=("mood",)),
    "d.csv": lambda name: VideoFrames(lists=name),
    "d.parquet": lambda name: VideoFrames(lists="*.parquet"),
    "a.mp4": lambda name: VideoFrames(videos=name),
    "e.parquet": lambda name: HuggingFace(dataset=name),
    "f/train.parquet": lambda name: HuggingFace(dataset="f"),
    "g/train.arrow": lambda name: HuggingFace(dataset="g"),
    DUMP: lambda name: WikipediaDump(dump=name),
    "a.xml": lambda name: WikipediaDump(dump=name),
    "a.jpg": lambda name: LocalFiles(files=name),
}


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A wait for what never comes ends in an error instead of holding all tests."""

    def give_up(number: int, frame: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(HANGS_S / 10))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch", trusted=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SOURCES)
def test_what_is_no_ordinary_file_is_named_at_once(context: Context, name: str, kind: str) -> None:
    (context.root / name).parent.mkdir(exist_ok=True)
    KINDS[kind](context.root / name)
    source = SOURCES[name](name)
    for use in (source.check, source.partitions, source.preview):
        with pytest.raises((RecipeError, SourceError), match=kind) as failure:
            list(use(context) or ())
        assert Path(name).name in str(failure.value) or repr(name) in str(failure.value)
        assert "\n" not in str(failure.value)
    with contextlib.suppress(RecipeError, SourceError):
        list(source.describe_input(context))


@pytest.mark.parametrize("kind", KINDS)
def test_among_other_files_it_is_a_reject_or_no_file_of_the_source(context: Context, kind: str) -> None:
    folder = context.root / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(packed(picture(), "png"))
    for name in ("a.json", "b.png", "b.txt"):
        KINDS[kind](folder / name)
    source = LocalFiles(files="pictures")
    source.check(context)
    candidates = [part for partition in source.partitions(context) for part in source.read(partition, context)]
    reasons = [candidate.rejected.reason if candidate.rejected else "" for candidate in candidates]
    outside = "outside" if kind == "a device" else "unreadable"
    assert sorted(reasons) == ["", *[outside] * 3]


def swap(path: Path, kind: str) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    {**KINDS, "a folder": Path.mkdir}[kind](path)


@pytest.mark.parametrize("kind", [*KINDS, "a folder"])
def test_what_stands_in_place_of_an_indexed_tar_is_named_by_all_who_read_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tars" / "train-000.tar"
    for number in range(2):
        put(path.with_name(f"train-{number:03d}.tar"), tar(numbered(5 * number, 5)))
    store, manifest = open_store(str(tmp_path / "store")), indexed(path.parent).manifest
    stream = ShardStream(store, manifest, batch_size=2, cache=tmp_path / "cache")
    swap(path, kind)

    def named(error: object) -> bool:
        return str(path) in str(error) and kind in str(error) and "\n" not in str(error)

    for read in (lambda: list(version(store, "theirs")), lambda: list(stream)):
        with pytest.raises((StorageRefused, NotFound)) as failure:
            read()
        assert named(failure.value), failure.value
    later = ShardStream(store, manifest, batch_size=2, cache=tmp_path / "cache")
    with pytest.raises((StorageRefused, NotFound)) as failure:
        list(later)
    assert named(failure.value), failure.value
    (problem,) = verify(store, manifest).problems
    assert problem.startswith("train-000.tar: ")
    assert kind in problem
    assert "put back the file" in repair_indexed(store, store_of_tars(store, manifest), manifest, {path.name})[0]
    for url in (path.parent, path, f"{path.parent}/train-{{000..001}}.tar"):
        with pytest.raises((StorageRefused, NotFound)) as failure:
            indexed(url, store)
        assert named(failure.value), failure.value
        assert "expected a tar" in str(failure.value)


@pytest.mark.parametrize("kind", [*KINDS, "a folder"])
def test_what_stands_in_place_of_an_object_of_a_store_is_named(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "words" / "a.parquet", b"1234")
    store = DirectoryStore(tmp_path, links=True)
    swap(tmp_path / "words" / "a.parquet", kind)
    for read in (store.read, store.size, lambda key: list(store.iter_bytes(key))):
        with pytest.raises((StorageRefused, NotFound), match=f"words/a.parquet: .*{kind}"):
            read("words/a.parquet")
    with pytest.raises((StorageRefused, NotFound), match=kind):
        verified_view(store, "words/a.parquet", sha256="0" * 64, size=4)


def test_a_folder_called_like_a_tar_is_looked_into(tmp_path: Path) -> None:
    put(tmp_path / "tars" / "train.tar" / "0.tar", tar(numbered(0, 5)))
    assert [shard.key for shard in indexed(tmp_path / "tars").manifest.shards] == ["train.tar/0.tar"]


def test_a_link_to_nothing_in_place_of_a_tar_is_named(tmp_path: Path) -> None:
    put(tmp_path / "tars" / "0.tar", tar(numbered(0, 5)))
    (tmp_path / "tars" / "1.tar").symlink_to(tmp_path / "gone.tar")
    with pytest.raises(StorageRefused, match=r"1\.tar: a link to nothing; expected a tar"):
        indexed(tmp_path / "tars")


def test_a_pipe_beside_a_dump_is_not_taken_for_its_index(context: Context) -> None:
    (context.root / DUMP).write_bytes(dump(page(1, "text " * 50)))
    os.mkfifo(context.root / DUMP.replace("multistream", "multistream-index", 1).replace(".xml", ".txt", 1))
    assert len(list(WikipediaDump(dump=DUMP).partitions(context))) == 1
