"""``Budget``: how many bytes the bodies of some responses may have together, for all threads."""

import threading


class Budget:
    """Bytes that may be spent. What is on its way when they are spent comes on top.

    >>> budget = Budget(10)
    >>> budget.spend(9), budget.is_spent, budget.spend(9), budget.is_spent
    (None, False, None, True)
    """

    def __init__(self, size: int | None) -> None:
        self._left = size  # None: any number
        self._lock = threading.Lock()

    @property
    def is_spent(self) -> bool:
        """Whether none are left."""
        return self._left is not None and self._left <= 0

    def spend(self, size: int) -> None:
        """Take the bytes of a body."""
        with self._lock:
            if self._left is not None:
                self._left -= size
