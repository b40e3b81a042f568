"""Long partitions are read in stretches beside short ones, and as a whole where one of these is not fit for it."""

from collections.abc import Sequence

import pytest

from stoker.flows.runners.stretches import ReadingCalls
from stoker.pipelines.errors import RecipeError, SourceUnavailable
from stoker.pipelines.partition import Partition

FILMS = [Partition("long"), Partition("short"), Partition("outside"), Partition("longer")]


def cut(film: Partition) -> Sequence[Partition]:
    if film.name == "outside":
        raise RecipeError("it leads out of the folder")
    return [Partition(film.name, {"stretch": number}) for number in range(3)] if film.name.startswith("long") else []


@pytest.mark.parametrize("result", [False, SourceUnavailable("the store is away"), None])
def test_what_a_stretch_cannot_tell_is_read_as_a_whole(result: object) -> None:
    calls, read = ReadingCalls(cut), []
    for name, values in calls.of(FILMS):
        read.append((name, values.get("number", 0)))
        unfit = name == "longer stretch 2"
        assert calls.note(name, result if unfit else True) == ("stretch" in name)
    assert read == [
        *((f"long stretch {number}", number) for number in (1, 2, 3)),
        ("short", 0),
        ("outside", 0),
        ("longer stretch 1", 1),
        ("longer stretch 2", 2),  # the third is not read any more
    ]
    assert [(name, len(values["stretches"])) for name, values in calls.joining()] == [("long", 3), ("longer", 0)]
