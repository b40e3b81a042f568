"""Decoder processes of this process: begun when there is work for them, replaced when they end or take too long.

They are plain programs, not children of ``multiprocessing``: daemonic workers may start them too. A signal of the
terminal does not reach them. They end when their input does, or when this process has.
"""

import atexit
import contextlib
import io
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
from stoker.pipelines.images.process.child import LENGTHS, MAX_HEAD, lengths_of, start_of
from stoker.pipelines.rejected import Rejected

CPU_S = 60  # seconds that one image may compute
WALL_S = 300.0  # seconds that one image may take on a busy machine
MEMORY = 3 << 29  # bytes that one image may take: 64 megapixels in every format
_START_S = 300.0  # seconds in which a process is ready on a busy machine
_END_S = 2.0  # from the end of its input to a process's end; then it is killed
_READ = 1 << 20  # bytes
_KEPT_ERRORS, _TOLD_ERRORS = 4096, 300  # bytes of standard error that are kept, and characters that are told
Result = tuple[dict[str, Any], io.BytesIO]  # Any: JSON. The bytes come out of it without a copy
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
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise _unavailable(str(error)) from None
        self._is_ready = False
        assert self._process.stderr is not None
        self._stderr = self._process.stderr.fileno()
        os.set_blocking(self._stderr, False)
        self._errors = b""  # the end of what it wrote there

    def call(self, task: dict[str, Any], payload: bytes) -> Result:  # Any: JSON
        """The result of the task. Raises _Failed or DecoderUnavailable; then the process has ended."""
        try:
            if not self._is_ready:
                self._wait_until_ready()
            deadline, self._errors = time.monotonic() + WALL_S, b""
            try:
                self._write(start_of(task, payload), deadline)
                self._write(payload, deadline)
                return self._result(deadline)
            except (TimeoutError, BrokenPipeError, EOFError, ValueError) as error:
                self._kill(0.0 if isinstance(error, TimeoutError) else _END_S)
                raise _failed(self._process.returncode, error, self._last_errors()) from None
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
            ended = f"it ended with {_end_of(self._process.returncode)}{self._last_errors()}"
            raise _unavailable(ended) from None
        self._is_ready = True

    def _write(self, content: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        view, number = memoryview(content), self._process.stdin.fileno()
        os.set_blocking(number, False)
        while view:
            self._wait_for(number, select.POLLOUT, deadline)
            with contextlib.suppress(BlockingIOError):  # it has room, but less than a small message takes
                view = view[os.write(number, view) :]

    def _result(self, deadline: float) -> Result:
        head, content = lengths_of(self._read(LENGTHS, deadline).getvalue())
        if head > MAX_HEAD:
            raise EOFError
        return json.loads(self._read(head, deadline).getvalue()), self._read(content, deadline)

    def _read(self, size: int, deadline: float) -> io.BytesIO:
        assert self._process.stdout is not None
        result, number, done = io.BytesIO(), self._process.stdout.fileno(), 0
        if size:
            result.seek(size - 1)
            result.write(b"\0")
        with result.getbuffer() as view:
            while done < size:
                self._wait_for(number, select.POLLIN, deadline)
                count = os.readv(number, [view[done : done + _READ]])
                if not count:
                    raise EOFError
                done += count
        return result

    def _wait_for(self, number: int, event: int, deadline: float) -> None:
        """Until the file is ready. Standard error is read meanwhile: a full pipe would stop the process."""
        poll = select.poll()
        poll.register(number, event)
        poll.register(self._stderr, select.POLLIN)
        while True:
            left_s = deadline - time.monotonic()
            ready = [file for file, _ in poll.poll(max(0.0, left_s) * 1000)]
            if self._stderr in ready and not self._keep_errors():
                poll.unregister(self._stderr)
            if number in ready:
                return
            if left_s <= 0:
                raise TimeoutError

    def _keep_errors(self) -> bool:
        """Keep the end of what it wrote to standard error; whether more may come."""
        try:
            content = os.read(self._stderr, _READ)
        except BlockingIOError:
            return True
        self._errors = (self._errors + content)[-_KEPT_ERRORS:]
        return bool(content)

    def _last_errors(self) -> str:
        """The last lines, for a message; empty if there are none. They may hold anything that the image's bytes do."""
        lines = self._errors.decode("utf-8", "replace").splitlines()
        told = " / ".join(line.strip() for line in lines[-3:] if line.strip())[-_TOLD_ERRORS:]
        return "".join(letter if letter.isprintable() else "?" for letter in f": {told}") if told else ""

    def _kill(self, wait_s: float = 0.0) -> None:
        """``wait_s``: for its own end, and exit code, which may come after that of its output."""
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        if self._process.stderr is not None and not self._process.stderr.closed:
            self._keep_errors()
        self._close()

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
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


def _failed(exit_code: int, error: Exception, said: str) -> _Failed:
    """``said``: the end of its standard error, as a message ends with it."""
    if isinstance(error, TimeoutError):
        return _Failed(Rejected("timeout", f"decoding took more than {WALL_S:.0f} s"), ended=False)
    if exit_code == -signal.SIGXCPU:
        return _Failed(Rejected("timeout", f"decoding took more than {CPU_S} s of CPU"), ended=False)
    if exit_code == -signal.SIGKILL:  # no decoder ends so by itself
        return _Failed(Rejected("too_large", f"its decoder was killed, perhaps for want of memory{said}"), ended=True)
    return _Failed(Rejected("corrupt", f"its decoder crashed: {_end_of(exit_code)}{said}"), ended=True)


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

    def call(self, task: dict[str, Any], payload: bytes) -> Result | Rejected:  # Any: JSON
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

    def _call(self, process: _Process, task: dict[str, Any], payload: bytes) -> Result:  # Any: JSON
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


def call(task: dict[str, Any], payload: bytes) -> Result | Rejected:  # Any: JSON
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
