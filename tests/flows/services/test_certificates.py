"""Certificates of a start: they let in their owner, and nobody with others."""

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from stoker.flows.services.certificates import Certificates, make_certificates


def ask(server: Certificates, client: ssl.SSLContext) -> bytes:
    """What a server that asks for certificates sends to a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(server.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with ours:
            try:
                with context.wrap_socket(ours, server_side=True) as connection:
                    connection.sendall(b"in")
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs, client.wrap_socket(theirs, server_hostname="127.0.0.1") as connection:
            return connection.recv(2)
    finally:
        thread.join()


def test_the_owner_is_let_in_and_certificates_of_another_start_are_not(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "one", "127.0.0.1")
    other = make_certificates(tmp_path / "two", "127.0.0.1")
    assert ask(made, made.context()) == b"in"
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        ask(other, made.context())  # a stranger's server
    stranger = made.context()
    stranger.load_cert_chain(other.certificate, other.key)
    with pytest.raises(ssl.SSLError, match="alert"):
        ask(made, stranger)
    nobody = ssl.create_default_context(cafile=made.authority)
    with pytest.raises(ssl.SSLError, match="certificate required"):
        ask(made, nobody)


def test_only_the_owner_reads_them_and_the_authoritys_key_is_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    make_certificates(folder, "127.0.0.1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == ["authority.pem", "certificate.pem", "key.pem"]
    assert [path.name for path in folder.iterdir() if "PRIVATE KEY" in path.read_text()] == ["key.pem"]
