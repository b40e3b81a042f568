"""The main program of a service's process: `python -m stoker.flows.services.child NAME SOCKET SETTINGS`."""

import json
import os
import signal
import socket
import sys
import threading
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

from stoker.flows import logs, private
from stoker.flows.services import door, prefect_server
from stoker.flows.settings import Settings, prepare_environment, put_environment

if TYPE_CHECKING:
    from stoker.flows.schedules.overview import Overview

_HOST = prefect_server.HOST
_OVERVIEW_S = 5.0  # for each question of the page to Prefect; nobody waits for it
_STOP_S = 3  # after its parent's end, before the process exits at once
# Services of layers above, named so that nothing here imports them; their main() gets a folder.
_MODULES = {"demo": "stoker.flows.demo.server"}
_FLOWS = {name: f"stoker.flows.{name}" for name in ("ingest", "train")}  # what a schedule may run


def main(name: str, descriptor: int, settings: Settings) -> None:
    """Serve until SIGTERM, or until the parent that holds a pipe to our standard input ends.

    A server gets the descriptor of its listening socket; 0 stands for none.
    """
    prepare_environment()
    logs.configure_service(level=settings.log_level, format=settings.log_format)
    token = _read_token() if name == "prefect-temporary" else ""
    if not os.path.samestat(os.fstat(0), os.stat(os.devnull)):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if name == "prefect":
        _prefect(_listener(descriptor), settings, private.owner_token(settings.home), temporary=False)
    elif name == "prefect-temporary":
        _prefect(_listener(descriptor), settings, token, temporary=True)
    elif name == "web":
        _web(_listener(descriptor), settings)
    elif name == "schedule":
        _schedule(settings)
    elif name == "flow-run":
        _flow_run(settings)
    elif name == "up":
        _up(settings)
    elif name in _MODULES:
        import_module(_MODULES[name]).main(settings.home / name)
    else:
        raise SystemExit(f"stoker.flows.services.child: no service is called {name!r}")


def _listener(descriptor: int) -> socket.socket:
    """The listening socket that the parent opened: so no other user can have taken its port."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def _read_token() -> str:
    """The first line of standard input: the token of a server that only its parent uses."""
    line = b""
    while not line.endswith(b"\n") and (letter := os.read(0, 1)):
        line += letter
    return line.decode("ascii").strip()


def _end_with_parent() -> None:
    """End when the parent's end of the pipe closes: this happens even if the parent was killed."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(_STOP_S)
    os._exit(1)


def _prefect(listener: socket.socket, settings: Settings, token: str, *, temporary: bool) -> None:
    """A Prefect server behind our door, on loopback, with one start at a time on a database."""
    if not token:
        raise SystemExit("stoker.flows.services.child: no token for the Prefect server")
    variables = prefect_server.environment(settings, f"http://{_HOST}:{listener.getsockname()[1]}/api", quiet=False)
    if not temporary:
        variables |= prefect_server.history_environment(settings)
    put_environment(variables | door.server_environment(token))
    home = settings.home / "prefect"
    # Two servers that migrate a new database at the same time break it.
    lock = private.lock_private(home / "start.lock")
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # A service manager may end all processes at once; the run still has to tell its last state to this one.
            if not (temporary and sig == signal.SIGTERM):
                super().handle_exit(sig, frame)

        async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # passed on
            await super().startup(sockets)  # type: ignore[arg-type]  # passed on
            os.close(lock)

    config = uvicorn.Config(
        door.Door(create_app(final=True, ephemeral=temporary), token),
        log_level="warning",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        ws_max_size=door.MAX_FRAME,
        timeout_graceful_shutdown=5,
    )
    Server(config).run(sockets=[listener])


def _web(listener: socket.socket, settings: Settings) -> None:
    import uvicorn

    from stoker.flows.page.security import accepted_hosts
    from stoker.flows.page.web import make_app
    from stoker.flows.schedules.overview import Watch

    hosts = accepted_hosts(settings.web_host, settings.web_names.split(",") if settings.web_names else ())
    app = make_app(
        settings.open_store,
        token=private.owner_token(settings.home),
        hosts=hosts,
        schedules=Watch(lambda: _overview(settings)),
    )
    config = uvicorn.Config(app, log_level="warning", server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


def _overview(settings: Settings) -> "Overview":
    from stoker.flows.schedules.api import Reader
    from stoker.flows.schedules.overview import read

    api = prefect_server.scheduling_api(settings)
    return read(settings, Reader(api.url, api.auth, timeout_s=_OVERVIEW_S))


def _schedule(settings: Settings) -> None:
    prefect_server.enter(settings, prefect_server.await_api(settings))
    from stoker.flows.services.worker import serve

    serve(settings)


def _flow_run(settings: Settings) -> None:
    """A run that the scheduler started; its environment says which one, and where the Prefect server is."""
    from stoker.flows.services.flow_run import main

    main(settings, _FLOWS)


def _up(settings: Settings) -> None:
    from stoker.flows.services.up import run_services
    from stoker.storage.errors import StokerError

    try:
        run_services(settings, logs.note)
    except StokerError as error:
        raise SystemExit(f"stoker: {error}") from None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as SIGTERM: no traceback in a log
    main(sys.argv[1], int(sys.argv[2]), Settings.from_json(json.loads(sys.argv[3])))
