"""Whether a server answers: one request, of which only the status counts."""

import http.client
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def http_status(url: str, *, timeout_s: float = 5, context: ssl.SSLContext | None = None) -> int:
    """The HTTP status with which the server at a URL answers a GET; 0 if it does not answer.

    Servers on this machine are asked without the proxy that the environment may name.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    try:
        if urlsplit(url).hostname in _THIS_MACHINE:
            handlers.append(urllib.request.ProxyHandler({}))
        with urllib.request.build_opener(*handlers).open(url, timeout=timeout_s) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, ValueError, http.client.HTTPException):
        return 0
