"""Progress of a run for the person who started it, and the request to stop.

A run is known by a token. The process that started it keeps a ``ProgressReporter`` under that token; the flow finds it
there. Tasks in other processes find none: they report nothing, and learn of a stop request from a file (polled every
``_POLL_S``). A scheduled run has no token: ``stoppable`` gives it one.
"""

import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from stoker.flows import logs, signals
from stoker.flows.private import make_inner
from stoker.flows.signals import Interrupted

_LOG_INTERVAL_S = 5.0  # between lines of one phase, where there is no terminal
_POLL_S = 0.5  # between looks for the stop file
_SCHEDULED_GRACE_S = 4.0  # less than a command's: `stoker up` ends its servers after the runs, and within 10 s


class ProgressReporter:
    """Progress of one run. The base class shows nothing: a scheduled run is watched in Prefect's UI."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self.stop_requested = threading.Event()
        self.interruptible = False  # True: the work leaves nothing half done, so a signal may raise in the middle of it
        self._lock = threading.Lock()
        self._running: dict[str, tuple[int, int]] = {}
        self._read = self._kept = self._done = 0
        self._total: int | None = None
        self._phase = self._detail = ""

    @contextlib.contextmanager
    def interrupts(self) -> Iterator[None]:
        """Around work that leaves nothing half done: a request to stop raises Interrupted in the middle of it."""
        self.interruptible = True
        try:
            if self.stop_requested.is_set():
                raise Interrupted
            yield
        finally:
            self.interruptible = False

    def start_phase(self, name: str, total: int | None = None, done: int = 0, read: int = 0, kept: int = 0) -> None:
        """Begin a phase of ``total`` units. Earlier runs did ``done`` of them, and read and kept so many samples."""
        with self._lock:
            self._phase, self._total, self._done, self._detail = name, total, done, ""
            self._read, self._kept = read, kept
            self._running.clear()
        self._show()

    def update(self, partition: str, read: int, kept: int) -> None:
        """Set how many samples of a partition were read and kept. Called from many threads, once a sample."""
        with self._lock:
            self._running[partition] = (read, kept)
        self._show()

    def finish(self, partition: str, read: int = 0, kept: int = 0) -> None:
        """Count one more unit of the phase as done."""
        with self._lock:
            self._running.pop(partition, None)
            self._done += 1
            self._read += read
            self._kept += kept
        self._show()

    def drop(self, partition: str) -> None:
        """Count no sample of this any more: they are part of another unit, which counts them when it is done."""
        with self._lock:
            self._running.pop(partition, None)

    def advance_to(self, done: int, detail: str = "") -> None:
        """Set how many units of the phase are done."""
        if done != self._done:
            with self._lock:
                self._done, self._detail = done, detail
            self._show()

    def message(self, text: str) -> None:
        """Show a line of text."""

    def print(self, text: str) -> None:
        """Print a line of the result on standard output, whole, while progress is shown."""
        print(text, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _show(self) -> None:
        pass

    def _counts(self) -> str:
        with self._lock:
            read = self._read + sum(counts[0] for counts in self._running.values())
            kept = self._kept + sum(counts[1] for counts in self._running.values())
        return f"{read:,} read, {kept:,} kept" if read else self._detail


class LogProgress(ProgressReporter):
    """Plain lines on stderr, at most one every ``_LOG_INTERVAL_S`` for a phase: for logs and pipes."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0.0
        self._last_phase = ""

    def message(self, text: str) -> None:  # noqa: D102  # as in ProgressReporter
        logs.note(text)

    def _show(self) -> None:
        now = time.monotonic()
        complete = self._total is not None and self._done == self._total
        if self._phase == self._last_phase and not complete and now - self._last < _LOG_INTERVAL_S:
            return
        self._last, self._last_phase = now, self._phase
        count = f" {self._done}/{self._total}" if self._total is not None else ""
        self.message(f"{self._phase}{count}{': ' if self._counts() else ''}{self._counts()}")


class TerminalProgress(ProgressReporter):
    """A progress bar on the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._display = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # names of others' files may stand in it
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[counts]}", style="dim", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # Rich would fold lines of results, and write them to stderr
        )
        self._bar = self._display.add_task("starting", total=None, count="", counts="")
        self._display.start()

    def message(self, text: str) -> None:  # noqa: D102  # as in ProgressReporter
        self._display.console.print(logs.escaped(text), highlight=False, markup=False)

    def print(self, text: str) -> None:  # noqa: D102  # as in ProgressReporter
        if not sys.stdout.isatty():
            super().print(text)
            return
        self._display.stop()  # or the line would stand behind the bar
        super().print(text)
        self._display.start()

    def close(self) -> None:  # noqa: D102  # as in ProgressReporter
        self._display.stop()

    def _show(self) -> None:
        count = f"{self._done}/{self._total}" if self._total is not None else ""
        self._display.update(
            self._bar,
            description=logs.escaped(self._phase),
            total=self._total,
            completed=self._done,
            count=count,
            counts=logs.escaped(self._counts()),
        )


_reporters: dict[str, ProgressReporter] = {}  # by token: the runs that this process watches


def find_reporter(token: str) -> ProgressReporter:
    """The reporter of a run that this process watches; a silent one for any other run."""
    return _reporters.get(token) or ProgressReporter()


def stop_check(home: Path, token: str) -> Callable[[], bool]:
    """A function: was the run asked to stop? By a flag in the process that watches the run, by a file elsewhere."""
    reporter = _reporters.get(token)
    if reporter is not None:
        return reporter.stop_requested.is_set
    path = _stop_file(home, token)
    requested, checked_at = False, 0.0

    def stop_requested() -> bool:
        nonlocal requested, checked_at
        if not requested and token and time.monotonic() - checked_at > _POLL_S:
            requested, checked_at = path.exists(), time.monotonic()
        return requested

    return stop_requested


def _stop_file(home: Path, token: str) -> Path:
    return home / "runs" / f"{token}.stop"


@contextlib.contextmanager
def terminal_progress(home: Path) -> Iterator[ProgressReporter]:
    """A reporter on this terminal. The first SIGINT or SIGTERM asks the run to stop; see ``signals`` for what follows.

    Raises Interrupted if such a signal has come already.
    """
    if signals.received() is not None:
        raise Interrupted
    reporter = ProgressReporter()
    if not logs.is_quiet():
        reporter = TerminalProgress() if sys.stderr.isatty() and not logs.is_plain() else LogProgress()
    hint = signals.line("stopping when the samples at hand are done; Ctrl-C again ends at once")
    clear = b"\r\x1b[K" if sys.stderr.isatty() and not logs.is_plain() else b""
    try:
        with signals.handled(), _stopped_by_signals(home, reporter, clear + hint):
            yield reporter
    finally:
        reporter.close()


@contextlib.contextmanager
def stoppable(home: Path, token: str) -> Iterator[str]:
    """In a flow: signals ask this run to stop. Yields its token, a new one for a scheduled run.

    Prefect sets a handler of its own around each flow, which raises in the middle of whatever is being done: this is
    to be entered inside of it.
    """
    if token in _reporters:
        _reporters[token].interruptible = False
        signals.keep()
        yield token
        return
    reporter = ProgressReporter()
    with signals.handled(grace_s=_SCHEDULED_GRACE_S), _stopped_by_signals(home, reporter, b""):
        yield reporter.token


@contextlib.contextmanager
def _stopped_by_signals(home: Path, reporter: ProgressReporter, hint: bytes) -> Iterator[None]:
    """Have the first signal ask the reporter's run to stop."""
    path = _stop_file(home, reporter.token)
    make_inner(path.parent)  # now: nothing may fail in the signal handler

    def request_stop(number: int) -> None:
        reporter.stop_requested.set()
        with contextlib.suppress(OSError):
            path.touch()
        if reporter.interruptible:
            raise Interrupted
        # os.write, not print: the signal may have come in the middle of a print, and print is not reentrant.
        with contextlib.suppress(OSError):
            os.write(2, hint)

    _reporters[reporter.token] = reporter
    try:
        with signals.on_signal(request_stop):
            yield
    finally:
        del _reporters[reporter.token]
        path.unlink(missing_ok=True)
