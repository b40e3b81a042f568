"""How many objects are read at a time."""

import os
import threading
from pathlib import Path

import pytest

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions.verified import read_side_by_side


@pytest.mark.parametrize("is_local", [True, False])
def test_files_are_read_by_as_many_threads_as_there_are_cores_and_others_by_eight(
    tmp_path: Path, is_local: bool
) -> None:
    store: Store = DirectoryStore(tmp_path) if is_local else MemoryStore()
    store.write("0", b"a file, or none")
    at_once = min(8, os.cpu_count() or 1) if is_local else 8
    together = threading.Barrier(at_once)

    def read(number: int) -> int:
        together.wait(timeout=60)  # for as many as are to read at the same time
        return number + 1

    numbers = range(3 * at_once)
    assert list(read_side_by_side(store, numbers, str, read)) == [number + 1 for number in numbers]
    assert list(read_side_by_side(store, [], str, read)) == []
