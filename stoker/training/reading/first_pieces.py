"""The order of downloads at the start of a stream: first what the first batch needs of each shard, then the rest."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

_LONGEST_WAIT_S = 0.5  # of a download, once, for the first pieces of others and for batches


class FirstPieces:
    """Lets downloads that begin together have their first pieces before any of them goes on: a batch wants of each.

    None goes on before that batch has been read either: it needs the processor and the connections more.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._batches = 0  # that are being read from first pieces
        self._awaited: dict[object, float] = {}  # downloads without a first piece, and when each was begun

    @contextmanager
    def asked(self) -> Iterator[Callable[[], None]]:
        """A download; call what this gives when its first piece is here: it waits a moment for those of others."""
        download, has_come = object(), False
        with self._changed:
            self._awaited[download] = time.monotonic()

        def come() -> None:
            nonlocal has_come
            if not has_come:
                has_come = True
                with self._changed:
                    self._awaited.pop(download)
                    self._changed.notify_all()

        def come_and_wait() -> None:
            if not has_come:
                come()
                with self._changed:
                    self._changed.wait_for(self._may_go_on, _LONGEST_WAIT_S)

        try:
            yield come_and_wait
        finally:
            come()

    @contextmanager
    def read(self) -> Iterator[Callable[[], None]]:
        """A batch that is read from first pieces; call what this gives if it needs more than these."""
        waits = True
        with self._changed:
            self._batches += 1

        def let_go() -> None:
            nonlocal waits
            if waits:
                waits = False
                with self._changed:
                    self._batches -= 1
                    self._changed.notify_all()

        try:
            yield let_go
        finally:
            let_go()

    def _may_go_on(self) -> bool:
        """Whether no batch is being read, and each download that began a moment ago has its first piece.

        One that stalls holds up no other.
        """
        longest_ago = time.monotonic() - _LONGEST_WAIT_S
        return not self._batches and all(begun < longest_ago for begun in self._awaited.values())
