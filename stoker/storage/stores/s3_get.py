"""Objects and listings of an S3 server by their URLs, without boto3's client: that takes 0.1 to 0.3 s to make.

botocore signs and sends them; its client would read its descriptions of all of S3 first, and takes more than twice the
processor time a request. For servers that are not AWS alone: where a bucket of AWS is, is the client's to know.
"""

import os
import re
import socket
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

CONNECT_TIMEOUT_S = 5.0
POOL_CONNECTIONS = 64
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}")  # else it may be an ARN, or an error that the client tells
_LONGEST_ERROR = 2**16  # bytes of an answer that says what is wrong
_LONGEST_PAGE = 2**24  # bytes of a page of a listing: 1,000 keys of 1,024 bytes, each quoted as three characters
# What each entry of a listing must have, by kind.
ENTRIES = {"Contents": ("Key", "Size", "LastModified"), "CommonPrefixes": ("Prefix",)}
# What else is read, as botocore describes answers; its description of all of S3 takes as long to read as the client.
_MAY_HAVE = {"Contents": ("ETag",), "CommonPrefixes": ()}
_PAGE_TEXTS = ("NextContinuationToken", "EncodingType")
_SPELLED = {"MaxKeys": "max-keys", "StartAfter": "start-after", "ContinuationToken": "continuation-token"}
_TYPES = {"Size": "long", "LastModified": "timestamp", "IsTruncated": "boolean"}


class GetsObjects(Protocol):
    """What reads and listings need of boto3's client."""

    def get_object(self, *, Bucket: str, Key: str, Range: str = ..., IfMatch: str = ...) -> Any:  # noqa: N803  # boto3's
        """The object's entity tag, the answer's status, and its body as a stream."""

    def list_objects_v2(
        self,
        *,
        Bucket: str,  # noqa: N803  # boto3's
        Prefix: str,  # noqa: N803
        Delimiter: str = ...,  # noqa: N803
        MaxKeys: int = ...,  # noqa: N803
        StartAfter: str = ...,  # noqa: N803
        ContinuationToken: str = ...,  # noqa: N803
    ) -> Any:
        """A page of a listing."""


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
    """Sends GET requests for objects and listings, with the errors and responses of boto3's client."""

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
        from botocore.response import StreamingBody

        asked = {"Range": Range, "If-Match": IfMatch}
        path = f"{quote(Bucket)}/{quote(Key, safe='/~')}"
        response = self._send(path, {name: text for name, text in asked.items() if text}, "GetObject")
        length = response.headers.get("Content-Length")
        return {
            "Body": StreamingBody(response.raw, length),
            "ETag": response.headers.get("ETag", ""),
            "ResponseMetadata": {"HTTPStatusCode": response.status_code},
        }

    def list_objects_v2(self, *, Bucket: str, **asked: Any) -> dict[str, Any]:  # noqa: N803  # Any: as boto3 has them
        """As boto3's client, of what a listing says of each entry. Raises as ``get_object``; ResponseParserError."""
        from botocore.parsers import ResponseParserError, RestXMLParser
        from botocore.response import StreamingBody

        words = {_SPELLED.get(name, name.lower()): value for name, value in asked.items()}
        query = urlencode({"list-type": 2, "encoding-type": "url", **words}, quote_via=quote)
        response = self._send(f"{quote(Bucket)}?{query}", {}, "ListObjectsV2")
        with closing(StreamingBody(response.raw, response.headers.get("Content-Length"))) as stream:
            body = stream.read(_LONGEST_PAGE)
            rest = stream.read(1)  # tells also whether the answer broke off
        if rest:
            raise ResponseParserError(f"a listing of more than {_LONGEST_PAGE:,} bytes")
        answer = {"status_code": response.status_code, "headers": response.headers, "body": body}
        page: dict[str, Any] = RestXMLParser().parse(answer, _page_shape())
        for kind, names in ENTRIES.items() if page.get("EncodingType") == "url" else ():
            for entry in page.get(kind, ()):
                if names[0] in entry:
                    entry[names[0]] = unquote_plus(entry[names[0]])
        return page

    def _send(self, path: str, headers: dict[str, str], operation: str) -> Any:  # Any: botocore's response
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import NoCredentialsError

        if self.credentials is None:
            raise NoCredentialsError
        headers = {"User-Agent": "stoker", **headers}
        request = AWSRequest("GET", f"{self.endpoint}/{path}", headers=headers, stream_output=True)
        S3SigV4Auth(self.credentials.get_frozen_credentials(), "s3", self.region).add_auth(request)
        response = self.http.send(request.prepare())
        if response.status_code not in (200, 206):
            raise _error(response, operation)
        return response


@cache
def _page_shape() -> Any:  # Any: botocore's shape
    from botocore.model import ShapeResolver

    scalars = {kind: {"type": kind} for kind in ("string", "long", "timestamp", "boolean")}
    shapes: dict[str, Any] = dict(scalars)
    members = {name: {"shape": _TYPES.get(name, "string")} for name in ("IsTruncated", *_PAGE_TEXTS)}
    for kind, names in ENTRIES.items():
        shapes[f"{kind}Entry"] = {
            "type": "structure",
            "members": {name: {"shape": _TYPES.get(name, "string")} for name in (*names, *_MAY_HAVE[kind])},
        }
        shapes[kind] = {"type": "list", "member": {"shape": f"{kind}Entry"}, "flattened": True}
        members[kind] = {"shape": kind}
    shapes["Page"] = {"type": "structure", "members": members}
    return ShapeResolver(shapes).get_shape_by_name("Page")


def _certificates(session: Any) -> Any:  # Any: boto3's session; a file's path, or True
    """The certificates that servers are checked with."""
    return session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or True


def _error(response: Any, operation: str) -> Any:  # Any: botocore's response, ClientError
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
    return ClientError(parsed, operation)
