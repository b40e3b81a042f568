"""Processes known by number and start time; services.json."""

import stat
import subprocess
import sys

from stoker.flows import running
from tests.flows.conftest import Cli, until


def test_a_process_number_that_was_given_to_another_process_is_not_ours() -> None:
    process = running.this_process()
    assert process.alive
    assert not running.Process(process.pid, "another start").alive
    assert not running.terminate(running.Process(process.pid, "another start"), timeout_s=1)


def test_a_process_that_ended_is_not_alive_even_if_nobody_asked_for_its_end() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = running.Process(child.pid, running.start_time(child.pid))
    assert until(lambda: not process.alive)  # a zombie by now
    child.wait()
    assert running.start_time(child.pid) == ""


def test_services_are_kept_whole_and_private(cli: Cli) -> None:
    services = running.Services(running.this_process(), {"web": running.this_process("http://x")}, True, "stoker")
    running.save(cli.folder, services)
    assert running.load(cli.folder) == services
    assert stat.S_IMODE((cli.folder / "services.json").stat().st_mode) == 0o600
    assert [path.name for path in cli.folder.iterdir()] == ["services.json"]
