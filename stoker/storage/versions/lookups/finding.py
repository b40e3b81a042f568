"""Which files of a version may have a value, by its lookups: a few reads by range, however many samples it has."""

import logging
from collections.abc import Callable

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions.lookups.table import Lookup
from stoker.storage.versions.manifest import Manifest

_log = logging.getLogger(__name__)


class Finder:
    """Asks the lookups of versions; what versions share is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lookups: dict[str, Lookup] = {}  # by key
        self._found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}  # by key and value

    def may_hold(self, manifest: Manifest, value: str) -> Callable[[str], bool]:
        """Whether a file, by its key, may have a value; of a file that no lookup is about it may be so.

        A damaged lookup is told in the log, and the files that it is about are read. Raises StorageError.
        """
        holding: set[str] = set()
        known: set[str] = set()
        for file in manifest.lookups:
            lookup = self._lookups.setdefault(file.key, Lookup.of_object(self._store, file))
            if (file.key, value) not in self._found:
                try:
                    self._found[file.key, value] = lookup.files_with(value), set(lookup.files)
                except (CorruptShard, NotFound) as error:
                    _log.warning("%s", error)
                    self._found[file.key, value] = set(), set()
            found, about = self._found[file.key, value]
            holding |= found
            known |= about
        return lambda key: key in holding or key not in known
