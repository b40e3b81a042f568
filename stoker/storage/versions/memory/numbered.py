"""Objects that are numbered from 1: a number that is taken is never overwritten."""

from collections.abc import Callable

from stoker.storage.errors import AlreadyExists, StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout

_MAX_ATTEMPTS = 100  # numbers that other writers may take before this one gives up


def numbers(store: Store, folder: str) -> list[int]:
    """The numbers of the objects in a folder, in order."""
    found = (layout.number_of(stored.key) for stored in store.list(folder))
    return sorted({number for number in found if number is not None})


def create_next(store: Store, folder: str, key_of: Callable[[int], str], payload_of: Callable[[int], bytes]) -> int:
    """Create the object of the next free number; that number. Raises StorageUnavailable if others always come first."""
    for _ in range(_MAX_ATTEMPTS):
        number = max(numbers(store, folder), default=0) + 1
        try:
            store.create(key_of(number), payload_of(number))
        except AlreadyExists:
            continue
        return number
    raise StorageUnavailable(f"{store.url}/{folder}: {_MAX_ATTEMPTS} other writers came first; try again")
