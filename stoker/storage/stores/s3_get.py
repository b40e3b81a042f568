"""GET requests to an S3 server by its URL, without boto3's client: that takes 0.15 to 0.3 s to make.

botocore signs and sends them; its client would read its descriptions of all of S3 first, and takes more than twice the
processor time a request. For servers that are not AWS alone: where a bucket of AWS is, is the client's to know.
"""

import os
import re
import socket
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

CONNECT_TIMEOUT_S = 5.0
POOL_CONNECTIONS = 64
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}")  # else it may be an ARN, or an error that the client tells
_LONGEST_ERROR = 2**16  # bytes of an answer that says what is wrong


class GetsObjects(Protocol):
    """What a read needs of boto3's client."""

    def get_object(self, *, Bucket: str, Key: str, Range: str = ..., IfMatch: str = ...) -> Any:  # noqa: N803  # boto3's
        """The object's entity tag, the answer's status, and its body as a stream."""


def is_aws(url: str) -> bool:
    """Whether a server is one of AWS, by its name."""
    return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def can_get(endpoint: str | None, bucket: str) -> bool:
    """Whether objects of this bucket can be had by their URL alone."""
    if endpoint is None or _BUCKET.fullmatch(bucket) is None:
        return False
    try:
        parts = urlsplit(endpoint)
        strange = parts.port == 0 or parts.query or parts.fragment or parts.username
    except ValueError:  # the client says what is wrong with it
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not strange and not is_aws(endpoint)


@dataclass(frozen=True)
class ObjectGetter:
    """Sends GET requests for objects, with the errors and responses of boto3's client. All threads share it."""

    endpoint: str
    region: str
    credentials: Any  # botocore's; None: none were found
    http: Any  # botocore's HTTP session

    @classmethod
    def open(cls, endpoint: str, region: str, session: Any, timeout_s: float) -> "ObjectGetter":  # Any: boto3's session
        """With the credentials, proxies and certificates that boto3's client would use. Sends nothing."""
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        http = URLLib3Session(
            verify=_certificates(session),
            proxies={} if urlsplit(endpoint).hostname in LOOPBACK else get_environ_proxies(endpoint),
            timeout=(CONNECT_TIMEOUT_S, timeout_s),
            max_pool_connections=POOL_CONNECTIONS,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
        )
        return cls(endpoint.rstrip("/"), region, session.get_credentials(), http)

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", IfMatch: str = "") -> dict[str, Any]:  # noqa: N803  # boto3's names; Any: boto3's response
        """As boto3's client. Raises ClientError for an answer that is an error; BotoCoreError."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import NoCredentialsError
        from botocore.response import StreamingBody

        if self.credentials is None:
            raise NoCredentialsError
        asked = {"User-Agent": "stoker", "Range": Range, "If-Match": IfMatch}
        request = AWSRequest(
            "GET",
            f"{self.endpoint}/{quote(Bucket)}/{quote(Key, safe='/~')}",
            headers={name: text for name, text in asked.items() if text},
            stream_output=True,
        )
        S3SigV4Auth(self.credentials.get_frozen_credentials(), "s3", self.region).add_auth(request)
        response = self.http.send(request.prepare())
        if response.status_code not in (200, 206):
            raise _error(response)
        length = response.headers.get("Content-Length")
        return {
            "Body": StreamingBody(response.raw, length),
            "ETag": response.headers.get("ETag", ""),
            "ResponseMetadata": {"HTTPStatusCode": response.status_code},
        }


def _certificates(session: Any) -> Any:  # Any: boto3's session; a file's path, or True
    """The certificates that servers are checked with."""
    return session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or True


def _error(response: Any) -> Any:  # Any: botocore's response, ClientError
    """What boto3's client would raise for this answer."""
    from botocore.exceptions import ClientError
    from botocore.parsers import RestXMLParser

    try:
        body = response.raw.read(_LONGEST_ERROR)
    except Exception:  # noqa: BLE001  # the status says enough, and the body of an error may break off in any way
        body = b""
    finally:
        response.raw.close()
    answer = {"status_code": response.status_code, "headers": response.headers, "body": body}
    parsed = RestXMLParser().parse(answer, None)
    parsed.setdefault("Error", {"Code": str(response.status_code), "Message": ""})
    return ClientError(parsed, "GetObject")
