"""One split for equal content: samples of the same bytes never lie in two splits, whatever the rules.

An elder stays where it is, and decides for its copies; among newcomers the oldest does. A copy follows with its whole
group where all of that are copies of one split's samples; out of another group, whose split it must not leave, it is
dropped. So no group is torn apart, and a picture that a thousand groups hold does not draw them all into one split.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.rows_read import marks_of
from stoker.pipelines.rule import Decision, numbered

Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_HEX = 64  # digits of a SHA-256


@dataclass
class _Settled:
    """Where samples of one content lie: a key of each split."""

    by_split: dict[int, str] = field(default_factory=dict)

    def conflicting(self, split: int) -> str | None:
        """The key of a sample in another split; None if there is none."""
        return next((key for code, key in self.by_split.items() if code != split), None)


def decide(
    samples: pa.Table, split: Codes, is_elder: Flags, is_fixed: Flags, held: pa.Table | None, splits: Sequence[str]
) -> list[Decision]:
    """Decisions after which no newcomer lies in another split than a sample of the same content.

    Args:
        samples: those that all rules kept, oldest first: key, group, content_sha256.
        split: index of each one's split.
        is_elder: which are to stay.
        is_fixed: which may not change their split.
        held: what the parent holds, with its splits in ``code``; None: the elders among the samples, and no more.
        splits: their names.
    """
    if not _may_be_torn(samples, split, held):
        return []
    numbers, count = numbered(samples["content_sha256"])
    torn = np.flatnonzero(_torn(numbers, count, split, samples, held))
    if not torn.size:
        return []
    if held is None:
        held = samples.append_column("code", pa.array(split)).filter(pa.array(is_elder))
    settled = {number: _Settled() for number in torn.tolist()}
    contents = pa.chunked_array([samples["content_sha256"].drop_null().unique().take(pa.array(torn))])
    of_held = held.filter(pc.is_in(held["content_sha256"], value_set=contents.combine_chunks()))
    places = pc.index_in(of_held["content_sha256"], value_set=contents.combine_chunks()).to_pylist()
    for place, code, key in zip(places, of_held["code"].to_pylist(), of_held["key"].to_pylist(), strict=True):
        settled[int(torn[place])].by_split.setdefault(code, key)
    groups, _ = numbered(samples["group"])
    copied = np.isin(numbers, torn)
    members = np.flatnonzero(np.isin(groups, np.unique(groups[copied])))
    members = members[np.argsort(groups[members], kind="stable")]
    by_group = np.split(members, np.flatnonzero(np.diff(groups[members])) + 1)
    by_group.sort(key=lambda rows: int(rows[0]))
    keys = samples["key"].take(pa.array(members)).to_pylist()
    key_of = dict(zip(members.tolist(), keys, strict=True))
    decided: list[Decision] = []
    for rows in by_group:
        newcomers = rows[~is_elder[rows]]
        target = None if is_fixed[rows].any() else _wanted(newcomers, numbers, settled)
        decided += _of_group(newcomers, target, numbers, split, settled, key_of, splits)
    return decided


def count_torn(samples: pa.Table, split: Codes) -> int:
    """How many contents lie in several splits: only elders do, as an earlier release left them."""
    if not _may_be_torn(samples, split, None):
        return 0
    numbers, count = numbered(samples["content_sha256"])
    return int(_torn(numbers, count, split, samples, None).sum())


def mend(samples: pa.Table, split: Codes, shares: Sequence[float]) -> list[Decision]:
    """Drops after which no content lies in several splits: of each the copies in the smallest of its splits stay.

    Those are the ones that are measured on; a copy in the training split would have been learnt.

    Args:
        samples: key, content_sha256.
        split: index of each one's split.
        shares: percent of each split.
    """
    numbers, count = numbered(samples["content_sha256"])
    torn = np.flatnonzero(np.isin(numbers, np.flatnonzero(_torn(numbers, count, split, samples, None))))
    keys = samples["key"].take(pa.array(torn)).to_pylist()
    stays: dict[int, tuple[float, int, str]] = {}  # by content: share and index of the split, and a key in it
    for row, key in zip(torn.tolist(), keys, strict=True):
        place = (shares[split[row]], int(split[row]), key)
        stays[int(numbers[row])] = min(stays.get(int(numbers[row]), place), place)
    return [
        Decision(key, "drop", "split_conflict", witness=stays[int(numbers[row])][2], similarity=1.0)
        for row, key in zip(torn.tolist(), keys, strict=True)
        if split[row] != stays[int(numbers[row])][1]
    ]


def _may_be_torn(samples: pa.Table, split: Codes, held: pa.Table | None) -> bool:
    """Whether some content may lie in several splits: that none does is told from the ends of the hashes."""
    marks, splits = [_marks(samples["content_sha256"])], [split]
    if held is not None:
        marks.append(_marks(held["content_sha256"]))
        splits.append(held["code"].to_numpy())
    if any(one is None for one in marks):
        return True
    mark, code = np.concatenate([one for one in marks if one is not None]), np.concatenate(splits)
    order = np.argsort(mark)
    mark, code = mark[order], code[order]
    return bool(((mark[1:] == mark[:-1]) & (code[1:] != code[:-1])).any())


def _marks(contents: pa.ChunkedArray) -> npt.NDArray[np.uint64] | None:
    """64 bits of each hash, by which different ones may be alike; None unless all are there and of the usual length."""
    if not len(contents):
        return np.zeros(0, np.uint64)
    if contents.type != pa.string() or contents.null_count:  # of other software
        return None
    lengths = pc.min_max(pc.binary_length(contents)).as_py()
    if (lengths["min"], lengths["max"]) != (_HEX, _HEX):
        return None
    found = []
    for chunk in contents.chunks:
        _, offsets, digits = chunk.buffers()
        start = int(np.frombuffer(offsets, np.int32)[chunk.offset])
        rows = np.frombuffer(digits, np.uint8, len(chunk) * _HEX, start).reshape(-1, _HEX)
        words = np.ascontiguousarray(rows[:, -16:]).view(np.uint64)
        found.append(marks_of(words[:, 0], words[:, 1]))
    return np.concatenate(found)


def _torn(numbers: Codes, count: int, split: Codes, samples: pa.Table, held: pa.Table | None) -> Flags:
    """Which contents lie in more than one split, those counted that the parent holds."""
    least, most = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    known = numbers >= 0
    _spread(least, most, numbers[known], split[known])
    if held is not None:
        contents = samples["content_sha256"].drop_null().unique()
        of_held = pc.fill_null(pc.index_in(held["content_sha256"], value_set=contents), -1).to_numpy()
        there = (of_held >= 0) & pc.is_valid(held["content_sha256"]).to_numpy()
        _spread(least, most, of_held[there], held["code"].to_numpy()[there])
    return least < most


def _spread(least: Codes, most: Codes, contents: Codes, splits: Codes) -> None:
    np.minimum.at(least, contents, splits)
    np.maximum.at(most, contents, splits)


def _wanted(rows: Codes, numbers: Codes, settled: Mapping[int, _Settled]) -> int | None:
    """The split in which the content of each of the rows lies already; None if there is no such one."""
    wanted: set[int | None] = set()
    for row in rows.tolist():
        content = settled.get(int(numbers[row]))
        wanted |= (set(content.by_split) if content else set()) or {None}
    return wanted.pop() if len(wanted) == 1 else None


def _of_group(
    newcomers: Codes,
    target: int | None,
    numbers: Codes,
    split: Codes,
    settled: Mapping[int, _Settled],
    key_of: Mapping[int, str],
    splits: Sequence[str],
) -> Iterator[Decision]:
    """The decisions about the newcomers of one group; the splits of their contents are settled then."""
    for row in newcomers.tolist():
        content = settled.get(int(numbers[row]))
        if content is None:
            continue
        code = int(split[row]) if target is None else target
        conflicting = content.conflicting(code)
        if conflicting is not None:
            yield Decision(key_of[row], "drop", "split_conflict", witness=conflicting, similarity=1.0)
            continue
        if code != split[row]:
            yield Decision(key_of[row], "split", splits[code], witness=content.by_split[code], similarity=1.0)
        content.by_split.setdefault(code, key_of[row])
