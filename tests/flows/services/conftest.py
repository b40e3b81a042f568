"""One `stoker up` for all tests of schedules."""

import os
import signal
from collections.abc import Iterator

import pytest

from stoker.flows import running
from stoker.flows.services import prefect_server
from stoker.flows.services.door import auth_string
from tests.flows.conftest import AUTH, Cli


def api(up: Cli) -> str:
    """The address of its Prefect server's API."""
    return f"{running.load(up.folder / '.stoker').running['prefect'].url}/api"


@pytest.fixture(scope="package")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line in the folder of a `stoker up` that runs."""
    cli = Cli(tmp_path_factory.mktemp("up"))
    ports = {f"STOKER_{name}_PORT": str(prefect_server.free_port()) for name in ("S3", "PREFECT", "WEB")}
    cli.variables |= ports
    home = cli.folder / ".stoker"
    try:
        done = cli("up", "--detach", timeout=600)
        assert done.returncode == 0, done.stderr
        AUTH[api(cli)] = auth_string(running.owner_token(home))
        yield cli
    finally:
        known = running.load(home)
        for process in (known.supervisor, *known.running.values()):
            if process is not None and process.alive:
                os.kill(process.pid, signal.SIGKILL)
