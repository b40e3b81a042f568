"""The door before a Prefect server: answers its owner alone, and no page of another origin.

Prefect's own server trusts whoever reaches its port, and a web page reaches 127.0.0.1 too. The door is an ASGI wrapper
in the server's process. It asks each request of the API for the owner's token (HTTP Basic, as Prefect's clients send
it), checks Host, Origin and Sec-Fetch-Site of requests and websockets, and limits the size of bodies. A websocket sends
its token in its first message, which Prefect checks. The pages of Prefect's UI hold no data and are served to anybody;
their login is /door/login#TOKEN.
"""

import hmac
from base64 import b64encode
from importlib.resources import files

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stoker.flows.page.security import COMMON_HEADERS, CROSS_ORIGIN, LOOPBACK, OWNER, foreign, is_cross_site

MAX_BODY = 16 * 2**20  # bytes; Prefect takes parameters of 512 kB and logs of 1 MB
MAX_FRAME = 4 * 2**20  # bytes of a websocket's message; Prefect takes events of 1.5 MB
API = "/api"
LOGIN = "/door/login"
_OPEN = API + "/health"  # says true, and nothing else: whoever waits for the server asks this
_SHUT = ("/docs", "/redoc", "/openapi.json")  # FastAPI's descriptions of the API; nothing needs them
# What Prefect's pages need: their own files, styles in attributes, compiled schemas of forms ('unsafe-eval'), pictures
# that they draw, the API and its websockets. Nothing of another host: they would ask an analytics service otherwise.
_UI_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' ws://{host}; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LOGIN_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_LOGIN_FILES = {LOGIN: ("login.html", "text/html"), "/door/login.js": ("login.js", "text/javascript")}


def auth_string(token: str) -> str:
    """The owner's name and token, as Prefect's settings for servers and clients take them."""
    return f"{OWNER}:{token}"


def server_environment(token: str) -> dict[str, str]:
    """Variables of a Prefect server behind the door, to set before Prefect is imported."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": auth_string(token),
        "PREFECT_SERVER_UI_API_URL": API,  # of the origin that served the page: 127.0.0.1 or localhost
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


class Door:
    """ASGI middleware: lets the owner's requests pass to Prefect's server, and answers 401, 403 or 421 to others."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._authorization = b"Basic " + b64encode(auth_string(token).encode("ascii"))
        folder = files("stoker.flows.services") / "login"
        self._login = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _LOGIN_FILES.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a websocket on, or reject it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        rejection = self._check(scope)
        if scope["type"] == "websocket":
            if rejection is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
            return
        path = scope["path"]
        if rejection is not None:
            status, text = rejection
            await _respond(send, status, text.encode(), "text/plain", _LOGIN_POLICY)
        elif path in self._login:
            payload, kind = self._login[path]
            await _respond(send, 200, payload, kind, _LOGIN_POLICY)
        else:
            await self._app(scope, _limited(receive), _with_headers(scope, send))

    def _check(self, scope: Scope) -> tuple[int, str] | None:
        """The status and text of a rejection; None if the request may pass."""
        rejection = foreign(scope, LOOPBACK)
        if rejection is not None:
            return rejection
        path = scope["path"]
        if path != API and not path.startswith(API + "/"):
            if scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD"):
                return 403, "Only the API takes requests that change something.\n"
            if path.startswith(_SHUT):
                return 403, "Not served here; Prefect's documentation describes the API.\n"
            return None
        if is_cross_site(scope):
            return 403, CROSS_ORIGIN  # a link to a page is fine, one to the API not
        if scope["type"] == "websocket":
            return None  # its first message must hold the token
        if path == _OPEN and scope["method"] == "GET":
            return None
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._authorization):
            return 401, "Prefect answers its owner alone; `stoker open prefect` logs a browser in.\n"
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if not all(length.isdigit() and len(length) < 20 and int(length) <= MAX_BODY for length in lengths):
            return 413, f"A body of more than {MAX_BODY} bytes.\n"
        return None


async def _respond(send: Send, status: int, payload: bytes, kind: str, policy: str) -> None:
    headers = COMMON_HEADERS | {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "content-type": f"{kind}; charset=utf-8",
        "content-length": str(len(payload)),
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": payload})


def _with_headers(scope: Scope, send: Send) -> Send:
    """Send with the security headers of Prefect's pages. The Host header was checked: it names this machine."""
    policy = _UI_POLICY.format(host=dict(scope["headers"])[b"host"].decode("ascii"))

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in {**COMMON_HEADERS, "content-security-policy": policy}.items():
                headers[name] = value
        await send(message)

    return send_with_headers


def _limited(receive: Receive) -> Receive:
    """Receive a body of unknown length up to ``MAX_BODY`` bytes; what is longer counts as a client that went away."""
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        return {"type": "http.disconnect"} if size > MAX_BODY else message

    return receive_limited
