"""A cache with a ceiling: the least recently used values go first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Values by key, together at most ``ceiling`` in the unit of ``cost``. Safe to use from many threads.

    A value that alone costs more than the ceiling is made and handed out, and not kept.
    """

    def __init__(self, ceiling: int, cost: Callable[[Value], int]) -> None:
        self._ceiling = ceiling
        self._cost = cost
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._held = 0

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not held. Two threads may make the same value at once; one is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value = make()
        cost = self._cost(value)
        with self._lock:
            if key not in self._values and cost <= self._ceiling:
                self._values[key] = (value, cost)
                self._held += cost
                while self._held > self._ceiling:
                    self._held -= self._values.popitem(last=False)[1][1]
        return value

    @property
    def held(self) -> int:
        """What the values that are held cost together."""
        return self._held
