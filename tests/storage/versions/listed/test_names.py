import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, load_manifest, publish
from stoker.storage.versions.sealed import seal
from tests.storage.external_tars import indexed, numbered, put, tar
from tests.storage.published import CORPUS, make_version, old_json

Change = Callable[[Manifest], Manifest]
AWAY = "../../pics/versions"  # a digest or split that leads out of the corpus's folder
ELSEWHERE = [
    "pics/versions/00000001.deleted",
    f"{CORPUS}/versions/00000001.json",
    "validation",
    "",
    f"pics/raw/{'a' * 32}/part-{'1' * 16}.tar",
    f"{CORPUS}/shards/{'d' * 32}/train-{'9' * 5000}.parquet",
]


def _shard(**changes: Any) -> Change:  # Any: fields
    return lambda made: replace(made, shards=(replace(made.shards[0], **changes), *made.shards[1:]))


def _part(**changes: Any) -> Change:  # Any: fields
    return lambda made: replace(made, parts=(replace(made.parts[0], **changes), *made.parts[1:]))


def _decisions(**changes: Any) -> Change:  # Any: fields
    return lambda made: replace(made, decisions=replace(made.decisions, **changes))


CHANGES: dict[str, Change] = {
    **{f"shard {name[:40]}": _shard(key=name) for name in ELSEWHERE},
    **{f"index {name[:40]}": _shard(index=name) for name in ELSEWHERE},
    **{f"tar {name[:40]}": _part(tar=name) for name in ELSEWHERE},
    **{f"records {name[:40]}": _part(records=name) for name in ELSEWHERE},
    **{f"decisions {name[:40]}": _decisions(key=name) for name in ELSEWHERE},
    "a group": _shard(
        group=AWAY, key=layout.shard(CORPUS, AWAY, "train", 0), index=layout.index(CORPUS, AWAY, "train", 0)
    ),
    "a split": _shard(
        split=AWAY, key=layout.shard(CORPUS, "d" * 32, AWAY, 0), index=layout.index(CORPUS, "d" * 32, AWAY, 0)
    ),
    "a digest": lambda made: _part(
        digest=AWAY,
        tar=layout.raw_tar(CORPUS, AWAY, made.parts[0].tar_sha256),
        records=layout.raw_records(CORPUS, AWAY, made.parts[0].records_sha256),
    )(made),
    "a checksum": _decisions(sha256=AWAY, key=layout.decisions(CORPUS, AWAY)),
}


def is_refused(store: Store, corpus: str, version: int) -> None:
    with pytest.raises(CorruptShard, match=r"names '.*' as .*, which no|names '.*' as .*; expected") as raised:
        load_manifest(store, corpus, version).read_lists()
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_name_that_the_object_cannot_have_is_damage_of_what_says_it(change: Change, old: bool) -> None:
    store = MemoryStore()
    changed = replace(change(make_version(store)), version=2, parent=1)
    if old:
        store.write(layout.version(CORPUS, 2), json.dumps(old_json(changed)).encode())
    else:
        publish(store, changed)
    is_refused(store, CORPUS, 2)


@pytest.mark.parametrize("change", [_part(tar=ELSEWHERE[0]), _shard(index=ELSEWHERE[0])])
def test_verify_names_the_list_with_a_wrong_name(change: Change) -> None:
    store = MemoryStore()
    publish(store, replace(change(make_version(store)), version=2, parent=1))
    found = load_manifest(store, CORPUS, 2)
    assert verify(store, found).damaged < {file.key for file in found.lists}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", [*ELSEWHERE, layout.index("theirs", "../../pics", "train", 0)])
def test_an_index_of_external_tars_has_its_own_name_too(tmp_path: Path, name: str, old: bool) -> None:
    put(tmp_path / "tars" / "a.tar", tar(numbered(0, 3)))
    store = MemoryStore()
    made = indexed(tmp_path / "tars", store).manifest
    changed = replace(_shard(index=name)(made), version=2, parent=1)
    if old:
        store.write(layout.version("theirs", 2), json.dumps(old_json(changed)).encode())
    else:
        publish(store, changed)
    is_refused(store, "theirs", 2)


def test_a_list_under_another_name_is_refused() -> None:
    store = MemoryStore()
    make_version(store)
    key = layout.version(CORPUS, 1)
    content: dict[str, Any] = json.loads(store.read(key))
    del content["checksum"]
    content["lists"]["parts"]["key"] = "pics/notes.txt"
    store.write(key, seal(content))
    is_refused(store, CORPUS, 1)
