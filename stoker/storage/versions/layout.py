"""Where everything of a corpus lies: each object's key is built here and nowhere else.

::

    <corpus>/raw/<digest>/part-<sha16>.tar          what was fetched and kept, once
    <corpus>/raw/<digest>/records-<sha16>.parquet   one row a candidate, kept and rejected
    <corpus>/raw/<digest>/part.json                 written last: the part is done
    <corpus>/decisions/<sha16>.parquet              what the rules decided
    <corpus>/shards/<digest>/train-00000.tar        what is trained on
    <corpus>/shards/<digest>/train-00000.parquet    its index
    <corpus>/shards/<digest>/group.json             written last: the group is done
    <corpus>/versions/00000007.json                 a manifest: the version exists
    <corpus>/runs/<run>/...                         training runs
    <corpus>/work/ingest-<random>.json              somebody makes a version (or, with gc, clears away) right now
"""

import re

DIGEST = 32  # hex digits of a digest in keys: 128 bits, no two alike by chance
_SHORT = 16  # hex digits of a content hash that tells the writings of one digest apart
_VERSION = 8  # digits, so that the order of keys is that of versions up to 99,999,999


def raw_folder(corpus: str, digest: str) -> str:
    """The folder of one raw part, with a slash at its end."""
    return f"{corpus}/raw/{digest}/"


def raw(key: str) -> str:
    """The folder that an object of a raw part lies in.

    >>> raw("digits/raw/0123/part-4567.tar")
    'digits/raw/0123/'
    """
    return key[: key.rindex("/") + 1]


def raw_tar(corpus: str, digest: str, sha256: str) -> str:
    """The tar of a raw part, named by its content: writers that race cannot mix their bytes."""
    return f"{raw_folder(corpus, digest)}part-{sha256[:_SHORT]}.tar"


def raw_records(corpus: str, digest: str, sha256: str) -> str:
    """The records of a raw part, named by their content."""
    return f"{raw_folder(corpus, digest)}records-{sha256[:_SHORT]}.parquet"


def raw_part(corpus: str, digest: str) -> str:
    """The marker of a raw part: it is written last, and its presence means that the part is done."""
    return f"{raw_folder(corpus, digest)}part.json"


def decisions(corpus: str, sha256: str) -> str:
    """What the rules decided, named by its content."""
    return f"{corpus}/decisions/{sha256[:_SHORT]}.parquet"


def group_folder(corpus: str, digest: str) -> str:
    """The folder of one group of shards, with a slash at its end."""
    return f"{corpus}/shards/{digest}/"


def shard(corpus: str, digest: str, split: str, number: int) -> str:
    """A shard of a group.

    >>> shard("digits", "0123", "train", 7)
    'digits/shards/0123/train-00007.tar'
    """
    return f"{group_folder(corpus, digest)}{split}-{number:05d}.tar"


def index(corpus: str, digest: str, split: str, number: int) -> str:
    """The index of a shard, beside it."""
    return f"{group_folder(corpus, digest)}{split}-{number:05d}.parquet"


def group(corpus: str, digest: str) -> str:
    """The marker of a group: it is written last, and its presence means that the group is done."""
    return f"{group_folder(corpus, digest)}group.json"


def versions(corpus: str) -> str:
    """The folder of a corpus' manifests, with a slash at its end."""
    return f"{corpus}/versions/"


def version(corpus: str, number: int) -> str:
    """The manifest of a version.

    >>> version("digits", 2)
    'digits/versions/00000002.json'
    """
    return f"{versions(corpus)}{number:0{_VERSION}d}.json"


def version_of(key: str) -> int | None:
    """The version whose manifest has this key; None if it is no manifest's.

    >>> version_of("digits/versions/00000002.json"), version_of("digits/versions/readme.txt")
    (2, None)
    """
    name = key[key.rfind("/") + 1 :]
    digits = name.removesuffix(".json")
    if not name.endswith(".json") or len(digits) < _VERSION or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def runs(corpus: str) -> str:
    """The folder of a corpus' training runs, with a slash at its end."""
    return f"{corpus}/runs/"


def run(corpus: str, name: str) -> str:
    """The folder of one training run's checkpoints and metrics, with a slash at its end."""
    return f"{runs(corpus)}{name}/"


def work(corpus: str) -> str:
    """The folder of the notes of who is at work on a corpus, with a slash at its end."""
    return f"{corpus}/work/"


def work_note(corpus: str, kind: str, name: str) -> str:
    """The note of one who is at work.

    >>> work_note("digits", "ingest", "0123")
    'digits/work/ingest-0123.json'
    """
    return f"{work(corpus)}{kind}-{name}.json"


_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_OURS = re.compile(
    rf"{_NAME.pattern}/(?:raw/[0-9a-f]{{{DIGEST}}}/(?:(?:part|records)-[0-9a-f]{{{_SHORT}}}\.(?:tar|parquet)|part\.json)"
    rf"|shards/[0-9a-f]{{{DIGEST}}}/(?:[a-z0-9_-]+-[0-9]{{5,}}\.(?:tar|parquet)|group\.json)"
    rf"|decisions/[0-9a-f]{{{_SHORT}}}\.parquet|work/(?:ingest|gc)-[0-9a-f]{{{DIGEST}}}\.json)"
)


def is_corpus(name: str) -> bool:
    """Whether a folder may be a corpus'.

    >>> is_corpus("digits"), is_corpus("_probe")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None


def is_ours(key: str) -> bool:
    """Whether the key is one that an ingest, or who clears away behind it, gives to objects beside the manifests.

    >>> is_ours("digits/decisions/0123456789abcdef.parquet"), is_ours("digits/notes.txt"), is_ours("digits/runs/a/b")
    (True, False, False)
    """
    return _OURS.fullmatch(key) is not None
