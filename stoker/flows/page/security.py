"""Request checks and response headers of the web page: known host names, the owner's token, read-only methods.

Programs send the token as ``Authorization: Bearer TOKEN``, browsers as HTTP Basic, user ``owner``. A browser keeps such
a login for one scheme, host and port. A cookie would reach every other server on 127.0.0.1: cookies ignore ports.
"""

import hmac
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
OWNER = "owner"  # the user name of HTTP Basic
HEALTH = "/healthz"
LOGIN = "/login"
SIGNED_IN = "/signed-in"  # where a browser learns whether its token is right
# What these hold is the same for everybody, so a request needs no token. The health check also takes any host name: a
# load balancer or an orchestrator asks by an address that nobody has configured.
OPEN = frozenset({HEALTH, LOGIN, "/static/login.js", "/static/style.css", "/static/icon.svg", "/favicon.ico"})
# Of every response, also of Prefect's pages behind their door.
COMMON_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
HEADERS = COMMON_HEADERS | {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
# Of the login page alone: its script checks the token that came in the address.
LOGIN_POLICY = f"{HEADERS['content-security-policy']}; script-src 'self'; connect-src 'self'"
CROSS_ORIGIN = "A page of another origin sent this request.\n"
_OTHER_NAME = "This page answers only to localhost and the names in STOKER_WEB_NAMES."
_BEARER = 'Bearer realm="stoker open"'
_BASIC = 'Basic realm="stoker open", charset="UTF-8"'


class RequestGuard:
    """ASGI middleware: rejects other hosts, strangers and methods, and adds security headers to every response.

    A page of another site may point its own name at 127.0.0.1 and have the visitor's browser read from here (DNS
    rebinding); the Host header then holds that site's name, and is refused. Pictures and JSON are for pages of this
    origin alone, and for who knows the token.

    Args:
        app: what answers the requests that pass.
        token: the owner's token, at least 20 characters of ASCII.
        hosts: the names in the Host header that are accepted.
        refuse: makes the response to a request that does not pass, from its scope, the status and a text.
    """

    def __init__(
        self, app: ASGIApp, *, token: str, hosts: Iterable[str], refuse: Callable[[Scope, int, str], Response]
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._owner = Owner(token)
        self._refuse = refuse

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
        response = self._refuse(scope, status, text)
        response.headers["cache-control"] = "no-store"
        if status == 401:
            for challenge in _challenges(scope):
                response.headers.append("www-authenticate", challenge)
        if status == 405:
            response.headers["allow"] = "GET, HEAD"
        await response(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> tuple[int, str] | None:
        rejection = None if scope["path"] == HEALTH else foreign(scope, self._hosts)
        if rejection is not None:
            return (421, _OTHER_NAME) if rejection[0] == 421 else rejection
        if scope["path"] not in OPEN and not self._owner.sent(scope):
            return 401, "This page is for its owner alone: run `stoker open` where `stoker up` runs."
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "This page only shows; it changes nothing."
        return None


class Owner:
    """Tells whether a request holds the owner's token; compares in constant time."""

    def __init__(self, token: str) -> None:
        if len(token) < 20 or not token.isascii():  # "" would let everybody in
            raise ValueError("the owner's token is too short, or not ASCII")
        self._expected = {
            b"bearer": token.encode(),
            b"basic": b64encode(f"{OWNER}:{token}".encode()),
        }

    def sent(self, scope: Scope) -> bool:
        """Whether the owner sent the request: one Authorization header, Bearer or Basic, with the token."""
        found = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(found) != 1:
            return False
        scheme, _, value = found[0].partition(b" ")
        expected = self._expected.get(scheme.lower())
        return expected is not None and hmac.compare_digest(value.strip(), expected)


def _challenges(scope: Scope) -> list[str]:
    """The WWW-Authenticate headers of a 401.

    A browser asks for user and password where it sees "Basic", and shows the page, which says what to do, only once its
    user gives up. So a browser, known by its Fetch Metadata, sees "Basic" only where the login page signs in. Each has
    a header of its own: Chromium reads the first challenge of a header alone.
    """
    asks = scope["path"] == SIGNED_IN or "sec-fetch-mode" not in Headers(scope=scope)
    return [_BASIC, _BEARER] if asks else [_BEARER]


def accepted_hosts(bound: str, names: Iterable[str] = ()) -> frozenset[str]:
    """The names in the Host header that a page accepts which listens at the address ``bound`` and has these names.

    >>> sorted(accepted_hosts("0.0.0.0", ["data.example.org"]) - LOOPBACK)
    ['data.example.org']
    >>> sorted(accepted_hosts("fd00::5") - LOOPBACK)
    ['[fd00::5]']
    """
    every = bound in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
    own = set() if every else {f"[{bound}]" if ":" in bound else bound}
    return LOOPBACK | own | {name.lower() for name in names}


def foreign(scope: Scope, hosts: Collection[str]) -> tuple[int, str] | None:
    """The status and text of the rejection, if a request was not sent by its user on purpose; else None.

    421: the Host header does not hold one of the names ``hosts``, as after DNS rebinding. 403: a page of another
    origin sent it, by Origin or Sec-Fetch-Site (Fetch Metadata, W3C). Programs send neither and pass. So does a
    visitor who follows a link from elsewhere: a page that is shown in a tab of its own tells the other page nothing.
    """
    found = [value for name, value in scope["headers"] if name == b"host"]
    if len(found) != 1 or host_name(found[0].decode("latin-1")) not in hosts:
        return 421, "This server answers only to the names it was started for (localhost).\n"
    own = (b"http://" + found[0].lower(), b"https://" + found[0].lower())
    if any(value.lower() not in own for name, value in scope["headers"] if name == b"origin"):
        return 403, CROSS_ORIGIN
    if is_cross_site(scope):
        headers = [header for header in scope["headers"] if header[0] in (b"sec-fetch-mode", b"sec-fetch-dest")]
        shown = sorted(headers) == [(b"sec-fetch-dest", b"document"), (b"sec-fetch-mode", b"navigate")]
        if not shown or scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return 403, CROSS_ORIGIN
    return None


def is_cross_site(scope: Scope) -> bool:
    """Whether one of the request's Sec-Fetch-Site headers names another site or origin."""
    sites = [value for name, value in scope["headers"] if name == b"sec-fetch-site"]
    return any(value not in (b"none", b"same-origin") for value in sites)


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("LOCALHOST:8080"), host_name("[::1]:80"), host_name("evil.example")
    ('localhost', '[::1]', 'evil.example')
    """
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()
