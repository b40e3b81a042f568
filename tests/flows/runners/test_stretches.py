"""Long partitions are read in stretches before others, and as a whole where one of these is not fit for it."""

from collections.abc import Sequence

import pytest

from stoker.flows.runners.stretches import Call, ReadingCalls
from stoker.pipelines.errors import RecipeError, SourceUnavailable
from stoker.pipelines.partition import Partition

FILMS = [Partition("long"), Partition("short"), Partition("outside"), Partition("longer")]


def stretches(film: Partition) -> list[Partition]:
    return [Partition(film.name, {"stretch": number}) for number in range(3)]


def cut(film: Partition) -> Sequence[Partition]:
    if film.name == "outside":
        raise RecipeError("it leads out of the folder")
    return stretches(film) if film.name.startswith("long") else []


@pytest.mark.parametrize("result", [False, SourceUnavailable("the store is away"), None])
def test_what_a_stretch_cannot_tell_is_read_as_a_whole(result: object) -> None:
    calls, read = ReadingCalls(cut), []
    for call in calls.of(FILMS):
        assert call is not None
        name, values = call
        read.append((name, len(values.get("stretches", [7])), values.get("number")))
        unfit = name == "longer stretch 2"
        assert calls.note(name, result if unfit else "number" in values or {}) == ("stretch" in name)
    assert read == [
        *((f"long stretch {number}", 3, number) for number in (1, 2, 3)),
        ("long", 3, None),
        ("short", 1, None),
        ("outside", 1, None),
        ("longer stretch 1", 3, 1),
        ("longer stretch 2", 3, 2),  # the third is not read any more
        ("longer", 3, None),  # joining finds that not all are there
    ]
    assert calls.stretches_of("longer") == ["longer stretch 1", "longer stretch 2"]
    assert calls.stretches_of("short") == ()


def test_what_turns_out_to_be_long_is_read_in_stretches_before_others_and_joined_when_they_are() -> None:
    calls = ReadingCalls(lambda film: [])
    given, found = calls.of([Partition("a"), Partition("b"), Partition("c")]), stretches(Partition("a"))

    def take(count: int) -> list[str]:
        taken: list[Call | None] = [next(given) for _ in range(count)]
        return [call[0] if call else "-" for call in taken]

    assert take(2) == ["a", "b"]
    assert calls.note("a", [stretch.as_json() for stretch in found])
    assert take(4) == ["a stretch 1", "a stretch 2", "a stretch 3", "c"]
    assert take(2) == ["-", "-"]
    assert [calls.note(name, result) for name, result in (("a stretch 3", True), ("b", {}), ("c", {}))] == [
        True,
        False,
        False,
    ]
    assert take(1) == ["-"]
    assert calls.note("a stretch 1", True)
    assert calls.note("a stretch 2", True)
    joining = next(given)
    assert joining == ("a", {"partition": Partition("a").as_json(), "stretches": [one.as_json() for one in found]})
    assert take(1) == ["-"]
    assert not calls.note("a", {})
    assert list(given) == []
