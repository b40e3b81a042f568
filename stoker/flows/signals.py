"""SIGINT and SIGTERM: the same orderly end, within a bound.

The first signal asks. Whoever works says how it stops (``on_signal``); where nobody does, ``Interrupted`` is raised in
the main thread. A thread of its own ends the process at the second signal, or ``GRACE_S`` after the first: a download
that hangs or a store that does not answer must not hold it. The thread hears of signals by a pipe that the interpreter
writes to outside of Python (``signal.set_wakeup_fd``), whatever the main thread is doing and whoever has set another
handler: Prefect does around each flow, Ray when it connects.
"""

import _thread
import contextlib
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

GRACE_S = 7.0  # from the first signal to the end; Docker kills after 10, and a busy machine needs some itself
RESUMES = "the same command resumes"
_LAST_ACTIONS_S = 1.0  # for all actions of ``before_exit`` together
# `timeout` and some batch systems send SIGTERM to a process and once more to its group: that is one request.
_SAME_REQUEST_S = 1.0
_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_OVER = b"\0"  # in the pipe, behind the numbers of signals: who was asked to end goes on
_SHOW_CURSOR = b"\x1b[?25h\n"  # a progress bar hides it


class Interrupted(KeyboardInterrupt):
    """The process was asked to end; its text, if any, says how the work goes on."""


@dataclass
class _Signals:
    """The one set of handlers of this process."""

    received: int | None = None  # number of the first signal
    grace_s: float = GRACE_S
    next_step: str = RESUMES
    depth: int = 0  # of ``handled``
    until_exit: bool = False  # once a signal has come
    pipe: tuple[int, int] | None = None
    stops: list[Callable[[int], None]] = field(default_factory=list)
    actions: list[Callable[[], None]] = field(default_factory=list)
    format_line: Callable[[str], str] | None = None


_signals = _Signals()


def received() -> int | None:
    """The number of the first signal that asked this process to end, if one came."""
    return _signals.received


def exit_code() -> int:
    """What a shell reports of a process that a signal ended: 143 for SIGTERM, 130 for SIGINT."""
    return 128 + (_signals.received or signal.SIGINT)


def ending(next_step: str = "") -> str:
    """The end in words, with how to go on."""
    how = "ended by SIGTERM" if _signals.received == signal.SIGTERM else "interrupted"
    return f"{how}; {next_step or _signals.next_step}"


def set_next_step(text: str) -> None:
    """Say how this command's work goes on after a signal."""
    _signals.next_step = text


def set_line_format(form: Callable[[str], str] | None) -> None:
    """Say how lines about signals are written to standard error; None: as they are."""
    _signals.format_line = form


def line(text: str) -> bytes:
    """A line of text for standard error. It is written by ``os.write``: the signal may have come inside of a print."""
    return f"{_signals.format_line(text) if _signals.format_line else text}\n".encode()


def set_until_exit() -> None:
    """Say that this process ends after what it does now, as ``handled`` does, where the handlers are set later."""
    _signals.until_exit = True


@contextlib.contextmanager
def handled(*, grace_s: float | None = None, until_exit: bool = False) -> Iterator[None]:
    """Handle both signals; a nested call only changes the time. Only the main thread can: elsewhere nothing happens.

    ``until_exit``: the process ends after this block, so the time that a signal began to count goes on behind it. That
    is for programs of ours. A program of somebody else goes on, and its next block begins anew.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    hooks = sys.unraisablehook, threading.excepthook
    outermost = not _signals.depth
    _signals.depth += 1
    ended_by_signals = _signals.until_exit
    _signals.until_exit |= until_exit
    usual_s, _signals.grace_s = _signals.grace_s, grace_s or _signals.grace_s
    keep()
    try:
        yield
    finally:
        _signals.depth -= 1
        goes_on = _signals.received is None or not _signals.until_exit
        if _signals.received is None or (outermost and goes_on):
            _signals.grace_s = usual_s
        if outermost and goes_on:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
            if _signals.pipe is not None:
                with contextlib.suppress(BlockingIOError):
                    os.write(_signals.pipe[1], _OVER)
            sys.unraisablehook, threading.excepthook = hooks
            _signals.received, _signals.until_exit = None, ended_by_signals


def keep() -> None:
    """Set the handlers again: a library may have set its own. An interrupt that the caller ignores stays ignored."""
    if not _signals.depth or threading.current_thread() is not threading.main_thread():
        return
    if _signals.pipe is None:
        _signals.pipe = os.pipe()
        for end in _signals.pipe:
            os.set_blocking(end, end == _signals.pipe[0])
        threading.Thread(target=_watch, args=(_signals.pipe[0],), name="stoker-signals", daemon=True).start()
    signal.set_wakeup_fd(_signals.pipe[1], warn_on_full_buffer=False)
    for number in _NUMBERS:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


@contextlib.contextmanager
def on_signal(stop: Callable[[int], None]) -> Iterator[None]:
    """Have ``stop`` called in the main thread at the first signal, in place of raising Interrupted."""
    _signals.stops.append(stop)
    try:
        yield
    finally:
        _signals.stops.remove(stop)


@contextlib.contextmanager
def before_exit(action: Callable[[], None]) -> Iterator[None]:
    """Have an action done if the process is ended without leaving this block; all of them get a second together."""
    _signals.actions.append(action)
    try:
        yield
    finally:
        _signals.actions.remove(action)


def end_now(number: int) -> None:
    """End the process: the last actions, one line, and no more."""
    _signals.received = _signals.received or number
    _end(line(f"stoker: {ending()}"))


def _handle(number: int, frame: FrameType | None) -> None:
    if _signals.received is not None:
        return  # the thread counts them
    _signals.received = number
    # What is torn down in the middle of its work may complain; nobody is helped by a traceback of that.
    sys.unraisablehook = lambda unraisable: None
    threading.excepthook = lambda arguments: None
    if _signals.stops:
        _signals.stops[-1](number)
    else:
        raise Interrupted


def _watch(pipe: int) -> None:
    """End the process at the second signal, or when its time is over."""
    first: float | None = None
    waiting = selectors.DefaultSelector()  # not select.select, which knows no file above number 1,023
    waiting.register(pipe, selectors.EVENT_READ)
    while True:
        left_s = None if first is None else max(0.0, first + _signals.grace_s - time.monotonic())
        if not waiting.select(left_s):
            end_now(_signals.received or signal.SIGTERM)
        for number in os.read(pipe, 64):
            if number == _OVER[0]:
                first = None
            if number not in _NUMBERS:
                continue
            now = time.monotonic()
            if first is None:
                first = now
            elif number == signal.SIGINT or now - first > _SAME_REQUEST_S:
                _signals.received = number
                _end(b"")


def _end(message: bytes) -> None:
    """Do the last actions, within their time, and leave."""
    done = threading.Event()
    # An interpreter that shuts down starts no thread: 3.12 says so (gh-113964), and before that Thread.start hangs.
    with contextlib.suppress(RuntimeError):
        _thread.start_new_thread(_act, (done,))
        done.wait(_LAST_ACTIONS_S)
    with contextlib.suppress(OSError):
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + message)
    os._exit(exit_code())


def _act(done: threading.Event) -> None:
    for action in reversed(_signals.actions):
        with contextlib.suppress(Exception):  # the next one has to be done, too
            action()
    done.set()


def _forget() -> None:
    """After a fork, in the child: the handlers and the pipe are the parent's."""
    global _signals
    if _signals.pipe is None:
        return
    if _signals.depth:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is _handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    _signals = _Signals()


os.register_at_fork(after_in_child=_forget)
