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

from stoker.pipelines.images.process.child import LENGTHS, MAX_HEAD, Buffer, lengths_of, send
from stoker.pipelines.rejected import Rejected

CPU_S = 60  # seconds that one image may compute
WALL_S = 300.0  # seconds that one image may take on a busy machine
MEMORY = 3 << 29  # bytes that one image may take: 64 megapixels in every format
_END_S = 2.0  # from the end of its input to a process's end; then it is killed
_READ = 1 << 20  # bytes
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from stoker.pipelines.images.decoding import serve_decoding
serve_decoding(cpu_s=int(sys.argv[2]), memory=int(sys.argv[3]))
"""


class _Failed(Exception):
    """The process gave no result; why."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(rejected.detail)
        self.rejected = rejected


class _Process:
    """A decoder process."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(CPU_S), str(MEMORY)]
        self._process = subprocess.Popen(  # noqa: S603  # this program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def call(self, task: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytearray]:  # Any: JSON
        """The result of the task. Raises _Failed; then the process has ended."""
        assert self._process.stdin is not None
        deadline = time.monotonic() + WALL_S
        try:
            send(self._process.stdin, task, payload)
            head, content = lengths_of(self._read(LENGTHS, deadline))
            if head > MAX_HEAD:
                raise EOFError
            return json.loads(self._read(head, deadline)), self._read(content, deadline)
        except (OSError, EOFError, ValueError) as error:
            self._kill()
            raise _Failed(_reject_of(self._process.returncode, error)) from None
        except BaseException:  # as KeyboardInterrupt: nobody would read the result
            self._kill()
            raise

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

    def _kill(self) -> None:
        try:
            self._process.wait(0.1)  # the end of its output may come before its own
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
            with contextlib.suppress(OSError):  # what it did not read is flushed once more
                pipe.close()


def _reject_of(exit_code: int, error: Exception) -> Rejected:
    if isinstance(error, TimeoutError):
        return Rejected("timeout", f"decoding took more than {WALL_S:.0f} s")
    if exit_code == -signal.SIGXCPU:
        return Rejected("timeout", f"decoding took more than {CPU_S} s of CPU")
    how = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
    return Rejected("corrupt", f"its decoder crashed: {how}")


class _Pool:
    """The processes that wait for work, and a limit of those that have some."""

    def __init__(self) -> None:
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._places = threading.BoundedSemaphore(os.cpu_count() or 1)

    def call(self, task: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], Buffer] | Rejected:  # Any: JSON
        with self._places:
            try:
                process = self._idle.pop()
            except IndexError:
                process = _Process()
            self._busy.add(process)
            try:
                result = process.call(task, payload)
            except _Failed as failed:
                return failed.rejected
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

    ``timeout``, or ``corrupt`` if the process crashed.
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
