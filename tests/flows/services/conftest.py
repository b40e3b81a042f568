"""One `stoker up` for all tests of schedules."""

from collections.abc import Iterator

import pytest

from stoker.flows import private, running
from stoker.flows.services.door import auth_string
from tests.conftest import HANGS_S
from tests.flows.conftest import AUTH, Cli, services_up


def api(up: Cli) -> str:
    """The address of its Prefect server's API."""
    return f"{running.load(up.folder / '.stoker').running['prefect'].url}/api"


@pytest.fixture(scope="package")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The command line in the folder of a `stoker up` that runs."""
    cli = Cli(tmp_path_factory.mktemp("up"))
    with services_up(cli, timeout=HANGS_S):
        AUTH[api(cli)] = auth_string(private.owner_token(cli.folder / ".stoker"))
        yield cli
