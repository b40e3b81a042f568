"""The calls by which partitions are read: the stretches of long ones beside short ones, then long ones, joined."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from stoker.pipelines.partition import Partition
from stoker.storage.errors import StokerError

Call = tuple[str, dict[str, Any]]  # a unique name, and parameters but for those of the run: JSON values


class ReadingCalls:
    """Calls for partitions; ``cut`` gives the stretches of a long one, which are read by calls of their own.

    >>> films = [Partition("long", {"film": 1}), Partition("short", {"film": 2})]
    >>> calls = ReadingCalls(lambda film: [film, film] if film.name == "long" else [])
    >>> [name for name, _ in calls.of(films)]
    ['long stretch 1', 'long stretch 2', 'short']
    >>> calls.note("long stretch 1", True), calls.note("long stretch 2", True), calls.note("short", {})
    (True, True, False)
    >>> [(name, len(values["stretches"])) for name, values in calls.joining()]
    [('long', 2)]
    """

    def __init__(self, cut: Callable[[Partition], Sequence[Partition]]) -> None:
        self._cut = cut
        self._long: list[Partition] = []
        self._stretches: dict[str, list[dict[str, Any]]] = {}  # Any: JSON values; of those that are sound so far
        self._names: dict[str, str] = {}  # of a stretch's call → of its partition

    def of(self, partitions: Iterable[Partition]) -> Iterator[Call]:
        """The calls of stretches, and of partitions that are not cut. Lazy."""
        for partition in partitions:
            stretches: Sequence[Partition] = ()
            with suppress(StokerError):  # reading it tells that
                stretches = self._cut(partition)
            if not stretches:
                yield partition.name, {"partition": partition.as_json()}
                continue
            self._long.append(partition)
            self._stretches[partition.name] = [stretch.as_json() for stretch in stretches]
            for number in range(1, len(stretches) + 1):
                if partition.name in self._stretches:
                    name = stretch_name(partition.name, number)
                    self._names[name] = partition.name
                    yield name, self._values(partition) | {"number": number}

    def note(self, name: str, result: object) -> bool:
        """Whether the call was one of a stretch; where its result is not True, its partition is read as a whole."""
        if name in self._names and result is not True:
            self._stretches.pop(self._names[name], None)
        return name in self._names

    def joining(self) -> Iterator[Call]:
        """The calls of the partitions that were cut, once all calls of ``of`` are done."""
        for partition in self._long:
            yield partition.name, self._values(partition)

    def _values(self, partition: Partition) -> dict[str, Any]:  # Any: JSON values
        return {"partition": partition.as_json(), "stretches": self._stretches.get(partition.name, [])}


def stretch_name(partition: str, number: int) -> str:
    """What a stretch is called, for people too."""
    return f"{partition} stretch {number}"
