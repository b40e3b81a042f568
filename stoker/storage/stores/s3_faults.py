"""Errors of S3 servers and botocore translated to StorageError, with what to do next."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from stoker.storage.errors import AlreadyExists, NotFound, StorageError, StorageRefused, StorageUnavailable

_MISSING = {"NoSuchKey", "404", "NotFound"}
_EXISTS = {"PreconditionFailed", "412"}
_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired; get new ones",
    "ExpiredTokenException": "the credentials have expired; get new ones",
    "InvalidToken": "the session token is wrong",
    "InvalidClientTokenId": "the access key is not known there",
    "AuthorizationHeaderMalformed": "the region or the access key is wrong",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "AccessDenied": "these credentials may not do this; check the keys and the bucket's policy",
    "AllAccessDisabled": "these credentials may not do this",
    "403": "these credentials may not do this; check the keys and the bucket's policy",
    "401": "no valid credentials; check the keys",
}
_BUSY = {
    "SlowDown",
    "ServiceUnavailable",
    "InternalError",
    "RequestTimeout",
    "RequestTimeoutException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "TooManyRequestsException",
    "ConditionalRequestConflict",  # another conditional write of this key is under way
    "OperationAborted",
    "BadDigest",  # altered on the way
    "IncompleteBody",
    "429",
    "409",
}
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)
_CONFIGURATION = (ParamValidationError, ProfileNotFound, UnauthorizedSSOTokenError)


class BadAnswer(OSError):
    """An answer that is none of S3: a web page, a body that broke off, a date that is none."""


class EndlessRedirect(OSError):
    """The server redirects each request, also the one that asks where the bucket is."""


class UploadGone(StorageRefused):
    """The multipart upload does not exist any more: completed by an earlier attempt, or aborted by another process."""


def translate(error: Exception, where: str, server: str) -> StorageError:
    """The StorageError for an error of boto3. ``where`` is the object or bucket, ``server`` the server's address."""
    if isinstance(error, ClientError):
        return _from_response(error, where, server)
    if isinstance(error, _NO_CREDENTIALS):
        return StorageRefused(
            f"{where}: no usable credentials ({_message(error)}); set the access key and the secret key"
        )
    if isinstance(error, _CONFIGURATION):
        return StorageRefused(f"{where}: {_message(error)}")
    if isinstance(error, SSLError):
        return StorageUnavailable(f"{where}: no secure connection to {server} ({_message(error)}); check the endpoint")
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return StorageUnavailable(f"{where}: no answer from {server}; is the server running, and the endpoint right?")
    if isinstance(error, EndlessRedirect):
        return StorageRefused(
            f"{where}: {server} redirects every request, without end; it is no S3 server, or another one's address: "
            "correct the endpoint"
        )
    if isinstance(error, BadAnswer):
        return StorageUnavailable(
            f"{where}: {server} answers as no S3 server does ({_message(error)}); try again, and check the "
            "endpoint and what lies on the way to it"
        )
    if isinstance(error, BotoCoreError | OSError):
        return StorageUnavailable(f"{where}: the connection to {server} broke ({_message(error)}); try again")
    raise error


def _from_response(error: ClientError, where: str, server: str) -> StorageError:
    details = error.response.get("Error", {})
    code = str(details.get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _EXISTS or status == 412:
        return AlreadyExists(f"{where}: it is there already and is never overwritten")
    if code == "NoSuchBucket":
        return StorageRefused(f"{where}: {server} has no such bucket; create it or correct the name")
    if code == "NoSuchUpload":
        return UploadGone(f"{where}: the upload was aborted by another process; run again")
    if code in _MISSING:
        return NotFound(f"{where}: no such object")
    if code in _CREDENTIALS:
        return StorageRefused(f"{where}: refused by {server} ({code}): {_CREDENTIALS[code]}")
    if code in _BUSY or status >= 500 or status == 429:
        return StorageUnavailable(f"{where}: {server} is busy ({code or status}); try again later")
    if status in (301, 307, 400) and code in ("PermanentRedirect", "301", "400", "IllegalLocationConstraintException"):
        return StorageRefused(f"{where}: {server} is not where this bucket is ({code}); set its region or endpoint")
    return StorageRefused(
        f"{where}: refused by {server} ({code or status}): {_shorten(str(details.get('Message', '')))}"
    )


def _message(error: Exception) -> str:
    return _shorten(str(error))


def _shorten(text: str) -> str:
    return " ".join(text.split())[:200]
