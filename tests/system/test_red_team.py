"""Strangers at the doors of `stoker up`: pages of other origins, foreign names, other users of the machine.

Doors are found in the kernel's tables of listening sockets, so that one nobody thought of is asked too.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stoker.flows import private, running
from stoker.flows.settings import Settings
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, as_nobody, services_up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="finds listening sockets in Linux's /proc"),
]
# The services whose doors are asked: each has a row in HEALTH.
SERVICES = ("s3", "web", "prefect")
# Paths that everybody may ask, and what they tell.
HEALTH: dict[str, dict[str, re.Pattern[bytes]]] = {
    "s3": {path: re.compile(b"") for path in ("/healthz", "/status", "/readyz")},
    "web": {"/healthz": re.compile(rb"\s*\w*\s*"), "/login": re.compile(b"(?s)<!doctype html>.*")},
    "prefect": {
        "/api/health": re.compile(b"true"),
        "/door/login": re.compile(b"(?s)<!doctype html>.*"),
        **dict.fromkeys(("/", "/dashboard"), re.compile(b"(?is)<!doctype html>.*")),  # the files of Prefect's UI
        "/ui-settings": re.compile(rb'\{"api_url":"/api",[\w":,\[\]/]*"auth":"BASIC",[\w":,\[\]/]*\}'),
    },
}
REFUSALS = (401, 403, 404, 405, 421)  # 405: there is no such method at this path
TLS_ONLY = b"Client sent an HTTP request to an HTTPS server."
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
FOREIGN: tuple[dict[str, str], ...] = (
    {},
    {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT", "Sec-Fetch-Site": "cross-site"},
    {"Host": "evil.example"},
)
PATHS = {
    "s3": (
        "/",
        "/?Action=CreateUser&UserName=evil&Version=2010-05-08",
        "/?Action=AssumeRole&Version=2011-06-15",
        "/stoker",
        "/stoker?delete",
        "/stoker?list-type=2",
        "/stoker?policy",
        "/stoker/a/secret",
        "/stoker/a/secret?uploads",
        "/buckets/",
        "/buckets/stoker/?recursive=true",
        "/buckets/stoker/a/secret",
        "/dir/assign",
        "/dir/lookup?volumeId=1",
        "/dir/status",
        "/col/delete?collection=stoker",
        "/vol/grow?count=1",
        "/vol/vacuum?garbageThreshold=0",
        "/vol/status",
        "/submit",
        "/cluster/status",
        "/cluster/healthz",
        "/1,01637037d6",
        "/healthz",
        "/readyz",
        "/status",
        "/metrics",
        "/debug/pprof/",
        "/stats/counter",
        "/stats/memory",
        "/ui/index.html",
        "/v1/config",
        "/admin/assign_volume",
    ),
    "web": (
        "/",
        "/c/a",
        "/api/corpora",
        "/api/corpora/a",
        "/docs",
        "/openapi.json",
        "/healthz",
        "/login",
        "/signed-in",
        "/static/../web.py",
        "/static/%2e%2e/web.py",
        "//evil.example/",
        "/metrics",
    ),
}
PATHS["prefect"] = (
    "/",
    "/dashboard",
    "/ui-settings",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/door/login",
    "/door/../api/flows/count",
    "/api",
    "/api/",
    "/api/docs",
    "/api/openapi.json",
    "/api/health",
    "/api/ready",
    "/api/version",
    "/api/hello",
    "/api/admin/version",
    "/api/admin/settings",
    "/api/admin/database/clear",
    "/api/csrf-token?client=evil",
    "/api/flows/",
    "/api/flows/count",
    "/api/flows/filter",
    "/api/deployments/filter",
    "/api/work_pools/stoker",
    "/api/ui/flow_runs/history",
    "/api/events",
    "/api/logs/out",
    "//api/flows/count",
    "/API/flows/count",
    "/%61pi/flows/count",
)
SECRET = b"of the owner alone"


@dataclass(frozen=True)
class Door:
    """A listening socket of a service; ``port`` of TCP, or else ``path`` of a socket file."""

    service: str
    port: int = 0
    path: str = ""

    def connect(self, timeout_s: float = 5) -> socket.socket:
        if self.port:
            return socket.create_connection(("127.0.0.1", self.port), timeout_s)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(self.path)
        return connection


def doors(known: running.Services) -> list[Door]:
    """Every listening socket of the services, of the processes that they started, and of the supervisor."""
    groups = {process.pid: name for name, process in known.running.items()}
    assert known.supervisor is not None
    groups[known.supervisor.pid] = "up"
    tcp, files = {}, {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # listening
                tcp[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if int(fields[3], 16) & 0x10000 and len(fields) > 7:  # it accepts connections
            files[fields[6]] = fields[7]
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a process that ended
            group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
            for descriptor in list((folder / "fd").iterdir()) if group in groups else ():
                link = ""
                with contextlib.suppress(OSError):  # a descriptor that was closed: the others still count
                    link = os.readlink(descriptor)
                match = re.fullmatch(r"socket:\[(\d+)\]", link)
                if match and match[1] in tcp:
                    found.add(Door(groups[group], port=tcp[match[1]]))
                elif match and match[1] in files:
                    path = os.path.join(os.readlink(folder / "cwd"), files[match[1]])  # weed's are relative
                    found.add(Door(groups[group], path=path))
    return sorted(found, key=lambda door: (door.service, door.port, door.path))


@pytest.fixture(scope="module")
def up() -> Iterator[Cli]:
    """Services that run in the background, with an object in the store. Their folder lies where others can look."""
    folder = Path(tempfile.mkdtemp(prefix="stoker-red-team-"))
    folder.chmod(0o755)
    cli = Cli(folder)
    home = folder / ".stoker"
    home.mkdir(mode=0o755)  # as an earlier version left it
    try:
        with services_up(cli, timeout=HANGS_S):
            Settings(home=home).open_store().write("a/secret", SECRET)
            yield cli
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def state(cli: Cli) -> running.Services:
    return running.load(cli.folder / ".stoker")


def ask(door: Door, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes, str | None] | None:
    """Status, body and what CORS allows; None if the connection was shut."""
    connection = http.client.HTTPConnection("127.0.0.1", timeout=10)
    try:
        connection.sock = door.connect(10)
        connection.request(method, path, body=b"evil" if method in ("POST", "PUT") else None, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers.get("Access-Control-Allow-Origin")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def answers_over_tls(door: Door) -> bool:
    """Whether a door sends anything to who shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with door.connect() as plain, context.wrap_socket(plain) as connection:
            connection.sendall(HTTP2 if connection.selected_alpn_protocol() == "h2" else b"GET / HTTP/1.0\r\n\r\n")
            return bool(connection.recv(100))
    except OSError:
        return False


HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # the preface and empty SETTINGS


def speaks_http2(door: Door) -> bool:
    """Whether a door answers HTTP/2 without TLS, as open gRPC servers do: by SETTINGS (RFC 9113, 3.4)."""
    try:
        with door.connect() as connection:
            connection.sendall(HTTP2)
            return connection.recv(9)[3:4] == b"\x04"
    except OSError:
        return False


@pytest.mark.parametrize("service", SERVICES)
def test_every_door_of_a_service_refuses_strangers(service: str, up: Cli) -> None:
    known = state(up)
    found = [door for door in doors(known) if door.service == service]
    assert int(known.running[service].url.rpartition(":")[2]) in [door.port for door in found]
    told = []
    token = private.owner_token(up.folder / ".stoker").encode()
    for door in found:
        for path in PATHS[service]:
            for method in METHODS:
                for headers in FOREIGN:
                    answer = ask(door, method, path, headers)
                    if answer is None:
                        continue
                    status, body, allowed = answer
                    assert SECRET not in body
                    assert token not in body
                    if status in REFUSALS or (status == 400 and TLS_ONLY in body):
                        continue
                    if method == "OPTIONS" and body == b"" and not allowed:
                        continue  # it allows no origin, and tells nothing
                    health = HEALTH[service].get(path.partition("?")[0])
                    if method != "GET" or health is None or not health.fullmatch(body):
                        told.append((door, method, path, headers, answer))
    assert told == []
    assert [door for door in found if speaks_http2(door)] == []
    assert [door for door in found if answers_over_tls(door)] == []
    store = Settings(home=up.folder / ".stoker").open_store()
    assert [stored.key for stored in store.list()] == ["a/secret"]
    assert store.read("a/secret") == SECRET


def test_nothing_else_listens_and_all_of_it_is_of_this_machine(up: Cli) -> None:
    known = state(up)
    found = doors(known)
    assert {door.service for door in found} == {"s3", "prefect", "web"}
    ports = json.loads((up.folder / ".stoker/s3/ports.json").read_text())
    assert {door.port for door in found if door.service == "s3" and door.port} == set(ports.values())
    outside = set()
    with contextlib.suppress(socket.gaierror):  # a machine whose own name has no address
        for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM):
            outside.add(str(entry[4][0]))
    for address in [address for address in outside if not address.startswith("127.")]:
        for door in found:
            if door.port:
                with pytest.raises(OSError):  # noqa: PT011  # refused, or no way there
                    socket.create_connection((address, door.port), 2)


def test_everything_in_the_home_is_for_its_owner_alone(up: Cli) -> None:
    home = up.folder / ".stoker"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700  # it was 0755
    opened = []
    for path in home.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # what a service removes in the meantime
            # weed sets the mode of its .vif files (sizes and dates of volumes) itself.
            if stat.S_IMODE(path.lstat().st_mode) & 0o077 and path.suffix != ".vif" and not path.is_symlink():
                opened.append(path)
    assert opened == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become another user")
def test_another_user_reads_no_file_and_gets_through_no_socket(up: Cli) -> None:
    home = up.folder / ".stoker"
    files = [path for path in home.rglob("*") if path.is_file()]
    sockets = [door for door in doors(state(up)) if door.path]
    assert {"services.json", "s3-keys.json", "security.toml"} <= {path.name for path in files}
    assert sockets

    def look() -> list[str]:
        read = []
        for path in (up.folder, home, *files):
            with contextlib.suppress(PermissionError):
                os.listdir(path) if path.is_dir() else path.read_bytes()
                read.append(str(path))
        for door in sockets:
            with contextlib.suppress(PermissionError):
                door.connect().close()
                read.append(door.path)
        return read

    assert as_nobody(look) == [str(up.folder)]  # where they may look
