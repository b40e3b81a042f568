"""Names in the record for values of tables and sidecars that a recipe does not name: none takes that of Stoker's own.

What sources, steps and measures write under their names goes before whatever an input calls by them, so such a column
gets a prefix. The list may grow when Stoker writes a new column; a name that is on it stays.
"""

import re
from collections.abc import Collection
from fnmatch import fnmatchcase

from stoker.storage.shards.records import FIXED

MAX_VALUE = 10_000  # characters of a value, as JSON, in a column that no option names
MAX_COLUMNS = 256  # that no option names, in one partition
# Names in records that have a meaning of their own: their values are text.
KNOWN_NAMES = ("author", "attribution", "caption", "group", "label", "language", "licence", "page_url", "title")
_MAX_NAME = 60  # characters
_LITERAL = re.compile(r"[\[?]")  # what a shell would not take as it is
_PRINTABLE = re.compile(r"[^\W\d][^\x00-\x1f\x7f-\x9f]*")
_OWN_NAMES = (
    # of every sample, and of an index
    "split part fields size content_sha256 source recipe code url final_url fetched_at sha256 witness similarity"
    " outcome_class candidate_identity response_etag response_last_modified response_size"
    " response_robots response_original"
    # of images and frames
    " format mode width height frames brightness contrast sharpness image_hash image_hash_quality pixels_sha256"
    # of texts
    " characters words lines mean_word_length digit_share repeated_share minhash detected_language language_confidence"
    " language_matches"
    # that sources fill, or that have a meaning of their own
    " dataset config dataset_split row line revision license"
)
_OWN = frozenset(FIXED) | frozenset(_OWN_NAMES.split())


def record_name(name: str, prefix: str) -> str:
    """The name in the record of a column or key: its own, with a prefix where that is one of Stoker's.

    Different names stay different.

    >>> record_name("camera", "json_"), record_name("width", "json_"), record_name("json_width", "json_")
    ('camera', 'json_width', 'json_json_width')
    """
    return f"{prefix}{name}" if name in _OWN or name.startswith(prefix) else name


def is_fit(name: str) -> bool:
    """Whether a name may be that of a column: short, printable and no number.

    >>> is_fit("größe in cm"), is_fit("17"), is_fit("a\\nb")
    (True, False, False)
    """
    return len(name) <= _MAX_NAME and _PRINTABLE.fullmatch(name) is not None


def is_left_out(name: str, patterns: Collection[str]) -> bool:
    """Whether a name is among those that a recipe leaves out; ``*`` stands for any characters, all else for itself.

    >>> is_left_out("box[0]", ["box[*"]), is_left_out("box0", ["box[0]", "box?"])
    (True, False)
    """
    return any(fnmatchcase(name, _LITERAL.sub(r"[\g<0>]", pattern)) for pattern in patterns)


def visible(name: str) -> str:
    """A name that an input gave, without half characters and controls."""
    return "".join(char if char.isprintable() else "?" for char in name.encode("utf-8", "replace").decode())
