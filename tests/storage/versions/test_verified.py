import os
from pathlib import Path

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.verified import reads_at_once


def test_files_are_read_by_as_many_threads_as_there_are_cores_and_a_server_by_more(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.write("one", b"1")
    assert reads_at_once(store, ["one"]) == min(8, os.cpu_count() or 1)
    assert reads_at_once(MemoryStore(), ["one"]) == 8
