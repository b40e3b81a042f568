"""A thread-safe LRU cache with a limit on the total cost of its values."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Values by key, least recently used first out. Safe to use from many threads.

    Args:
        limit: the most that all values may cost together; a value that alone costs more is returned, but not cached.
        cost: what a value costs, in the unit of ``limit``.

    >>> cache = LruCache(10, len)
    >>> cache.get("a", lambda: "tin"), cache.get("a", lambda: "zinc"), cache.total_cost
    ('tin', 'tin', 3)
    """

    def __init__(self, limit: int, cost: Callable[[Value], int]) -> None:
        self._limit = limit
        self._cost = cost
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._total_cost = 0

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; made if it is not cached. Two threads may make the same value at once; one is cached."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value = make()
        cost = self._cost(value)
        with self._lock:
            if key not in self._values and cost <= self._limit:
                self._values[key] = (value, cost)
                self._total_cost += cost
                while self._total_cost > self._limit:
                    self._total_cost -= self._values.popitem(last=False)[1][1]
        return value

    @property
    def total_cost(self) -> int:
        """The cost of all cached values."""
        return self._total_cost
