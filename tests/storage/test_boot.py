"""Where process ids mean the same is not known of a machine that does not say which run of it this is.

A process is taken for dead only where it is known to be: not because another terminal has another time zone.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.storage import boot


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    boot.process_space.cache_clear()
    yield
    boot.process_space.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the machine's address")
def test_without_an_identifier_of_this_run_of_the_machine_its_processes_are_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = boot.process_space()
    assert known.startswith(f"{boot.boot_id()}/pid:")
    boot.process_space.cache_clear()
    monkeypatch.setattr(boot, "boot_id", lambda: "")  # the first container's name is the same on all machines
    assert boot.process_space() == ""


@pytest.fixture
def ps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No /proc, as on macOS."""
    if not Path("/bin/ps").exists():
        pytest.skip("needs ps")
    monkeypatch.setattr(boot, "_PROC", tmp_path)


@pytest.mark.usefixtures("ps")
def test_the_start_of_a_process_is_the_same_in_each_time_zone_and_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    started = boot.start_time(os.getpid())
    assert started
    monkeypatch.setenv("TZ", "America/New_York")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert boot.start_time(os.getpid()) == started
    assert boot.is_alive(os.getpid(), started)
    assert not boot.is_alive(os.getpid(), "Thu Jan 1 00:00:00 1970")


@pytest.mark.parametrize("by", ["proc", "ps"])
def test_a_process_that_has_ended_is_dead_before_its_parent_asks_for_it(
    by: str, request: pytest.FixtureRequest
) -> None:
    if by == "ps":
        request.getfixturevalue("ps")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = boot.start_time(child.pid)
        assert started
        assert boot.is_alive(child.pid, started)
        child.kill()
        deadline = time.monotonic() + 60
        while boot.start_time(child.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert boot.start_time(child.pid) == ""
        assert not boot.is_alive(child.pid, started)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc that others do not see")
def test_a_process_that_is_there_but_shows_nothing_of_itself_is_alive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = boot.start_time(os.getpid())
    (tmp_path / "self").mkdir()
    (tmp_path / "self/stat").touch()
    monkeypatch.setattr(boot, "_PROC", tmp_path)
    assert boot.start_time(os.getpid()) == ""
    assert boot.is_alive(os.getpid(), started)
