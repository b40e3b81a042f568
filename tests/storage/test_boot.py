"""Where process ids mean the same is not known of a machine that does not say which run of it this is."""

import sys
from collections.abc import Iterator

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
