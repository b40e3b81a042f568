"""What runs in a decoder process: tasks come on standard input, results go to standard output.

A task and a result are a JSON object and bytes: two lengths of eight bytes, then both. Nothing is pickled. The first
result, before any task, says that the process is ready.
"""

import contextlib
import json
import os
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

Buffer = bytes | bytearray | memoryview
Handler = Callable[[dict[str, Any], bytes], tuple[dict[str, Any], Buffer]]  # Any: JSON
_LENGTHS = struct.Struct("<QQ")
_LOOK_S = 1.0  # between looks whether the parent is alive
MAX_HEAD = 16 << 20  # bytes of the JSON object: it holds metadata such as EXIF


def start_of(head: dict[str, Any], content: Buffer) -> bytes:  # Any: JSON
    """The bytes of a task or a result before its content."""
    text = json.dumps(head).encode()
    return _LENGTHS.pack(len(text), len(content)) + text


def _send(pipe: IO[bytes], head: dict[str, Any], content: Buffer) -> None:  # Any: JSON
    pipe.write(start_of(head, content))
    pipe.write(content)
    pipe.flush()


def lengths_of(start: bytes | bytearray) -> tuple[int, int]:
    """The bytes of the JSON object and of what follows it."""
    head, content = _LENGTHS.unpack(start)
    return head, content


LENGTHS = _LENGTHS.size


def serve(handle: Handler, *, cpu_s: int, memory: int) -> None:
    """Do what comes, until standard input ends. Each task may take so many seconds of CPU, and so many bytes more.

    A task that knows that it takes more memory says by ``memory_times`` how many times as much it may take.
    """
    tasks, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is no result
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _send(results, {}, b"")
    while True:
        start = tasks.read(LENGTHS)
        if len(start) < LENGTHS:
            return
        _limit_memory(memory)
        head, content = lengths_of(start)
        task, payload = json.loads(tasks.read(head)), tasks.read(content)
        if len(payload) < content:
            return
        _limit_memory(memory * task.get("memory_times", 1))
        _limit_cpu(cpu_s)
        _send(results, *handle(task, payload))
        del task, payload


def _limit_memory(most: int) -> None:
    """Let allocations fail that take the process to more bytes than it has now and ``most``."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a lower limit stands already
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_cpu(seconds: int) -> None:
    """Have this process killed when it computes for longer."""
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds + 1, hard))


def _end_with_parent(parent: int) -> None:
    """End when the parent has ended, however it did: another process may hold the pipe open."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
