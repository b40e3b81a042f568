"""What every store promises: whole objects, create-only writes, listings in order, errors of ours.

The stream, the pipeline and ``stoker verify`` rely on each of these checks: a version is published by a create-only
write, and training reads ranges of objects from many threads and processes.
"""

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from stoker.storage.errors import AlreadyExists, NotFound, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import load_manifest, publish
from stoker.testing.corpus import sample_corpus

_ODD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "a\\b",
    "a\x00b",
    "a\nb",
    "a\ud800",
    "k" * 241,
    "/".join(["abcdefgh"] * 120),
]


class StoreContract:
    """Tests of a store. Override the fixture ``store``: an empty store each time.

    >>> from stoker.storage.stores.memory import MemoryStore
    >>> class TestMemoryStore(StoreContract):
    ...     @pytest.fixture
    ...     def store(self) -> Store:
    ...         return MemoryStore()
    """

    objects_are_files: ClassVar[bool] = False  # whether ``path`` gives a file of each object
    processes_share_it: ClassVar[bool] = True  # whether another process sees what this one writes, and the reverse
    many: ClassVar[int] = 50  # objects; set it to more than one page of a listing

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        raise NotImplementedError("override the fixture `store`")

    def test_what_is_written_is_read(self, store: Store) -> None:
        store.write("a/b.bin", b"0123456789")
        assert store.read("a/b.bin") == b"0123456789"
        assert store.size("a/b.bin") == 10

    @pytest.mark.parametrize(
        ("start", "size", "expected"),
        [
            (0, None, b"0123456789"),
            (3, None, b"3456789"),
            (3, 4, b"3456"),
            (8, 100, b"89"),
            (10, None, b""),
            (10, 5, b""),
            (99, 5, b""),
            (0, 0, b""),
            (5, 0, b""),
        ],
    )
    def test_a_range_is_what_there_is_of_it(self, store: Store, start: int, size: int | None, expected: bytes) -> None:
        store.write("a", b"0123456789")
        assert store.read("a", start=start, size=size) == expected

    @pytest.mark.parametrize("size", [0, 5, 2**20, 3 * 2**20 + 17])
    def test_pieces_are_the_object_from_a_byte_on(self, store: Store, size: int) -> None:
        payload = bytes(number % 251 for number in range(1000)) * (size // 1000 + 1)
        store.write("a/b", payload[:size])
        for start in {0, size // 3, size, size + 9}:
            pieces = list(store.iter_bytes("a/b", start=start))
            assert b"".join(pieces) == payload[start:size]
            assert all(0 < len(piece) <= 2**20 for piece in pieces)
        with pytest.raises(NotFound, match="no such object"):
            list(store.iter_bytes("a/c"))

    def test_a_path_is_a_file_of_the_same_bytes_if_there_is_one(self, store: Store) -> None:
        store.write("a/b", b"payload")
        path = store.path("a/b")
        assert path is None or path.read_bytes() == b"payload"
        assert (path is not None) == self.objects_are_files
        assert store.path("a/c") is None

    def test_negative_ranges_are_a_bug_of_the_caller(self, store: Store) -> None:
        store.write("a", b"0123456789")
        with pytest.raises(ValueError, match="expected none below 0"):
            store.read("a", start=-1)
        with pytest.raises(ValueError, match="expected none below 0"):
            store.read("a", size=-1)

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.create("empty", b"")
        assert store.read("empty") == b""
        assert store.read("empty", start=0, size=10) == b""
        assert store.size("empty") == 0
        assert [stored.key for stored in store.list()] == ["empty"]

    @pytest.mark.parametrize("payload", [bytearray(b"xyz"), memoryview(b"wxyz")[1:]])
    def test_any_bytes_can_be_written(self, store: Store, payload: bytes) -> None:
        store.write("a", payload)
        store.create("b", payload)
        assert store.read("a") == store.read("b") == b"xyz"

    def test_a_file_can_be_written(self, store: Store, tmp_path: Path) -> None:
        path = tmp_path / "payload"
        path.write_bytes(b"from a file" * 1000)
        store.write("a", path)
        store.create("b", path)
        assert store.read("a") == store.read("b") == b"from a file" * 1000
        assert path.exists()

    def test_a_file_that_is_not_there_is_refused_by_name(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(StorageRefused, match="nowhere: cannot be read"):
            store.write("a", tmp_path / "nowhere")
        with pytest.raises(NotFound):
            store.read("a")

    def test_writing_replaces_the_whole_object(self, store: Store) -> None:
        store.write("a", b"long before")
        store.write("a", b"short")
        assert store.read("a") == b"short"

    @pytest.mark.parametrize("size", [None, 0, 5])
    def test_a_missing_object_is_not_found(self, store: Store, size: int | None) -> None:
        with pytest.raises(NotFound, match="nothing/here: no such object"):
            store.read("nothing/here", size=size)

    def test_a_folder_is_no_object(self, store: Store) -> None:
        store.write("a/b", b"x")
        with pytest.raises(NotFound, match="a: no such object"):
            store.read("a")
        with pytest.raises(NotFound, match="a: no such object"):
            store.size("a")

    def test_nothing_lies_below_an_object(self, store: Store) -> None:
        store.write("a", b"x")
        with pytest.raises(NotFound, match="a/b: no such object"):
            store.read("a/b")
        with pytest.raises(NotFound, match="a/b: no such object"):
            store.size("a/b")
        store.delete("a/b")
        assert list(store.list("a/")) == []
        assert store.read("a") == b"x"

    def test_creating_keeps_what_is_there(self, store: Store) -> None:
        store.create("a", b"first")
        with pytest.raises(AlreadyExists, match="a: it is there already and is never overwritten"):
            store.create("a", b"second")
        with pytest.raises(AlreadyExists):
            store.create("a", b"first")  # equal bytes are no excuse: somebody else was first
        assert store.read("a") == b"first"

    def test_of_racing_writers_exactly_one_creates(self, store: Store) -> None:
        for turn in range(3):
            key = f"race/{turn}"
            created: list[bytes] = []
            barrier = threading.Barrier(8)

            def race(
                me: bytes, key: str = key, barrier: threading.Barrier = barrier, won: list[bytes] = created
            ) -> None:
                barrier.wait()
                try:
                    store.create(key, me * 1000)
                except AlreadyExists:
                    return
                won.append(me)

            threads = [threading.Thread(target=race, args=(bytes([65 + number]),)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(created) == 1
            assert store.read(key) == created[0] * 1000

    def test_readers_see_one_whole_object_or_the_other(self, store: Store) -> None:
        versions = {bytes([65 + number]) * 50_000 for number in range(4)}
        store.write("a", min(versions))
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                for version in versions:
                    store.write("a", version)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            seen = {store.read("a") for _ in range(60)}
        finally:
            stop.set()
            writer.join()
        assert seen <= versions

    def test_listing_is_in_order_of_the_keys_bytes(self, store: Store) -> None:
        keys = ["a", "a-b", "a.b/c", "a0/b", "ab", "b/a", "b/a.tar", "b/c/d", "b-c", "z/é", "z/z", "z/Z", "z/日本"]
        keys.remove("a")  # on a file system a name is a file or a folder, not both: no key of ours is both
        for key in keys:
            store.write(key, key.encode())
        found = list(store.list())
        assert [stored.key for stored in found] == sorted(keys, key=str.encode)
        assert [stored.size for stored in found] == [len(stored.key.encode()) for stored in found]

    def test_listing_takes_any_beginning_of_a_key(self, store: Store) -> None:
        for key in ["a/b/c1", "a/b/c2", "a/bb", "a/c", "ab/c", "b"]:
            store.write(key, b"")
        listed = {
            prefix: [stored.key for stored in store.list(prefix)] for prefix in ["a/b", "a/b/", "a/b/c2", "q", "a"]
        }
        assert listed == {
            "a/b": ["a/b/c1", "a/b/c2", "a/bb"],
            "a/b/": ["a/b/c1", "a/b/c2"],
            "a/b/c2": ["a/b/c2"],
            "q": [],
            "a": ["a/b/c1", "a/b/c2", "a/bb", "a/c", "ab/c"],
        }

    def test_listing_goes_on_over_many_pages(self, store: Store) -> None:
        keys = [f"many/{number:06d}" for number in range(self.many)]
        with ThreadPoolExecutor(8) as writers:
            list(writers.map(lambda key: store.write(key, b"x"), keys))
        assert [stored.key for stored in store.list("many/")] == keys

    def test_folders_are_the_next_parts_of_keys(self, store: Store) -> None:
        for key in ["a/x/1", "a/x/2", "a/y/1", "a/z", "a-b/1", "top"]:
            store.write(key, b"")
        assert list(store.folders()) == ["a-b", "a"]
        assert list(store.folders("a/")) == ["x", "y"]
        assert list(store.folders("a/x/")) == []
        assert list(store.folders("nothing/")) == []

    def test_deleting_is_done_once_and_harmless_twice(self, store: Store) -> None:
        store.write("a/b/c", b"x")
        store.delete("a/b/c")
        store.delete("a/b/c")
        store.delete("never/was")
        assert list(store.list()) == []
        assert list(store.folders()) == []
        store.create("a/b/c", b"again")
        assert store.read("a/b/c") == b"again"

    @pytest.mark.parametrize("key", _ODD_KEYS)
    def test_odd_keys_are_refused_by_every_call(self, store: Store, key: str) -> None:
        for call in (
            lambda: store.read(key),
            lambda: store.size(key),
            lambda: store.write(key, b""),
            lambda: store.create(key, b""),
            lambda: store.delete(key),
        ):
            with pytest.raises(StorageRefused, match="expected names joined by slashes"):
                call()
        if key and not key.endswith("/"):
            with pytest.raises(StorageRefused):
                list(store.list(key))

    @pytest.mark.parametrize("key", ["a b/c d", "a+b=c&d?e#f%20", "日本/é.txt", "@:!$'(),;~*", "k" * 240])
    def test_other_keys_are_taken_as_they_are(self, store: Store, key: str) -> None:
        store.create(key, b"x")
        assert store.read(key) == b"x"
        assert [stored.key for stored in store.list()] == [key]

    def test_it_works_in_another_process(self, store: Store, tmp_path: Path) -> None:
        store.write("a", b"from the parent")
        (tmp_path / "pickled").write_bytes(pickle.dumps(store))
        code = (
            "import pickle, sys; store = pickle.load(open(sys.argv[1], 'rb'));"
            "assert store.read('a') == b'from the parent'; store.create('b', b'from the child')"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "pickled")], check=True)
        if self.processes_share_it:
            assert store.read("b") == b"from the child"

    def test_it_shows_no_secret(self, store: Store) -> None:
        secret = getattr(store, "secret_key", None) or "none"
        assert secret not in repr(store)
        assert secret not in store.url

    def test_a_version_is_published_loaded_and_verified(self, store: Store) -> None:
        """A version copied into it is found, read and intact, and cannot be published twice."""
        source, manifest = sample_corpus()
        for stored in source.list():
            store.create(stored.key, source.read(stored.key))
        assert catalog.versions(store, manifest.corpus) == [manifest.version]
        assert load_manifest(store, manifest.reference) == manifest
        assert verify(store, manifest).problems == ()
        with pytest.raises(AlreadyExists, match="never overwritten"):
            publish(store, manifest)

    def test_it_passes_its_own_probe_and_leaves_nothing(self, store: Store) -> None:
        store.probe()
        assert list(store.list()) == []

    def test_a_reopened_store_holds_the_same_objects(self, store: Store) -> None:
        """A forked worker process reads through ``reopen()``: connections are never shared with the parent."""
        store.write("a", b"one")
        reopened = store.reopen()
        assert reopened.read("a") == b"one"
        reopened.write("b", b"two")
        assert [stored.key for stored in store.list()] == ["a", "b"]

    def test_finished_writes_leave_no_pending_upload(self, store: Store) -> None:
        store.write("a", b"one")
        store.create("b", b"two")
        assert list(store.pending_uploads()) == []
