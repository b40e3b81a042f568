"""The calls by which partitions are read: long ones by one for each stretch, and one that joins these."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stoker.pipelines.partition import Partition
from stoker.storage.errors import StokerError

Call = tuple[str, dict[str, Any]]  # a unique name, and parameters but for those of the run: JSON values


@dataclass
class _Long:
    """A partition that is read in stretches."""

    partition: dict[str, Any]  # Any: JSON values
    stretches: list[dict[str, Any]]  # Any: JSON values
    names: list[str] = field(default_factory=list)  # of the calls that were given
    running: int = 0  # of these
    is_whole: bool = False  # it is read as a whole after all: no more stretches are read

    def next(self) -> Call | None:
        """Its next call; None while there is none. The last one has no number."""
        values = {"partition": self.partition, "stretches": self.stretches}
        if len(self.names) < len(self.stretches) and not self.is_whole:
            self.names.append(stretch_name(self.partition["name"], len(self.names) + 1))
            self.running += 1
            return self.names[-1], values | {"number": len(self.names)}
        return None if self.running else (self.partition["name"], values)


class ReadingCalls:
    """Calls for partitions; ``cut`` gives the stretches of a long one, or the result of its own call does.

    The stretches of a long one come before other partitions, and it is joined as soon as these are read: so what is
    kept meanwhile, a download for example, is kept of few.

    >>> films = [Partition("long", {"film": 1}), Partition("short", {"film": 2})]
    >>> calls = ReadingCalls(lambda film: [film, film] if film.name == "long" else [])
    >>> for name, values in calls.of(films):
    ...     print(name, len(values.get("stretches", ())), calls.note(name, True if "number" in values else {}))
    long stretch 1 2 True
    long stretch 2 2 True
    long 2 False
    short 0 False
    """

    def __init__(self, cut: Callable[[Partition], Sequence[Partition]]) -> None:
        self._cut = cut
        self._asked: dict[str, dict[str, Any]] = {}  # Any: JSON values; partitions whose calls run, by name
        self._open = deque[_Long]()  # those of which calls are left to be given
        self._long: dict[str, _Long] = {}  # by the names of partitions and of stretches
        self._running = 0

    def of(self, partitions: Iterable[Partition]) -> Iterator[Call | None]:
        """All calls. Lazy; None where what follows depends on the results of those that run."""
        left = iter(partitions)
        while (call := self._next(left)) is not None or self._running:
            self._running += call is not None
            yield call

    def note(self, name: str, result: object) -> bool:
        """Whether the result of a call is not the one of its partition, of which more calls follow.

        A list is one of stretches. Where the result of a stretch is not True, its partition is read as a whole.
        """
        self._running -= 1
        partition, long = self._asked.pop(name, None), self._long.get(name)
        if partition is not None and isinstance(result, list):
            self._add(partition, result)
            return True
        if long is None or name not in long.names:
            return False
        long.running -= 1
        if result is not True:
            long.is_whole = True  # joining finds that not all are there
        return True

    def stretches_of(self, name: str) -> Sequence[str]:
        """The calls of stretches that there were of a partition."""
        return self._long[name].names if name in self._long else ()

    def _next(self, left: Iterator[Partition]) -> Call | None:
        for _ in range(len(self._open)):
            long = self._open[0]
            call = long.next()
            if call is not None:
                self._long[call[0]] = long
                if "number" not in call[1]:
                    self._open.popleft()
                return call
            self._open.rotate(-1)  # its stretches are being read
        for partition in left:
            stretches: Sequence[Partition] = ()
            with suppress(StokerError):  # reading it tells that
                stretches = self._cut(partition)
            if stretches:
                self._add(partition.as_json(), [stretch.as_json() for stretch in stretches])
                return self._next(left)
            self._asked[partition.name] = partition.as_json()
            return partition.name, {"partition": partition.as_json()}
        return None

    def _add(self, partition: dict[str, Any], stretches: list[dict[str, Any]]) -> None:  # Any: JSON values
        self._open.append(_Long(partition, stretches))


def stretch_name(partition: str, number: int) -> str:
    """What a stretch is called, for people too."""
    return f"{partition} stretch {number}"
