"""A store that remembers what is written and removed through it, for a report of what a repair did."""

from typing import Any

from stoker.storage.stores.store import Payload, Store
from stoker.storage.versions import layout


class RecordingStore:
    """A store whose changes are listed, but for leases. All else is as in the store that it wraps.

    >>> from stoker import open_store
    >>> store = RecordingStore(open_store("memory:"))
    >>> store.write("digits/shards/a.tar", b"again")
    >>> store.delete("digits/shards/group.json")
    >>> store.written, store.removed
    (['digits/shards/a.tar'], ['digits/shards/group.json'])
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, bool] = {}  # False: removed

    def __getattr__(self, name: str) -> Any:  # Any: the methods of a store
        return getattr(self._store, name)

    @property
    def written(self) -> list[str]:
        """The keys of objects that were written, in order."""
        return sorted(key for key, is_written in self._written.items() if is_written)

    @property
    def removed(self) -> list[str]:
        """The keys of objects that were removed and not written again, in order."""
        return sorted(key for key, is_written in self._written.items() if not is_written)

    def write(self, key: str, payload: Payload) -> None:
        """As in ``Store``."""
        self._store.write(key, payload)
        self._record(key, is_written=True)

    def create(self, key: str, payload: Payload) -> None:
        """As in ``Store``."""
        self._store.create(key, payload)
        self._record(key, is_written=True)

    def delete(self, key: str) -> None:
        """As in ``Store``."""
        self._store.delete(key)
        self._record(key, is_written=False)

    def _record(self, key: str, *, is_written: bool) -> None:
        if not key.startswith(layout.leases(key.partition("/")[0])):
            self._written[key] = is_written
