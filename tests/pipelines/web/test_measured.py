"""What is remembered of a response beside its bytes: in raw parts and outcomes, and in no shard."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from stoker.storage.shards import records
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import newest_head
from stoker.storage.versions.memory.outcomes import SCHEMA
from tests.pipelines.stages.remembering.world import World
from tests.site import Reply, Site
from tests.system.old_store.inputs import picture

OLD = "Sun, 01 Feb 2026 00:00:00 GMT"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        yield World(tmp_path, site)


def test_validators_and_sizes_are_remembered_of_kept_and_of_broken_ones(world: World) -> None:
    world.serve(0)
    world.site.pages["/1.jpg"] = Reply(picture(1), headers={"ETag": 'W/"x"', "Last-Modified": OLD})
    world.site.pages["/2.jpg"] = Reply(b"no picture", headers={"ETag": '"y"'})
    world.site.pages["/3.jpg"] = Reply(picture(3), headers={"ETag": '"y\tz"', "Last-Modified": "tomorrow"})
    world.names(0, 1, 2, 3, 4)
    published, _ = world.run()
    head = newest_head(world.store, "birds")
    assert head is not None
    files = (outcomes.decode(world.store.read(stored.key), stored.key) for stored in head.outcomes)
    remembered = outcomes.from_table(outcomes.merge(pa.concat_tables([SCHEMA.empty_table(), *files])))
    assert {(one.reason, one.etag, one.last_modified, one.size) for one in remembered} == {
        (None, None, None, len(picture(0))),
        (None, 'W/"x"', OLD, len(picture(1))),
        ("not_an_image", '"y"', None, 10),
        (None, None, None, len(picture(3))),
        ("gone", None, None, None),
    }
    for shard in published.manifest.shards:
        columns = records.decode(world.store.read(shard.index)).column_names
        assert not [name for name in columns if name.startswith("response_")]
