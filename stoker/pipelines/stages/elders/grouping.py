"""Which raw parts are packed together: groups of the version before stay, and new parts get groups of their own.

So a corpus that grows writes what is new, and no old shard. Small groups at the end are merged with new parts, as long
as that writes at most as much again as what is new.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from stoker.pipelines.partition import cut
from stoker.pipelines.recipe import Recipe
from stoker.storage.versions.manifest import Part

_SMALL = 4  # a group of fewer parts than the target divided by this is small; ``cut`` makes none of them


def groups_of(recipe: Recipe, parts: Sequence[Part]) -> Iterator[list[Part]]:
    """The groups of parts, in their order. ``parts``: those alone that are in groups."""
    start = 0
    for stop in [place for place, part in enumerate(parts, 1) if part.ends_group]:
        yield list(parts[start:stop])
        start = stop
    new = parts[start:]
    target = _target_of(recipe, new) if start else recipe.shards.partitions
    yield from cut(new, lambda part: part.digest, target=target)


def _target_of(recipe: Recipe, run: Sequence[Part]) -> int:
    """About how many parts of a later run are a group: those of a table that was read again may hold a row or two each.

    In steps of two times as many, so that a part which is left out changes no other group. Of what the parts hold, not
    of what of it counts, for that changes.
    """
    shards = recipe.shards
    filled = max(
        sum(part.tar_size for part in run) / (shards.megabytes * 10**6), sum(part.kept for part in run) / shards.samples
    )
    target = shards.partitions
    while filled and target * 2 * filled <= len(run):
        target *= 2
    return target


def with_groups_of(recipe: Recipe, parts: Sequence[Part], before: Sequence[Part]) -> list[Part]:
    """The parts of a corpus, with the ends of the groups that a version before has.

    ``before``: the parts of that version. Those that are new come behind them.
    """
    chosen = [part for part in parts if part.grouped]
    places = {part.digest: place for place, part in enumerate(chosen)}
    groups: list[list[Part]] = []
    ends: list[int] = []  # of each group the place of its last part; all are closed where parts come behind them
    closed: list[bool] = []
    for group in groups_of(recipe, [part for part in before if part.grouped]):
        if left := [places[part.digest] for part in group if part.digest in places]:
            groups.append([chosen[place] for place in left])
            ends.append(max(left))
            closed.append(group[-1].ends_group)
    new = chosen[max(ends, default=-1) + 1 :]
    if ends and new:
        ends = ends[: len(ends) - _merged(recipe, groups, new)]
    else:
        ends = [end for end, is_closed in zip(ends, closed, strict=True) if is_closed]
    marked = iter([replace(part, ends_group=place in ends) for place, part in enumerate(chosen)])
    return [next(marked) if part.grouped else replace(part, ends_group=False) for part in parts]


def _merged(recipe: Recipe, groups: Sequence[Sequence[Part]], new: Sequence[Part]) -> int:
    """How many of the last groups are packed together with new parts."""
    room, merged = sum(map(_size, new)), 0
    for group in reversed(groups):
        size = sum(map(_size, group))
        if size > room or len(group) * _SMALL >= recipe.shards.partitions:
            break
        room, merged = room - size, merged + 1
    return merged


def _size(part: Part) -> int:
    """Bytes of its samples that count, about."""
    return part.tar_size * part.counted.kept // max(part.kept, 1)
