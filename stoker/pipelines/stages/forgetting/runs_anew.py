"""What training runs and studies tell of samples that were taken out: keys, and texts that models wrote."""

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from stoker.storage.errors import NotFound
from stoker.storage.shards.blank import blank_key
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout


def runs_of(store: Store, corpus: str, references: Collection[str]) -> set[str]:
    """The training runs with a checkpoint or an evaluation of one of these versions."""
    runs = set()
    for run, _, content in _objects(store, corpus):
        if any(isinstance(one, dict) and one.get("version") in references for one in content):
            runs.add(run)
    return runs


def write_runs(store: Store, corpus: str, references: Collection[str], keys: Collection[str]) -> None:
    """Write JSON of training runs anew without these keys, and checkpoints of these versions without models' texts.

    A text may repeat what the model has read.
    """
    names = {key for key in keys if not key.isdigit()}  # the number of a row tells nothing, and others have it too
    for _, key, content in _objects(store, corpus):
        new = [_without_keys(one, names) for one in content]
        for one in new:
            if isinstance(one, dict) and one.get("version") in references and one.get("sample"):
                one["sample"] = ""
        if new != content:
            store.write(key, "\n".join(json.dumps(one, sort_keys=True) for one in new).encode() + b"\n")


def remove_studies(store: Store, corpus: str, versions: Collection[int]) -> None:
    """Remove the studies of versions: they are made again from the tars."""
    for version in versions:
        for kind in layout.STUDIES:
            store.delete(layout.study(corpus, version, kind))


def _objects(store: Store, corpus: str) -> Iterator[tuple[str, str, list[Any]]]:  # Any: JSON values
    """Run, key and content of each object of JSON, or of a JSON value in each line; not of what is neither."""
    folder = layout.runs(corpus)
    for stored in list(store.list(folder)):
        if stored.key.endswith((".json", ".jsonl")):
            with suppress(ValueError, NotFound, RecursionError):
                lines = store.read(stored.key).splitlines()
                run = stored.key.removeprefix(folder).partition("/")[0]
                yield run, stored.key, [json.loads(line) for line in lines if line.strip()]


def _without_keys(value: Any, keys: Collection[str]) -> Any:  # Any: JSON values
    if isinstance(value, str):
        return blank_key(value) if value in keys else value
    if isinstance(value, list):
        return [_without_keys(one, keys) for one in value]
    if isinstance(value, dict):
        return {_without_keys(name, keys): _without_keys(one, keys) for name, one in value.items()}
    return value
