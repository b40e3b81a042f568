"""Flow runs whose process was killed."""

import secrets

import pytest

from tests.flows.conftest import Cli, ask, until

pytestmark = pytest.mark.slow


def test_a_run_that_was_killed_does_not_stay_running_in_prefects_ui(served: Cli, prefect_url: str) -> None:
    name = f"shot-{secrets.token_hex(4)}"  # that no run of another test has in its name
    recipe = served.recipe(["a", "wait 60"], name=name)
    process = served.start("ingest", recipe)
    assert until(served.journal)
    process.kill()
    process.communicate()

    def states() -> list[str]:
        runs = ask(prefect_url, "/flow_runs/filter", flow_runs={"name": {"like_": name}}, sort="START_TIME_ASC")
        return [run["state"]["name"] for run in runs]

    assert until(lambda: states() == ["Running"]), states()
    served.recipe(["a", "b"], name=name)
    assert served("ingest", recipe).returncode == 0
    assert states() == ["Crashed", "Completed"]
    assert list((served.folder / ".stoker" / "runs").iterdir()) == []
