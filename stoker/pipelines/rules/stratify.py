"""Give each split its share of every class, or of every value of another column."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import Field

from stoker.pipelines.rule import Decision, Rule, RuleTools, decisions
from stoker.storage.versions.memory.outcomes import hashes_of


@dataclass(frozen=True)
class Stratify(Rule):
    """Move new groups between splits, so that the recipe's percentages hold within each value of a column.

    Without it a split is a hash of the group, which gives a class of 20 samples no test sample in one case of nine. A
    group is never divided; it counts for the value of its oldest sample that has one. What the version before holds
    stays in its split, and so does all that an earlier version gave a split: the percentages hold for what is new.
    Where a value has too few groups to share out, the next ones make up for it, so that they hold for the whole, too.
    Name this rule before ``leak_free_split``, which moves what is similar together.

    Args:
        by: the column, such as "label".

    Example::

        [[rules]]
        name = "stratify"
        by = "format"
    """

    columns: ClassVar[tuple[str, ...]] = ()

    by: Annotated[str, Field(min_length=1)]

    def needed_columns(self) -> tuple[str, ...]:
        """See Rule."""
        return (self.by,)

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        keys, groups, splits = (rows[name].to_pylist() for name in ("key", "group", "split"))
        fixed = _fixed(rows, tools)
        target = _assigned(groups, [_name(value) for value in rows[self.by].to_pylist()], fixed, tools.splits)
        return decisions(
            Decision(key, "split", target[group])
            for key, group, split in zip(keys, groups, splits, strict=True)
            if target.get(group, split) != split
        )


def _name(value: object) -> str | None:
    """A value of the column as text; None for none."""
    return None if value is None or value == "" else str(value)


def _fixed(rows: pa.Table, tools: RuleTools) -> dict[str, str]:
    """The splits of groups that stay: those with elders, with a sample of an earlier version, or moved by a rule."""
    bound = set(tools.bound_keys)
    fixed: dict[str, str] = {}
    columns = (rows[name].to_pylist() for name in ("key", "group", "split", "is_elder"))
    for key, group, split, is_elder in zip(*columns, strict=True):
        if group not in fixed and (is_elder or key in bound or split != tools.split_of(group)):
            fixed[group] = split
    return fixed


def _assigned(
    groups: list[str], values: list[str | None], fixed: Mapping[str, str], shares: Mapping[str, float]
) -> dict[str, str]:
    """The split of each group that is not fixed."""
    sizes: dict[str, int] = defaultdict(int)
    value_of: dict[str, str] = {}
    for group, value in zip(groups, values, strict=True):
        sizes[group] += 1
        if value is not None:
            value_of.setdefault(group, value)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sizes:
        strata[value_of.get(group, "")].append(group)
    assigned: dict[str, str] = {}
    missing = {split: 0.0 for split, share in shares.items() if share}  # samples that splits should still get
    for value in _by_hash(strata):
        placed = Counter[str]()
        for group in strata[value]:
            if group in fixed:
                placed[fixed[group]] += sizes[group]
        free = [group for group in _by_hash(strata[value]) if group not in fixed]
        total = sum(sizes[group] for group in free)
        for split in missing:
            missing[split] += total * shares[split] / 100
        # So few new ones a run that each goes to the largest split must not mean that the others never get any. More
        # than one sample is not made up for: a split of new samples alone would be another kind of data.
        lacks = {split: placed.total() * shares[split] / 100 - placed[split] for split in missing}
        made_up = {split: max(-1.0, min(1.0, lack)) for split, lack in lacks.items()}
        for group in sorted(free, key=lambda group: -sizes[group]):  # small ones last, which even out
            split = max(missing, key=lambda split: missing[split] + made_up[split])  # the recipe's first, of several
            missing[split] -= sizes[group]
            assigned[group] = split
    return assigned


def _by_hash(names: Mapping[str, object] | list[str]) -> Iterator[str]:
    """The names in an order that does not depend on that of the source."""
    ordered = list(names)
    hashes = hashes_of("", ordered).tolist()
    yield from (name for _, name in sorted(zip(hashes, ordered, strict=True)))
