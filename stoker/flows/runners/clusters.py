"""Task runners: threads, processes, a Ray or Dask cluster that is made for the run, or one that is there already.

Who answers at a cluster's address is waited for ``_CONNECT_S`` at most. What goes wrong in connecting is one line.
"""

import contextlib
import functools
import logging
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from stoker.flows.runners.processes import Processes
from stoker.flows.runners.workers import WorkerDied, hide_leftovers
from stoker.flows.services import prefect_server
from stoker.flows.settings import Settings, inherited, put_environment
from stoker.storage.errors import StokerError

_CONNECT_S = 20.0
_NAMES = {"ray": "Ray", "dask": "Dask"}
_folders: list[tempfile.TemporaryDirectory[str]] = []  # of local Ray clusters


class ClusterUnavailable(StokerError):
    """A Ray or Dask cluster does not answer, or cannot be used."""


@contextlib.contextmanager
def started(settings: Settings) -> Iterator[TaskRunner[Any]]:  # Any: each runner has futures of its own
    """The task runner that the settings name, connected. Raises StokerError when it cannot be had."""
    with contextlib.ExitStack() as stack:
        try:
            check_address(settings)
            runner = stack.enter_context(make(settings))
            getattr(runner, "client", None)  # Dask connects when it is asked for
        except StokerError:
            raise
        except Exception as error:
            if settings.runner not in _NAMES:
                raise
            raise ClusterUnavailable(_cannot(settings, error)) from error
        yield runner


def check_address(settings: Settings) -> None:
    """Raise ClusterUnavailable unless something answers at the address of the user's own cluster."""
    address = settings.cluster
    if not address:
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ClusterUnavailable(_cannot(settings, "expected an address as ray://host:10001 or tcp://host:8786"))
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_S) as connection:
            # A Dask scheduler speaks first, and its client waits for that without a limit. With TLS it does not.
            if settings.runner == "dask" and parts.scheme in ("tcp", "") and not connection.recv(1):
                raise ClusterUnavailable(_cannot(settings, "what answers there is no Dask scheduler"))
    except TimeoutError:
        raise ClusterUnavailable(_cannot(settings, f"no answer in {_CONNECT_S:g} s")) from None
    except OSError as error:
        raise ClusterUnavailable(_cannot(settings, error.strerror or error)) from None


def _cannot(settings: Settings, error: object) -> str:
    name, variable = _NAMES[settings.runner], f"STOKER_{settings.runner.upper()}_ADDRESS"
    text = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    if settings.cluster:
        return f"{settings.cluster}: the {name} cluster cannot be used: {text}; see that it runs, or change {variable}"
    return f"a {name} cluster for this run could not be started: {text}; try --runner processes"


def make(settings: Settings) -> TaskRunner[Any]:  # Any: as above
    """The task runner that the settings name, not yet started. Raises StokerError when it is not installed."""
    if settings.runner == "processes":
        return Processes(max_workers=settings.slots)
    if settings.runner == "ray":
        return _ray(settings)
    if settings.runner == "dask":
        return _dask(settings)
    return ThreadPoolTaskRunner(max_workers=settings.slots)


@functools.cache
def _ray_token() -> str:
    """One for each process: Ray's driver keeps the first that it reads."""
    return secrets.token_hex(32)


def _ray(settings: Settings) -> TaskRunner[Any]:  # Any: as above
    if not settings.ray_address:
        # A local cluster listens on all addresses of the machine: it does what the holder of this token says. A user's
        # own cluster has a token of its own. Ray reads the variables when it is imported.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _ray_token()}
        put_environment(token | {"RAY_USAGE_STATS_ENABLED": "0"}, without=("RAY_AUTH_TOKEN_PATH",))
    try:
        from prefect_ray import RayTaskRunner
    except ImportError:
        raise StokerError('runner "ray" is not installed; pip install "stoker[ray]"') from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}  # Any: Ray's own
    if settings.ray_address:
        _await_ray(settings)
        variables = prefect_server.current_environment(settings)
        return RayTaskRunner(  # type: ignore[no-any-return]  # prefect_ray has no types
            address=settings.ray_address, init_kwargs=options | {"runtime_env": {"env_vars": variables}}
        )
    # Ray opens its folder to all users, so it lies in one that is closed. In /tmp, because a socket's path is short.
    folder = tempfile.TemporaryDirectory(prefix="stoker-ray-", dir="/tmp", ignore_cleanup_errors=True)
    _folders.append(folder)  # removed when this process ends
    options |= {"num_cpus": settings.slots, "include_dashboard": False, "_temp_dir": f"{folder.name}/ray"}
    return RayTaskRunner(init_kwargs=options)  # type: ignore[no-any-return]  # prefect_ray has no types


def submission(settings: Settings) -> contextlib.AbstractContextManager[object]:
    """What holds while a task is submitted: Ray tries none again by itself, as who submits it does so and counts."""
    if settings.runner != "ray":
        return contextlib.nullcontext()
    from prefect_ray.context import remote_options

    return remote_options(max_retries=0)  # type: ignore[no-any-return]  # prefect_ray has no types


def _await_ray(settings: Settings) -> None:
    """Raise ClusterUnavailable unless a gRPC server answers: Ray itself would try for more than a minute."""
    import grpc

    with_tls = inherited().get("RAY_USE_TLS", "0").lower() in ("1", "true")  # as Ray reads it; its own keys are needed
    if with_tls or not settings.ray_address.startswith("ray://"):
        return
    with grpc.insecure_channel(urlsplit(settings.ray_address).netloc) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_CONNECT_S)
        except grpc.FutureTimeoutError:
            raise ClusterUnavailable(_cannot(settings, f"no answer in {_CONNECT_S:g} s")) from None


def _dask(settings: Settings) -> TaskRunner[Any]:  # Any: as above
    hide_leftovers()
    try:
        import dask
        from distributed.security import Security
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise StokerError('runner "dask" is not installed; pip install "stoker[dask]"') from None
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # Dask logs every worker that starts or ends
    if settings.dask_address:
        existing: TaskRunner[Any] = DaskTaskRunner(  # Any: as above
            address=settings.dask_address, client_kwargs={"timeout": _CONNECT_S}
        )
        return existing
    # Who gets through to a worker can have it run anything, as the wire speaks pickle. So both sides show a certificate
    # that was made for this run, and the pages on the state of the cluster, which need none, are left out.
    dask.config.set({f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")})
    dask.config.set({"distributed.scheduler.allowed-failures": 0})  # ``tasks.run`` counts them
    options = {
        "host": "127.0.0.1",
        "security": Security.temporary(),  # type: ignore[no-untyped-call]  # Dask's own
        "n_workers": settings.slots,
        "threads_per_worker": 1,
        "dashboard_address": None,
        "silence_logs": logging.CRITICAL,
        "preload": "stoker.flows.services.dask_worker",
    }
    temporary: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs=options)  # Any: as above
    return temporary


def worker_end(error: BaseException) -> str:
    """How a task's worker ended, if that is what its error says; "" for any other error."""
    if isinstance(error, WorkerDied):
        return str(error)
    if ray := sys.modules.get("ray.exceptions"):
        if isinstance(error, ray.OutOfMemoryError):
            return "killed by Ray, as memory ran out"
        if isinstance(error, (ray.WorkerCrashedError, ray.NodeDiedError, ray.LocalRayletDiedError)):
            return "its process or node was killed"
    scheduler = sys.modules.get("distributed.scheduler")
    if scheduler and isinstance(error, scheduler.KilledWorker):
        return "its process or node was killed"
    return ""


def cluster_end(settings: Settings, error: BaseException) -> ClusterUnavailable | None:
    """The error to raise when the cluster itself is gone; None for any other error of a task."""
    if settings.runner == "dask" and (client := sys.modules.get("distributed.client")):
        comm = sys.modules["distributed.comm.core"]
        gone = isinstance(error, (client.FutureCancelledError, comm.CommClosedError))
    elif settings.runner == "ray" and (ray := sys.modules.get("ray.exceptions")):
        gone = isinstance(error, (ray.RaySystemError, ConnectionError))
    else:
        return None
    return ClusterUnavailable(_cannot(settings, f"it was lost ({type(error).__name__})")) if gone else None


def call_off(settings: Settings, wrapped: Any) -> None:  # Any: a future of Dask or Ray
    """Ask a cluster of the user's to drop a task: it does not hear of a stopped run by the home of this machine."""
    with contextlib.suppress(Exception):  # the cluster may be gone, and the run ends in any case
        if settings.runner == "ray":
            sys.modules["ray"].cancel(wrapped)
        else:
            wrapped.cancel()
