"""Checks the names of a version's objects: each is the one that ``layout`` makes for what is said of the object.

A repair writes and removes objects under these names, so a list with another name is damaged. External tars, indexed in
place, have names of their own: they end with ``.tar``, and nothing is written there.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from stoker.storage.errors import CorruptShard
from stoker.storage.versions import layout
from stoker.storage.versions.listed.named import Decisions, Mask, Part, Shard

TAR = ".tar"
_SHOWN = 100  # characters of a name in a message

_Names = Iterator[tuple[str, str, str]]  # what it is, its name, the name that it should have


def check_shards(corpus: str, shards: Iterable[Shard], where: str, *, indexed: bool) -> None:
    """Raises CorruptShard for a shard or index with another name; ``indexed``: the tars are external."""
    shards = tuple(shards)
    _check(_indexes(corpus, shards), where)
    if not indexed:
        _check(_tars(corpus, shards), where)
    elif other := [shard.key for shard in shards if not shard.key.lower().endswith(TAR)]:
        raise CorruptShard(f"{where}: names {other[0][:_SHOWN]!r} as a tar; expected names that end with {TAR}")


def check_parts(corpus: str, parts: Iterable[Part], where: str) -> None:
    """Raises CorruptShard for a raw tar or records with another name."""
    _check(chain.from_iterable(_part(corpus, part) for part in parts), where)


def check_masks(corpus: str, masks: Iterable[Mask], where: str) -> None:
    """Raises CorruptShard for a mask with another name."""
    _check((("a mask", mask.key, layout.mask(corpus, mask.group, mask.sha256)) for mask in masks), where)


def check_decisions(corpus: str, decisions: Decisions, where: str) -> None:
    """Raises CorruptShard for decisions with another name."""
    _check(iter([("the decisions", decisions.key, layout.decisions(corpus, decisions.sha256))]), where)


def check_list(corpus: str, kind: str, key: str, sha256: str, where: str) -> None:
    """Raises CorruptShard for a list with another name."""
    _check(iter([(f"a list of {kind}", key, layout.version_list(corpus, kind, sha256))]), where)


def _check(names: _Names, where: str) -> None:
    for what, found, expected in names:
        if found != expected:
            raise CorruptShard(f"{where}: names {found[:_SHOWN]!r} as {what}; expected {expected[:_SHOWN]!r}")
        if not layout.is_ours(found):  # made of a digest or checksum that is none
            raise CorruptShard(f"{where}: names {found[:_SHOWN]!r} as {what}, which no object of Stoker has")


def _part(corpus: str, part: Part) -> _Names:
    yield "a raw tar", part.tar, layout.raw_tar(corpus, part.digest, part.tar_sha256)
    yield "raw records", part.records, layout.raw_records(corpus, part.digest, part.records_sha256)
    for key in part.originals:
        is_one = layout.is_originals(key) and key.startswith(layout.raw(corpus))
        yield "originals", key, key if is_one else layout.raw_originals(corpus, part.digest, "<sha256>")


def _indexes(corpus: str, shards: Iterable[Shard]) -> _Names:
    for shard in shards:
        number = layout.number_in_group(shard.index)
        yield "the index of a shard", shard.index, layout.index(corpus, shard.group, shard.split, number)


def _tars(corpus: str, shards: Iterable[Shard]) -> _Names:
    for shard in shards:
        number = layout.number_in_group(shard.index)  # it lies beside its index
        yield "a shard", shard.key, layout.shard(corpus, shard.group, shard.split, number)
