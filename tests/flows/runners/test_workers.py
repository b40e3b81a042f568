"""Workers of ours: replaced when they end, quiet when they are interrupted. No Prefect server is needed."""

import os
import queue
import signal
import struct
import sys
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from stoker.flows.runners.workers import Outbox, WorkerDied, Workers, _how
from tests.conftest import HANGS_S
from tests.flows.conftest import until

_outboxes: list[Outbox] = []


def remember(outbox: Outbox) -> None:
    _outboxes.append(outbox)
    outbox.put("begun")


def end(number: int) -> None:
    for _ in range(100):
        _outboxes[0].put("x" * 10_000)
    os.kill(os.getpid(), number)
    time.sleep(60)


def end_in_a_message() -> None:
    os.write(_outboxes[0]._pipe.fileno(), struct.pack("!i", 1000) + b"the first of a thousand bytes")
    os._exit(5)


def end_beside_a_child() -> None:
    if os.fork() == 0:  # it holds the worker's end of the pipe
        time.sleep(60)
        os._exit(0)
    os._exit(5)


def close_pipe() -> None:
    _outboxes[0]._pipe.close()
    time.sleep(60)


def refuse() -> None:
    raise ValueError("of the task")


def handlers() -> tuple[Any, ...]:
    return signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_that_is_killed_is_replaced_and_costs_no_other_task() -> None:
    messages = queue.SimpleQueue[object]()
    workers = Workers(2, remember, messages.put)
    try:
        fine = [workers.submit(partial(pow, 2, number)) for number in range(4)]
        killed = [workers.submit(end, signal.SIGKILL) for _ in range(2)]
        ended = workers.submit(sys.exit, 3)
        more = [workers.submit(pow, 3, number) for number in range(4)]
        assert [future.result(HANGS_S) for future in fine] == [1, 2, 4, 8]
        for future in killed:
            with pytest.raises(WorkerDied, match="signal 9, SIGKILL"):
                future.result(HANGS_S)
        with pytest.raises(SystemExit):
            ended.result(HANGS_S)
        assert [future.result(HANGS_S) for future in more] == [1, 3, 9, 27]
        with pytest.raises(WorkerDied, match="exit code 5"):
            workers.submit(os._exit, 5).result(HANGS_S)
        assert messages.get(timeout=60) == "begun"
    finally:
        workers.shutdown(cancel_futures=True)
    assert not [worker for worker in workers._all if worker.process.is_alive()]


def test_whatever_is_left_of_a_worker_it_is_replaced() -> None:
    workers, began = Workers(3, remember, lambda message: None), time.monotonic()
    try:
        futures = [workers.submit(work) for work in (end_in_a_message, end_beside_a_child, close_pipe)]
        for future, how in zip(futures, ("exit code 5", "exit code 5", "signal 9"), strict=True):
            with pytest.raises(WorkerDied, match=how):
                future.result(HANGS_S)
        assert [workers.submit(pow, 3, number).result(HANGS_S) for number in range(4)] == [1, 3, 9, 27]
        assert time.monotonic() - began < 50  # the child lives on
    finally:
        workers.shutdown()


def test_errors_come_as_they_are_and_what_cannot_be_sent_says_so() -> None:
    workers = Workers(1, remember, print)
    try:
        with pytest.raises(ValueError, match="of the task"):
            workers.submit(refuse).result(HANGS_S)
        with pytest.raises(RuntimeError, match="cannot be sent from a worker"):
            workers.submit(eval, "lambda: 1").result(HANGS_S)
        handler, blocked = workers.submit(handlers).result(HANGS_S)
        assert handler is signal.SIG_IGN
        assert blocked == set()
    finally:
        workers.shutdown()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_at_any_moment_of_its_start_do_not_reach_a_worker(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    workers = Workers(3, remember, lambda message: None)
    try:
        futures: list[Future[Any]] = [workers.submit(pow, 2, 5) for _ in range(3)]
        until(lambda: workers._all, 10)
        while not all(future.done() for future in futures):
            for worker in list(workers._all):
                if worker.process.pid:
                    os.kill(worker.process.pid, number)
            time.sleep(0.01)
        assert [future.result() for future in futures] == [32, 32, 32]
    finally:
        workers.shutdown()
    assert capfd.readouterr().err == ""


def test_the_end_of_a_process_in_words() -> None:
    assert [_how(-9), _how(-11), _how(-60), _how(1)] == [
        "signal 9, SIGKILL, as when memory runs out",
        "signal 11, SIGSEGV",
        "signal 60",
        "exit code 1",
    ]
