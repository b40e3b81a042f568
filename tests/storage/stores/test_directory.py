"""The directory store where a file system has its own ideas."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.storage import open_store
from stoker.storage.errors import AlreadyExists, NotFound, StorageRefused, StorageUnavailable
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.store import PendingUpload
from tests.conftest import HANGS_S


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_opening_and_reading_make_nothing(store: DirectoryStore) -> None:
    assert list(store.list()) == []
    assert list(store.folders()) == []
    with pytest.raises(NotFound):
        store.read("a")
    store.delete("a")
    assert not store.root.exists()


def test_a_relative_path_stays_what_it_was_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("corpora")
    monkeypatch.chdir("/")
    store.write("a", b"x")
    assert (tmp_path / "corpora" / "a").read_bytes() == b"x"
    assert store.url == str(tmp_path / "corpora")


def test_a_path_that_goes_up_has_the_url_of_the_folder_it_ends_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep" / "work").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "deep" / "work")
    monkeypatch.chdir(tmp_path / "deep")
    assert open_store("../corpora").url == str(tmp_path / "corpora")
    assert open_store(f"{tmp_path}/short/../corpora").url == str(tmp_path / "deep" / "corpora"), "as the system goes up"
    assert open_store(f"{tmp_path}/short").url == str(tmp_path / "short")


def test_nothing_outside_is_read_or_written_through_a_link(store: DirectoryStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.write("real/a", b"inside")
    (store.root / "folder").symlink_to(outside)
    (store.root / "file").symlink_to(outside / "secret")
    (store.root / "near").symlink_to(store.root / "real" / "a")
    for key in ("folder/secret", "file", "folder/new"):
        for call in (
            lambda key=key: store.read(key),
            lambda key=key: store.size(key),
            lambda key=key: store.write(key, b"x"),
            lambda key=key: store.create(key, b"x"),
            lambda key=key: store.delete(key),
        ):
            with pytest.raises(StorageRefused, match="a link leads out of the store"):
                call()
    assert os.listdir(outside) == ["secret"]


@pytest.mark.parametrize("target", ["outside", "outside/file", "nothing", "store/a/nothing", "store/a/link"])
@pytest.mark.parametrize("link", ["a/link", "a"])
def test_a_link_out_of_the_store_or_to_nothing_stops_a_listing_and_does_not_vanish(
    store: DirectoryStore, tmp_path: Path, link: str, target: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    store.write("b/c", b"x")
    (store.root / link).parent.mkdir(exist_ok=True)
    (store.root / link).symlink_to(tmp_path / target)
    for prefix in ("", "a", "a/", "a/link", "a/link/", "a/link/deep/"):
        with pytest.raises(StorageRefused, match=rf"store/{link}\S*: a link (to nothing|leads out).* or remove it$"):
            list(store.list(prefix))
    assert [stored.key for stored in store.list("b/")] == ["b/c"]
    assert list(store.folders()) == (["b"] if (link, target) == ("a", "outside/file") else ["a", "b"])


def test_links_that_stay_inside_are_followed_to_what_a_prefix_names(store: DirectoryStore) -> None:
    store.write("real/a", b"inside")
    store.write("real/b/c", b"deep")
    (store.root / "near").symlink_to(store.root / "real" / "a")
    (store.root / "alias").symlink_to("real")
    (store.root / "real" / "d").symlink_to("b")
    assert [stored.key for stored in store.list()] == ["near", "real/a", "real/b/c"]
    assert [stored.key for stored in store.list("alias/")] == ["alias/a", "alias/b/c"]
    assert [stored.key for stored in store.list("real/d/")] == ["real/d/c"]
    assert list(store.folders()) == ["real"]
    (store.root / "real").rename(store.root / ".hidden")
    for name, target in (("near", ".hidden/a"), ("alias", ".hidden")):
        (store.root / name).unlink()
        (store.root / name).symlink_to(target)
    assert list(store.folders()) == ["alias"], "what it holds is listed under no other name"


def test_a_link_in_place_of_the_folder_of_incomplete_files_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    """Files elsewhere would be made there, and old ones removed as if they were left by a killed writer."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "old").write_bytes(b"mine")
    os.utime(outside / "old", (0, 0))
    store.root.mkdir()
    (store.root / ".stoker").symlink_to(outside)
    for call in (
        lambda: store.create("a", b"x"),
        lambda: store.write("a", b"x"),
        store.probe,
        lambda: list(store.pending_uploads()),
        lambda: store.abort(PendingUpload("", 4, 0.0, "old")),
    ):
        with pytest.raises(StorageRefused, match=r"\.stoker: a link where a folder is needed"):
            call()
    assert os.listdir(outside) == ["old"]


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    store = DirectoryStore(tmp_path / "store")
    store.create("a/b", b"x")
    assert [stored.key for stored in store.list()] == ["a/b"]


def test_half_written_files_are_never_listed_and_old_ones_are_cleared(store: DirectoryStore) -> None:
    store.write("a", b"x")
    fresh, old = store.root / ".stoker" / "fresh", store.root / ".stoker" / "old"
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    assert [stored.key for stored in store.list()] == ["a"]
    store.probe()
    assert fresh.exists()
    assert not old.exists()


def test_a_failed_write_leaves_the_old_object_and_no_debris(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("a", b"before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageRefused, match=r"No space left on device; free some space and run again|disk is full"):
        store.write("a", b"after")
    monkeypatch.undo()
    assert store.read("a") == b"before"
    assert os.listdir(store.root / ".stoker") == []


def test_a_busy_file_system_is_unavailable(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "replace", stale)
    with pytest.raises(StorageUnavailable, match="a: Stale file handle; try again"):
        store.write("a", b"x")


def test_a_file_system_without_hard_links_is_refused(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StorageRefused, match=r"no hard links .*; choose another folder or an S3 store"):
        store.probe()


def test_a_file_where_a_folder_is_needed_is_refused(store: DirectoryStore) -> None:
    store.write("a", b"x")
    store.write("c/d", b"x")
    for put in (store.write, store.create):
        with pytest.raises(StorageRefused, match="a file lies where a folder is needed"):
            put("a/b", b"y")
        with pytest.raises((StorageRefused, AlreadyExists), match="a folder lies where a file is needed"):
            put("c", b"y")
    assert store.read("a") == b"x"
    assert store.read("c/d") == b"x"


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageRefused, match="file"):
        DirectoryStore(tmp_path / "file").probe()
    with pytest.raises(StorageRefused, match="file"):
        DirectoryStore(tmp_path / "file" / "store").probe()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may read and nobody but root may write; pytest's own may not even be entered."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o555)
        yield Path(made)
        Path(made).chmod(0o755)


def test_a_directory_that_may_not_be_written_is_refused_in_one_line(folder: Path) -> None:
    code = (
        "import os, sys; from stoker.storage import open_store\n"
        "from stoker.storage.errors import StorageRefused\n"
        "store = open_store(sys.argv[1])\n"  # imported before: an ordinary user may not read the environment
        "os.geteuid() or os.seteuid(65534)\n"
        "try:\n    store.probe()\n"
        "except StorageRefused as error:\n    print(error)\n"
    )
    for place in (folder, folder / "new"):
        done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
        assert "Permission denied; check who owns the folder and its permissions" in done.stdout
        assert done.stdout.count("\n") == 1
        assert str(place) in done.stdout
        assert done.stderr == ""


def test_deleting_does_not_disturb_creating_beside_it(store: DirectoryStore) -> None:
    code = (
        "import sys; from stoker.storage import open_store; store = open_store(sys.argv[1])\n"
        "for n in range(300):\n"
        "    store.create(f'a/b/{sys.argv[2]}', b'x'); store.delete(f'a/b/{sys.argv[2]}')\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, store.url, str(number)]) for number in range(3)]
    assert [worker.wait(HANGS_S) for worker in workers] == [0, 0, 0]
    assert list(store.list()) == []


def test_a_writer_killed_at_any_moment_leaves_a_whole_object_or_none(store: DirectoryStore) -> None:
    code = (
        "import sys; from stoker.storage import open_store; store = open_store(sys.argv[1]); print('go', flush=True)\n"
        "for n in range(10**6):\n"
        "    store.write('a', bytes([n % 250]) * 200_000); store.create(f'c/{n}', bytes([n % 250]) * 200_000)\n"
    )
    for _ in range(8):
        worker = subprocess.Popen([sys.executable, "-c", code, store.url], stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(0.02 + int.from_bytes(os.urandom(1), "big") / 2000)
        worker.kill()
        worker.wait()
        worker.stdout.close()
        for stored in store.list():
            whole = store.read(stored.key)
            assert len(whole) == stored.size == 200_000
            assert len(set(whole)) == 1
        for stored in list(store.list("c/")):
            store.delete(stored.key)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "expected s3://bucket/prefix, file:///folder or a folder"),
        ("ftp://host/folder", "ftp://...: no such kind"),
        ("file://host/folder", "expected three slashes"),
        ("file://", "expected three slashes"),
        ("s3://", "expected s3://bucket/prefix"),
        ("s3://key:secret@bucket/prefix", "expected s3://bucket/prefix and nothing else"),
        ("s3://bucket/prefix?x=1", "expected s3://bucket/prefix and nothing else"),
    ],
)
def test_a_wrong_url_is_told_and_shows_no_secret(url: str, message: str) -> None:
    with pytest.raises(StorageRefused, match=message) as told:
        open_store(url)
    assert "secret" not in str(told.value)


def test_urls_open_the_store_they_name(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/with%20blank").url == f"{tmp_path}/with blank"
    assert open_store("s3://bucket/a/b/").url == "s3://bucket/a/b"
    assert open_store("s3://bucket").url == "s3://bucket"
    assert open_store("memory:").url == "memory:"


def test_a_pipe_in_place_of_an_object_holds_no_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    store = DirectoryStore(tmp_path)
    assert list(store.list()) == []
    for read in (store.read, lambda key: list(store.iter_bytes(key))):
        with pytest.raises(StorageRefused):
            read("a")
