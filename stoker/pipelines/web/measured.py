"""What the record of a candidate in a raw part says of its response: by what to ask whether it has changed.

Columns of raw parts alone, as the time is: records of shards have none of them.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stoker.pipelines.memory.originals import ORIGINAL, Original, Place
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.headers import Headers
from stoker.pipelines.web.policy import EarlierResponse, Fetched, Unchanged
from stoker.pipelines.web.validators import Validators

ETAG, LAST_MODIFIED, SIZE = "response_etag", "response_last_modified", "response_size"
ROBOTS = "response_robots"  # URL and digest of the robots.txt that refused
COLUMNS = (ETAG, LAST_MODIFIED, SIZE, ROBOTS)

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


def measures_of_refusal(rejected: Rejected, web: Web) -> dict[str, str]:
    """The measures of a candidate that robots.txt refused: which one, and as it was; else none."""
    if rejected.reason != "robots":
        return {}
    url = rejected.detail.partition(" ")[0]
    digest = web.robots_digest(url)
    return {ROBOTS: f"{url} {digest}"} if digest else {}


def changed_robots(refusals: Collection[str], web: Web) -> set[str]:
    """Those of the values of ``ROBOTS`` whose robots.txt is another one now. Each is asked for once, on threads."""

    def has_changed(refusal: str) -> bool:
        url, _, before = refusal.rpartition(" ")
        return web.robots_digest(url) not in ("", before)

    with ThreadPoolExecutor(web.threads) as pool:
        return {one for one, changed in zip(refusals, pool.map(has_changed, refusals), strict=True) if changed}


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


def original_in(row: Row) -> Original | None:
    """The original of a candidate, from its record; None if none was kept."""
    place, validators = Place.of(row.get(ORIGINAL)), validators_in(row)
    sha256, final_url, fetched_at = (str(row.get(name) or "") for name in ("sha256", "final_url", "fetched_at"))
    if place is None or "" in (sha256, final_url, fetched_at):
        return None
    return Original(str(place), sha256, final_url, fetched_at, validators.etag, validators.last_modified)


def fetched_before(url: str, original: Original, content: bytes) -> Fetched:
    """The response whose body was kept."""
    validators = Validators(original.etag, original.last_modified)
    final_url, fetched_at, sha256 = original.final_url, original.fetched_at, original.sha256
    return Fetched(url, final_url, content, len(content), sha256, "", Headers({}), fetched_at, validators)


def robots_in(row: Row) -> str | None:
    """The robots.txt that refused a candidate, see ``ROBOTS``, from its record."""
    robots = row.get(ROBOTS) if row.get("reason") == "robots" else None
    return robots if isinstance(robots, str) else None
