"""What a corpus remembers, in numbers."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from stoker.pipelines.memory.known import Again
from stoker.pipelines.stages.remembering.counting import Remembered, count_remembered
from stoker.storage.stores.memory import MemoryStore
from tests.pipelines.stages.remembering.world import World
from tests.site import Reply, Site


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Site() as site:
        yield World(tmp_path, site)


def test_outcomes_are_counted_by_class_with_those_that_are_due(world: World) -> None:
    assert count_remembered(MemoryStore(), "birds", world.now) is None
    world.serve(*range(6))
    world.site.pages["/6.jpg"] = Reply(b"no picture at all")
    world.names(*range(9))
    world.run()
    counted = Remembered({"kept": 6, "moment": 2, "bytes": 1}, due=2, older_recipe=0)
    assert count_remembered(world.store, "birds", world.now) == counted
    for _ in range(3):
        world.run(again=Again(reasons=("gone",)))
    assert count_remembered(world.store, "birds", world.now) == Remembered(counted.classes, due=0, older_recipe=0)
    assert count_remembered(world.store, "birds", world.now + timedelta(days=9)) == counted
    world.options |= {"max_megabytes": 3}
    world.run()
    assert count_remembered(world.store, "birds", world.now) == Remembered(counted.classes, due=0, older_recipe=6)
