"""Decoder processes of this process: begun when there is work for them, replaced when they end or take too long.

They are plain programs, not children of ``multiprocessing``: daemonic workers may start them too. A signal of the
terminal does not reach them. They end when their input does, or when this process has.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from stoker.pipelines.errors import DecoderUnavailable
from stoker.pipelines.images.process.child import LENGTHS, MAX_HEAD, Buffer, lengths_of, start_of
from stoker.pipelines.rejected import Rejected

CPU_S = 60  # seconds that one image may compute
WALL_S = 300.0  # seconds that one image may take on a busy machine
MEMORY = 3 << 29  # bytes that one image may take: 64 megapixels in every format
_START_S = 300.0  # seconds in which a process is ready on a busy machine
_END_S = 2.0  # from the end of its input to a process's end; then it is killed
_READ = 1 << 20  # bytes
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from stoker.pipelines.images.decoding import serve_decoding
serve_decoding(cpu_s=int(sys.argv[2]), memory=int(sys.argv[3]))
"""


class _Failed(Exception):
    """The process gave no result; why, and whether it ended by itself."""

    def __init__(self, rejected: Rejected, *, ended: bool) -> None:
        super().__init__(rejected.detail)
        self.rejected, self.ended = rejected, ended


class _Process:
    """A decoder process. Raises DecoderUnavailable if it does not start."""

    def __init__(self) -> None:
        # -P: no module of the current folder is imported before it has this process's path.
        command = [sys.executable, "-P", "-c", _PROGRAM, json.dumps(sys.path), str(CPU_S), str(MEMORY)]
        try:
            self._process = subprocess.Popen(  # noqa: S603  # this program
                command,
                bufsize=0,  # a buffer's lock may be held when this process forks
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise _unavailable(str(error)) from None
        self._is_ready = False

    def call(self, task: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytearray]:  # Any: JSON
        """The result of the task. Raises _Failed or DecoderUnavailable; then the process has ended."""
        try:
            if not self._is_ready:
                self._wait_until_ready()
            deadline = time.monotonic() + WALL_S
            try:
                self._write(start_of(task, payload), deadline)
                self._write(payload, deadline)
                return self._result(deadline)
            except (TimeoutError, BrokenPipeError, EOFError, ValueError) as error:
                self._kill(0.0 if isinstance(error, TimeoutError) else _END_S)
                raise _failed(self._process.returncode, error) from None
        except _Failed:
            raise
        except OSError as error:
            self._kill()
            raise _unavailable(str(error)) from None
        except BaseException:  # as KeyboardInterrupt: nobody would read the result
            self._kill()
            raise

    def _wait_until_ready(self) -> None:
        try:
            self._result(time.monotonic() + _START_S)
        except TimeoutError:
            raise _unavailable(f"it did not start in {_START_S:.0f} s") from None
        except (EOFError, ValueError):
            self._kill(_END_S)
            raise _unavailable(f"it ended with {_end_of(self._process.returncode)}") from None
        self._is_ready = True

    def _write(self, content: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        view, number = memoryview(content), self._process.stdin.fileno()
        os.set_blocking(number, False)
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        while view:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):  # it has room, but less than a small message takes
                view = view[os.write(number, view) :]

    def _result(self, deadline: float) -> tuple[dict[str, Any], bytearray]:  # Any: JSON
        head, content = lengths_of(self._read(LENGTHS, deadline))
        if head > MAX_HEAD:
            raise EOFError
        return json.loads(self._read(head, deadline)), self._read(content, deadline)

    def _read(self, size: int, deadline: float) -> bytearray:
        assert self._process.stdout is not None
        result, done = bytearray(size), 0
        view, number = memoryview(result), self._process.stdout.fileno()
        poll = select.poll()
        poll.register(number, select.POLLIN)
        while done < size:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            count = os.readv(number, [view[done : done + _READ]])
            if not count:
                raise EOFError
            done += count
        return result

    def _kill(self, wait_s: float = 0.0) -> None:
        """``wait_s``: for its own end, and exit code, which may come after that of its output."""
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._close()
        self._process.wait()

    def end(self) -> None:
        """Close its input and wait for it; kill it when it takes too long."""
        self._close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """In a fork of this process: it belongs to the other."""
        self._close()
        self._process.returncode = 0

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _failed(exit_code: int, error: Exception) -> _Failed:
    if isinstance(error, TimeoutError):
        return _Failed(Rejected("timeout", f"decoding took more than {WALL_S:.0f} s"), ended=False)
    if exit_code == -signal.SIGXCPU:
        return _Failed(Rejected("timeout", f"decoding took more than {CPU_S} s of CPU"), ended=False)
    if exit_code == -signal.SIGKILL:  # no decoder ends so by itself
        return _Failed(Rejected("too_large", "its decoder was killed, perhaps for want of memory"), ended=True)
    return _Failed(Rejected("corrupt", f"its decoder crashed: {_end_of(exit_code)}"), ended=True)


def _end_of(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"


def _unavailable(why: str) -> DecoderUnavailable:
    return DecoderUnavailable(
        f"no image decoder can be started: {why}; the machine may lack memory, or allow too few files or processes"
    )


class _Pool:
    """The processes that wait for work, and a limit of those that have some."""

    def __init__(self) -> None:
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._places = threading.BoundedSemaphore(os.cpu_count() or 1)

    def call(self, task: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], Buffer] | Rejected:  # Any: JSON
        with self._places:
            try:
                return self._call(self._idle_one() or _Process(), task, payload)
            except _Failed as failed:
                if not failed.ended:
                    return failed.rejected
            try:  # something else may have ended it, as a machine that is short of memory does
                return self._call(_Process(), task, payload)
            except _Failed as failed:
                return failed.rejected

    def _idle_one(self) -> _Process | None:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None

    def _call(self, process: _Process, task: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], Buffer]:
        self._busy.add(process)
        try:
            result = process.call(task, payload)
        finally:
            self._busy.discard(process)
        self._idle.append(process)
        return result

    def end(self) -> None:
        while self._idle:
            self._idle.pop().end()

    def abandon(self) -> None:
        for process in (*self._idle, *self._busy):
            process.abandon()


_pool = _Pool()


def call(task: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], Buffer] | Rejected:  # Any: JSON
    """The result of a task in a decoder process: a JSON object and bytes.

    ``timeout``, or, where a fresh process ended unexpectedly too, ``corrupt`` (``too_large`` if it was killed). Raises
    DecoderUnavailable.
    """
    return _pool.call(task, payload)


def end() -> None:
    """End the processes that wait for work."""
    _pool.end()


def _begin_anew() -> None:
    """In a fork: the processes are the parent's."""
    global _pool
    _pool.abandon()
    _pool = _Pool()


atexit.register(end)
os.register_at_fork(after_in_child=_begin_anew)
