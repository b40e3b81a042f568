"""What a run tells the person who started it, and how it is told to stop."""

import contextlib
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_PLAIN_S = 5.0  # between lines, where there is no terminal
_POLL_S = 0.5


class Board:
    """Progress of one run. This one shows nothing: a scheduled run is watched in Prefect's UI."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.stopped = threading.Event()
        self.blocking = False  # in work that cannot be asked to stop, and may be cut anywhere
        self._lock = threading.Lock()
        self._running: dict[str, tuple[int, int]] = {}
        self._read = self._kept = self._done = 0
        self._total: int | None = None
        self._phase = self._words = ""

    def phase(self, name: str, total: int | None = None, done: int = 0, read: int = 0, kept: int = 0) -> None:
        """A new phase begins; ``total`` counts its parts, of which ``done`` were done before, with so many samples."""
        with self._lock:
            self._phase, self._total, self._done, self._words = name, total, done, ""
            self._read, self._kept = read, kept
            self._running.clear()
        self._show()

    def update(self, partition: str, read: int, kept: int) -> None:
        """How far a partition is. Called from many threads, once a sample."""
        with self._lock:
            self._running[partition] = (read, kept)
        self._show()

    def end(self, partition: str, read: int = 0, kept: int = 0) -> None:
        """One more part of the phase is done."""
        with self._lock:
            self._running.pop(partition, None)
            self._done += 1
            self._read += read
            self._kept += kept
        self._show()

    def reach(self, done: int, words: str = "") -> None:
        """So much of the phase is done."""
        if done != self._done:
            with self._lock:
                self._done, self._words = done, words
            self._show()

    def note(self, text: str) -> None:
        """A line for the person."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _show(self) -> None:
        pass

    def _counts(self) -> str:
        with self._lock:
            read = self._read + sum(one[0] for one in self._running.values())
            kept = self._kept + sum(one[1] for one in self._running.values())
        return f"{read:,} read, {kept:,} kept" if read else self._words


class Lines(Board):
    """Plain lines on stderr, a few a minute, for logs and pipes."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0.0
        self._told = ""

    def note(self, text: str) -> None:  # noqa: D102  # Board's
        print(text, file=sys.stderr, flush=True)

    def _show(self) -> None:
        now = time.monotonic()
        complete = self._total is not None and self._done == self._total
        if self._phase == self._told and not complete and now - self._last < _PLAIN_S:
            return
        self._last, self._told = now, self._phase
        count = f" {self._done}/{self._total}" if self._total is not None else ""
        self.note(f"{self._phase}{count}{': ' if self._counts() else ''}{self._counts()}")


class Bars(Board):
    """A bar on the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}"),
            TextColumn("[dim]{task.fields[counts]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar = self._bars.add_task("starting", total=None, count="", counts="")
        self._bars.start()

    def note(self, text: str) -> None:  # noqa: D102  # Board's
        self._bars.console.print(text, highlight=False, markup=False)

    def close(self) -> None:  # noqa: D102  # Board's
        self._bars.stop()

    def _show(self) -> None:
        count = f"{self._done}/{self._total}" if self._total is not None else ""
        self._bars.update(
            self._bar,
            description=self._phase,
            total=self._total,
            completed=self._done,
            count=count,
            counts=self._counts(),
        )


_boards: dict[str, Board] = {}


def find(token: str) -> Board:
    """The board of a run that was started in this process; a silent one in any other."""
    return _boards.get(token) or Board()


def stopper(home: Path, token: str) -> Callable[[], bool]:
    """Whether the run was asked to stop: known at once in its own process, through a file in all others."""
    own = _boards.get(token)
    if own is not None:
        return own.stopped.is_set
    path = _stop_file(home, token)
    seen, at = False, 0.0

    def stopped() -> bool:
        nonlocal seen, at
        if not seen and token and time.monotonic() - at > _POLL_S:
            seen, at = path.exists(), time.monotonic()
        return seen

    return stopped


def _stop_file(home: Path, token: str) -> Path:
    return home / "runs" / f"{token}.stop"


@contextlib.contextmanager
def watched(home: Path) -> Iterator[Board]:
    """A board on this terminal, and Ctrl-C as a request to stop in order; the second one ends at once."""
    board: Board = Bars() if sys.stderr.isatty() else Lines()
    _boards[board.token] = board
    path = _stop_file(home, board.token)
    path.parent.mkdir(parents=True, exist_ok=True)  # now: nothing should fail when the signal comes

    def ask(number: int, frame: FrameType | None) -> None:
        # Straight to the terminal: this may have come in the middle of a print, which must not be entered again.
        if board.stopped.is_set():
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # the cursor, which the bar had hidden
            os._exit(128 + number)
        board.stopped.set()
        path.touch()
        if board.blocking:
            raise KeyboardInterrupt
        clear = b"\r\x1b[K" if sys.stderr.isatty() else b""
        os.write(2, clear + b"stopping when the samples at hand are done; Ctrl-C again ends at once\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield board
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        board.close()
        del _boards[board.token]
        path.unlink(missing_ok=True)
