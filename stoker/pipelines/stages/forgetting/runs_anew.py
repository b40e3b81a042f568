"""What training runs and studies tell of samples that were taken out: keys, and texts that models wrote."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from stoker.storage.errors import NotFound
from stoker.storage.shards.blank import blank_key, is_blank
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout


def runs_of(store: Store, corpus: str, references: Collection[str]) -> set[str]:
    """The training runs with a checkpoint or evaluation of one of these versions; ``corpus/run`` of other corpora."""
    runs = set()
    for run, _, content in _objects(store, corpus):
        if any(isinstance(one, dict) and any(name in references for name in _versions(one)) for one in content):
            runs.add(run)
    return runs


def _versions(content: Mapping[str, Any]) -> set[str]:  # Any: JSON values
    """What a checkpoint was trained on, or an evaluation read."""
    return {one for name in ("version", "reference") if isinstance(one := content.get(name), str)}


def write_runs(store: Store, corpus: str, references: Collection[str], keys: Collection[str]) -> None:
    """Write JSON of training runs anew without these keys, and checkpoints of these versions without models' texts.

    A text may repeat what the model has read. With the key of a sample goes its URL beside it.
    """
    for _, key, content in _objects(store, corpus):
        new = [_without_keys(one, keys) for one in content]
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
    """Run, key and content of each object of JSON, or of a JSON value in each line; not of what is neither.

    Of the corpus' runs all objects, and of those of other corpora the evaluations on its versions.
    """
    for other in list(store.folders()):
        folder = layout.runs(other)
        for stored in list(store.list(folder)):
            run, _, rest = stored.key.removeprefix(folder).partition("/")
            if not stored.key.endswith((".json", ".jsonl")):
                continue
            if other != corpus and not rest.startswith(f"evaluations/{corpus}@"):
                continue
            with suppress(ValueError, NotFound, RecursionError):
                lines = store.read(stored.key).splitlines()
                content = [json.loads(line) for line in lines if line.strip()]
                yield run if other == corpus else f"{other}/{run}", stored.key, content


def _without_keys(value: Any, keys: Collection[str]) -> Any:  # Any: JSON values
    if isinstance(value, str):
        # The number of a row tells nothing, and others have it too.
        return blank_key(value) if value in keys and not value.isdigit() else value
    if isinstance(value, list):
        return [_without_keys(one, keys) for one in value]
    if isinstance(value, dict):
        key = value.get("key")
        is_gone = isinstance(key, str) and (key in keys or is_blank(key))  # blank: by an earlier purge
        return {
            _without_keys(name, keys): _without_keys(one, keys)
            for name, one in value.items()
            if not (is_gone and name == "url")
        }
    return value
