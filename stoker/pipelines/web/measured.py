"""What the record of a candidate in a raw part says of its response: by what to ask whether it has changed.

Columns of raw parts alone, as the time is: records of shards have none of them.
"""

from collections.abc import Mapping
from typing import Any

from stoker.pipelines.web.policy import EarlierResponse, Fetched, Unchanged
from stoker.pipelines.web.validators import Validators

ETAG, LAST_MODIFIED, SIZE = "response_etag", "response_last_modified", "response_size"
COLUMNS = (ETAG, LAST_MODIFIED, SIZE)

Row = Mapping[str, Any]  # Any: Parquet values


def measures_of(answer: Fetched | Unchanged) -> dict[str, str | int]:
    """The measures of a candidate that was fetched: the time, and what the server said of the bytes."""
    measures: dict[str, str | int] = {"fetched_at": answer.fetched_at}
    if answer.size is not None:
        measures[SIZE] = answer.size
    if answer.validators.etag:
        measures[ETAG] = answer.validators.etag
    if answer.validators.last_modified:
        measures[LAST_MODIFIED] = answer.validators.last_modified
    return measures


def validators_in(row: Row) -> Validators:
    """The validators in a record; those of other types are a user's own columns of such a name."""
    etag, last_modified = row.get(ETAG), row.get(LAST_MODIFIED)
    return Validators(etag if isinstance(etag, str) else "", last_modified if isinstance(last_modified, str) else "")


def size_in(row: Row) -> int | None:
    """The bytes of the response, from a record."""
    size = row.get(SIZE)
    return size if type(size) is int else None


def as_payload(response: EarlierResponse) -> list[str]:
    """A response of before in a partition's payload."""
    return [response.validators.etag, response.validators.last_modified, response.url, response.sha256]


def from_payload(texts: list[str]) -> EarlierResponse:
    """The response of before that ``as_payload`` wrote."""
    etag, last_modified, url, sha256 = texts
    return EarlierResponse(Validators(etag, last_modified), url, sha256)
