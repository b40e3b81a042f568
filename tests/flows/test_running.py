"""Processes known by number and start time; services.json."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.flows import running
from stoker.storage.boot import start_time
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, until


def test_a_process_number_that_was_given_to_another_process_is_not_ours() -> None:
    process = running.this_process()
    assert process.alive
    assert not running.Process(process.pid, "another start").alive
    assert not running.terminate(running.Process(process.pid, "another start"), timeout_s=1)


def test_a_process_that_ended_is_not_alive_even_if_nobody_asked_for_its_end() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = running.Process(child.pid, start_time(child.pid))
    assert until(lambda: not process.alive)  # a zombie by now
    child.wait()
    assert start_time(child.pid) == ""


@pytest.mark.slow
def test_services_end_in_an_order_in_which_runs_can_save_and_leave_nothing(tmp_path: Path) -> None:
    service = (
        "import signal, subprocess, sys, time\n"
        "name, slow, log = sys.argv[1:]\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "def end(*_):\n"
        "    time.sleep(float(slow))\n"
        "    open(log, 'a').write(f'{name} ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "order"
    slow = {"s3": "0", "prefect": "0.2", "web": "0.4", "schedule": "3.2", "demo": "30"}  # the schedule past 3 s
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", service, name, seconds, log],
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        for name, seconds in slow.items()
    }
    children = []
    for process in started.values():
        assert process.stdout is not None
        children.append(int(process.stdout.readline()))
    services = {name: running.Process(each.pid, start_time(each.pid)) for name, each in started.items()}
    services["gone"] = running.Process(started["s3"].pid, "another start")
    assert set(running.end_services(services)) == set(slow)
    codes = {name: process.wait(HANGS_S) for name, process in started.items()}
    assert codes == {"s3": 0, "prefect": 0, "web": 0, "schedule": 0, "demo": -signal.SIGKILL}
    assert log.read_text().split() == ["web", "schedule", "s3", "prefect"]
    assert until(lambda: not any(start_time(pid) for pid in children))
    assert running.end_services(services) == []


def test_services_are_kept_whole_and_private(cli: Cli) -> None:
    services = running.Services(running.this_process(), {"web": running.this_process("http://x")}, True, "stoker")
    running.save(cli.folder, services)
    assert running.load(cli.folder) == services
    assert stat.S_IMODE((cli.folder / "services.json").stat().st_mode) == 0o600
    assert [path.name for path in cli.folder.iterdir()] == ["services.json"]
