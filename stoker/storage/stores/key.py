"""Which keys are valid: the same on every store, so that a corpus can be copied between any two stores."""

import re

from stoker.storage.errors import StorageRefused

MAX_KEY = 900  # bytes; S3 allows 1024, and the store's own prefix comes before
MAX_PART = 240  # bytes; file systems allow 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def check_key(key: str) -> str:
    """The key unchanged. Raises StorageRefused for a key that some store would misread.

    >>> check_key("digits/versions/00000001.json")
    'digits/versions/00000001.json'
    """
    problem = _problem(key)
    if problem:
        raise StorageRefused(f"key {key[:200]!r}: {problem}; expected names joined by slashes, like 'a/b.tar'")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix unchanged: empty, or the beginning of a key. Raises StorageRefused."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def is_key(text: str) -> bool:
    """Whether the text may name an object.

    >>> is_key("a/b"), is_key("a/../b"), is_key(".hidden/b")
    (True, False, False)
    """
    return not _problem(text)


def _problem(key: str) -> str:
    if not key:
        return "it is empty"
    if _CONTROL.search(key):
        return "it holds a control character or a backslash"
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not Unicode text"
    if size > MAX_KEY:
        return f"it has {size} bytes, more than {MAX_KEY}"
    for part in key.split("/"):
        if not part:
            return "it begins or ends with a slash, or has two in a row"
        if part.startswith("."):
            return f"its part {part!r} begins with a dot"
        if len(part.encode("utf-8")) > MAX_PART:
            return f"one part of it has more than {MAX_PART} bytes"
    return ""
