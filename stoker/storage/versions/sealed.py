"""JSON objects with a checksum of themselves: manifests, ledger heads, plans, and markers of what is gone.

Each is one line of canonical JSON (names sorted, no spaces). Its field ``checksum`` is the SHA-256 of that JSON without
the field. ``unseal`` accepts exactly the bytes that ``seal`` wrote, so that every altered or missing byte is found.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from stoker.storage.errors import CorruptShard, StorageRefused
from stoker.storage.stores.store import Store
from stoker.storage.versions.document import Document

CHECKSUM = "checksum"


def seal(content: Mapping[str, Any]) -> bytes:  # Any: JSON values
    """The object of a JSON object: one line of canonical JSON, with a checksum of itself.

    >>> seal({"b": 1, "a": "x"})[:27]
    b'{"a":"x","b":1,"checksum":"'
    """
    plain = json.loads(canonical(content))  # as a reader finds it
    return canonical(plain | {CHECKSUM: checksum(plain)}) + b"\n"


def unseal(payload: bytes, where: str, *, newest: int, remedy: str) -> Document:
    """The JSON object that ``seal`` wrote.

    Raises CorruptShard for other bytes, and StorageRefused for an object of a newer schema than is known.

    Args:
        payload: the bytes of the object.
        where: its address, for messages.
        newest: the newest schema that is known. The checksum is counted in the same way in every later one.
        remedy: what to do about a damaged one.
    """
    try:
        content = json.loads(payload)
        rest = {name: value for name, value in content.items() if name != CHECKSUM} if isinstance(content, dict) else {}
        sealed = seal(rest)
    except (ValueError, RecursionError) as error:
        raise CorruptShard(f"{where}: not JSON ({str(error)[:100]}); {remedy}") from error
    if payload != sealed:
        raise CorruptShard(f"{where}: it differs from its own checksum; {remedy}")
    document = Document(content, where)
    refuse_newer(document.whole("schema"), newest, where)
    return document


def refuse_newer(schema: int, newest: int, where: str) -> None:
    """Raise StorageRefused for an object whose schema is newer than is known."""
    if schema > newest:
        raise StorageRefused(
            f"{where}: written with schema {schema}, and this Stoker knows up to {newest}; upgrade Stoker"
        )


def read_sealed(store: Store, key: str, *, newest: int, remedy: str, most: int) -> Document:
    """The JSON object under a key, of at most ``most`` bytes. Raises NotFound, CorruptShard, StorageRefused."""
    payload = store.read(key, size=most + 1)
    where = f"{store.url}/{key}"
    if len(payload) > most:
        raise CorruptShard(f"{where}: more than {most:,} bytes, which none has; {remedy}")
    return unseal(payload, where, newest=newest, remedy=remedy)


def checksum(content: object) -> str:
    """The SHA-256 of JSON values in their canonical form."""
    return hashlib.sha256(canonical(content)).hexdigest()


def canonical(content: object) -> bytes:
    """JSON values as bytes: the same values give the same bytes. Raises ValueError for NaN and infinities."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)
    return text.encode("utf-8", "backslashreplace")
