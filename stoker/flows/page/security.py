"""Request checks and response headers of the web page: known host names, read-only methods, a strict content policy."""

from collections.abc import Collection, Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class RequestGuard:
    """ASGI middleware: rejects other hosts and methods, and adds security headers to every response.

    A page of another site may point its own name at 127.0.0.1 and have the visitor's browser read from here (DNS
    rebinding); the Host header then holds that site's name, and is refused. Pictures and JSON are for pages of this
    origin alone.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOOPBACK) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or reject it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here: the server closes the connection

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        rejection = self._check(scope)
        if rejection is None:
            await self._app(scope, receive, send_with_headers)
            return
        status, text = rejection
        payload = text.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(payload))]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send_with_headers({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    def _check(self, scope: Scope) -> tuple[int, str] | None:
        rejection = foreign(scope, self._hosts)
        if rejection is not None:
            return rejection
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "This page only shows; it changes nothing.\n"
        return None


def foreign(scope: Scope, hosts: Collection[str]) -> tuple[int, str] | None:
    """The status and text of the rejection, if a request was not sent by its user on purpose; else None.

    421: the Host header does not hold one of the names ``hosts``, as after DNS rebinding. 403: a page of another
    origin sent it, by Origin or Sec-Fetch-Site (Fetch Metadata, W3C). Programs send neither and pass. So does a
    visitor who follows a link from elsewhere: a page that is shown in a tab of its own tells the other page nothing.
    """
    found = [value for name, value in scope["headers"] if name == b"host"]
    if len(found) != 1 or host_name(found[0].decode("latin-1")) not in hosts:
        return 421, "This server answers only to the names it was started for (localhost).\n"
    headers = {name: value for name, value in scope["headers"] if name == b"origin" or name.startswith(b"sec-fetch-")}
    origin = headers.get(b"origin")
    if origin is not None and origin.lower() not in (b"http://" + found[0].lower(), b"https://" + found[0].lower()):
        return 403, "A page of another origin sent this request.\n"
    if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        shown = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
        if not shown or scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return 403, "A page of another origin sent this request.\n"
    return None


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("LOCALHOST:8080"), host_name("[::1]:80"), host_name("evil.example")
    ('localhost', '[::1]', 'evil.example')
    """
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()
