"""Flow runs of the command line that were killed: Prefect would show them as running for ever."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

from stoker.flows import running

PUBLISHED = "stoker.version.published"  # Prefect event of an ingest, about the resource stoker.corpus.<name>


def note(home: Path, token: str, flow_run: object) -> None:
    """Remember which process a flow run lives in; a run without a token is watched over by `stoker up`."""
    if token and flow_run:
        content = {"flow_run": str(flow_run), "process": asdict(running.this_process())}
        running.write_private(_folder(home) / f"{token}.json", json.dumps(content))


def forget(home: Path, token: str) -> None:
    """The run is over: Prefect knows how."""
    for end in ("json", "stop"):
        (_folder(home) / f"{token}.{end}").unlink(missing_ok=True)


def bury(home: Path) -> None:
    """Tell Prefect of the runs whose process is gone. Call it while a server is connected."""
    for path in sorted(_folder(home).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(path.read_bytes())
            if not running.Process(**content["process"]).alive:
                _crashed(content["flow_run"])
                forget(home, path.stem)


def _crashed(flow_run: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    with contextlib.suppress(ObjectNotFound), get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run).state  # type: ignore[arg-type]  # the text of a UUID is taken
        if state is None or not state.is_final():
            client.set_flow_run_state(flow_run, Crashed(message="its process was killed; run it again"), force=True)


def _folder(home: Path) -> Path:
    return home / "runs"
