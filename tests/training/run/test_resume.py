"""A run that ``resume`` finds nothing for says which run is nearest, and what is other about it."""

from dataclasses import replace
from typing import Any

from stoker.training.run.train import Event
from tests.training.conftest import Small
from tests.training.run.small_runs import CNN, after, run


def test_a_new_run_names_the_nearest_one_and_the_options_that_differ(digits: Small) -> None:
    assert notes(digits, CNN) == ("no run of cnn on small has a checkpoint",)
    assert notes(digits, {**CNN, "width": 6, "epochs": 1, "seed": 3}) == (
        "the nearest run, cnn-0001, has width = 4 (now 6), epochs = 2 (now 1), seed = 0 (now 3)",
    )
    assert notes(digits, {**CNN, "width": 6, "epochs": 1, "seed": 3, "split": "train", "hold_out": "10%"}) == (
        "the nearest run, cnn-0002, has hold_out = none (now 0.1)",
    )
    assert notes(digits, {**CNN, "width": 6, "epochs": 1, "seed": 3}) == ()


def test_a_nearest_run_of_another_version_is_told_with_it(digits: Small) -> None:
    run(digits, "cnn", CNN, stop=after(1))
    shards = digits.manifest.shards
    other = replace(
        digits, manifest=replace(digits.manifest, version=2, shards=(*shards[1:], shards[0]), content="0" * 64)
    )
    assert notes(other, CNN) == ("the nearest run, cnn-0001, has version = small@1 (now small@2)",)


def notes(small: Small, values: dict[str, Any]) -> tuple[str, ...]:
    """What is said of a run that begins anew although it was to be resumed; nothing if it goes on."""
    events: list[Event] = []
    run(small, "cnn", values, resume=True, stop=after(1), progress=events.append)
    return events[0].notes if events and events[0].kind == "new" else ()
