"""Small partitions that share a raw part: they are read one after the other, by one task, as a partition of their own.

Each is remembered by itself: the rows of the part name it, and the part says which it holds. One that cannot be read
now is left out of the part, and so are those behind many fetched bytes, whose sizes nobody knew: these get parts of
their own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.web.measured import size_in

_SHARED = "shared"  # in the payload of a partition that others share
_DIGITS = 16  # hexadecimal ones, of the digest of all in its name
_TASKS = 64  # parts that many small partitions make together, at least: so many workers have something to do
_LEAST = 1 / 16  # of a part, see ``Source.share``: so little work is not divided further
_MOST_FETCHED = 32 << 20  # bytes, after which no other partition is read into the part

Row = Mapping[str, Any]  # Any: Parquet values


def share(partitions: Sequence[Partition], share_of: Callable[[Partition], float]) -> Iterator[Partition]:
    """The partitions, small ones together: in order of the first one of each.

    ``share_of``: see ``Source.share``.

    >>> shares = {"a": 0.01, "b": 1, "c": 0.01, "d": 0.06}
    >>> [one.name for one in share([Partition(name) for name in shares], lambda one: shares[one.name])]
    ['2 together b375ff8d234490a6', 'b', 'd']
    """
    shares = [share_of(partition) for partition in partitions]
    most = min(1.0, max(_LEAST, sum(one for one in shares if one < 1) / _TASKS))
    groups: list[list[Partition]] = []
    room, last = 0.0, -1
    for partition, own in zip(partitions, shares, strict=True):
        if own > most:
            groups.append([partition])
        elif last >= 0 and own <= room:
            groups[last].append(partition)
            room -= own
        else:
            last, room = len(groups), most - own
            groups.append([partition])
    return map(together, groups)


def together(partitions: Sequence[Partition]) -> Partition:
    """The partition that several share; of one alone itself.

    Its name tells none of theirs: one that is left out of the part may be forgotten, and the name stays.
    """
    if len(partitions) == 1:
        return partitions[0]
    members = [partition.as_json() for partition in partitions]
    return _called(f"{len(partitions)} together {digest(members)[:_DIGITS]}", partitions)


def together_again(name: str, partitions: Sequence[Partition]) -> Partition:
    """The partition of this name, of those alone that were not left out of it."""
    return _called(name, partitions)


def _called(name: str, partitions: Sequence[Partition]) -> Partition:
    payload = {_SHARED: [partition.as_json() for partition in partitions]}
    return Partition(name, payload, fingerprint=name.rpartition(" ")[2])


def identity_of(partition: Partition) -> dict[str, Any]:  # Any: JSON values
    """What tells a partition from all others: of one that several share its name, which is made of all of them."""
    is_named = _SHARED in partition.payload and partition.fingerprint  # none in plans that call it by its first one
    return (replace(partition, payload={}) if is_named else partition).as_json()


def sharing(partition: Partition) -> list[Partition]:
    """The partitions that share one, in order; none where it is one alone."""
    return [Partition(**one) for one in partition.payload.get(_SHARED, ())]


def left_to_read(partition: Partition, rows: Sequence[Row]) -> Iterator[tuple[Partition, int]]:
    """The partitions in one that are left to be read, and how many of the last rows are the first one's.

    ``rows``: the records so far; as long as the iterator is used they grow.
    """
    counts = Counter(row["partition"] for row in rows)
    members = sharing(partition)
    if not members:
        yield partition, len(rows)
        return
    begun = next((number for number, one in enumerate(members) if rows and one.name == rows[-1]["partition"]), 0)
    fetched = looked_at = 0
    for member in members[begun:]:
        # The rows of a partition lie together, and each says how many bytes its body had.
        last = rows[looked_at - 1]["partition"] if looked_at else None
        for row in rows[looked_at:]:
            fetched += 0 if row["partition"] == last else size_in(row) or 0
            last = row["partition"]
        looked_at = len(rows)
        if fetched < _MOST_FETCHED or counts[member.name]:
            yield member, counts[member.name]
