"""A rule's decisions about a table of records, without a corpus: for its tests."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pyarrow as pa

from stoker.pipelines.registry import name_of
from stoker.pipelines.rule import Decision, Rule
from stoker.pipelines.stages.splits import split_of
from stoker.pipelines.tables.deciding import decisions
from stoker.pipelines.tables.deciding.tools import Tools
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store

SPLITS: Mapping[str, float] = {"train": 50, "validation": 50}


def decide(
    rule: Rule,
    records: pa.Table,
    *,
    splits: Mapping[str, float] = SPLITS,
    samples: Sequence[Sample] = (),
    elders_stay: bool = False,
    root: Path = Path(),
    store: Store | None = None,
) -> list[Decision]:
    """What a rule decides about records, checked as an ingest checks it. Raises RecipeError.

    Args:
        records: what the rule reads, oldest first, with unique keys. The columns that all records have are added where
            they are missing: ``group`` is the key then, and each content is another one.
        splits: percent by name.
        samples: those that the rule may read contents of. Without any, all that it asks for have none.
        store: that holds versions which it compares with.
        root: the folder of files that the rule reads.
        elders_stay: as in RuleTools. Which rows are elders the column ``is_elder`` says; without it none is.

    >>> from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
    >>> records = pa.table({"key": ["a", "b"], "content_sha256": ["0", "0"]})
    >>> [decision.witness for decision in decide(ExactDuplicates(), records)]
    ['a']
    """
    keys = [str(key) for key in records["key"].to_pylist()]
    groups = records["group"].to_pylist() if "group" in records.column_names else keys
    always = {
        "group": groups,
        "split": [split_of(str(group), splits) for group in groups],
        "part": ["0" * 32] * len(keys),
        "content_sha256": [f"content of {key}" for key in keys],
        "is_elder": [False] * len(keys),
        "age_rank": range(len(keys)),
    }
    for name, values in always.items():
        if name not in records.column_names:
            kind = {"is_elder": pa.bool_(), "age_rank": pa.int64()}.get(name, pa.string())
            records = records.append_column(name, pa.array(values, kind))
    by_key = {sample.key: sample for sample in samples} or {key: Sample(key, {}) for key in keys}

    def read(asked: Sequence[str]) -> Iterator[Sample]:
        return (by_key[key] for key in asked)

    with tempfile.TemporaryDirectory(prefix="stoker-") as folder:
        tools = partial(
            Tools,
            name_of(rule),
            assign=lambda group: split_of(group, splits),
            read=read,
            folder=lambda: nullcontext(Path(folder)),
            elders_stay=elders_stay,
            root=root,
            splits=splits,
            store=store,
        )
        decided = decisions.decide(rule, records, tools, tuple(splits), records.column_names)
    return [Decision(**row) for row in decided.to_pylist()]
