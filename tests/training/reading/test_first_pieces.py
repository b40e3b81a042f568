"""Downloads that begin together."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from stoker.training.reading import first_pieces
from stoker.training.reading.first_pieces import FirstPieces
from tests.conftest import HANGS_S


def test_a_download_goes_on_when_the_others_have_their_first_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_pieces, "_LONGEST_WAIT_S", HANGS_S)
    pieces, asked, told = FirstPieces(), threading.Barrier(2), []

    def first() -> None:
        with pieces.asked() as has_begun:
            asked.wait(HANGS_S)
            has_begun()
            told.append("first goes on")
            has_begun()  # of later pieces nothing is waited for

    def second() -> None:
        with pieces.asked() as has_begun:
            asked.wait(HANGS_S)
            time.sleep(0.1)
            told.append("second begins")
            has_begun()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(first), pool.submit(second)]:
            future.result(HANGS_S)
    assert told == ["second begins", "first goes on"]


def test_a_download_that_fails_before_its_first_piece_holds_none_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_pieces, "_LONGEST_WAIT_S", HANGS_S)
    pieces = FirstPieces()
    with pytest.raises(OSError, match="gone"), pieces.asked():
        raise OSError("gone")
    with pieces.asked() as has_begun:
        has_begun()


def test_a_download_whose_first_piece_does_not_come_is_waited_for_a_moment() -> None:
    pieces = FirstPieces()
    with pieces.asked(), pieces.asked() as has_begun:
        has_begun()


def test_a_download_that_stalls_holds_up_those_that_begin_later_for_no_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = FirstPieces()
    with pieces.asked():
        monkeypatch.setattr(first_pieces, "_LONGEST_WAIT_S", 0.0)
        time.sleep(0.01)
        monkeypatch.setattr(pieces, "_changed", _NeverWaits(pieces._changed))
        for _ in range(3):
            with pieces.asked() as has_begun:
                has_begun()


def test_a_download_goes_on_when_the_batch_was_read_or_needs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_pieces, "_LONGEST_WAIT_S", HANGS_S)
    pieces, told = FirstPieces(), []

    def download() -> None:
        with pieces.asked() as has_begun:
            has_begun()
            told.append("goes on")

    with ThreadPoolExecutor(1) as pool:
        with pieces.read() as let_go:
            first = pool.submit(download)
            time.sleep(0.1)
            told.append("needs more")
            let_go()
            first.result(HANGS_S)
        with pieces.read():
            second = pool.submit(download)
            time.sleep(0.1)
            told.append("was read")
        second.result(HANGS_S)
    assert told == ["needs more", "goes on", "was read", "goes on"]


class _NeverWaits:
    """A condition on which only what is true already is waited for."""

    def __init__(self, condition: threading.Condition) -> None:
        self._condition = condition

    def __enter__(self) -> None:
        self._condition.__enter__()

    def __exit__(self, *error: object) -> None:
        self._condition.release()

    def notify_all(self) -> None:
        self._condition.notify_all()

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        assert predicate()
        return True
