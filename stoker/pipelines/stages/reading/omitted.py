"""What sources read and left out of their candidates, counted by name: a fixed number of names, whatever there is."""

from collections import Counter
from collections.abc import Iterable, Mapping

OTHERS = "others"  # all that has no count of its own
MAX_NAMES = 32  # in a part
PASSED = "passed by step "  # of samples of kinds that a step does not know; with its name
_MAX_COUNTED = 10_000  # names that are counted while a partition is read
_MAX_LENGTH = 60  # characters of a name


class OmittedCounts:
    """Counts by name for one partition. The first 10,000 names are counted; the same candidates give the same counts.

    >>> counts = OmittedCounts()
    >>> counts.add({"template coord": 2, "template portal": 1})
    >>> counts.add({"template portal": 4})
    >>> counts.most(1)
    {'template portal': 5, 'others': 2}
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, omitted: Mapping[str, int]) -> None:
        """Count what was left out of one candidate."""
        for name, count in omitted.items():
            has_room = len(name) <= _MAX_LENGTH and (name in self._counts or len(self._counts) < _MAX_COUNTED)
            self._counts[name if has_room else OTHERS] += count

    @property
    def counts(self) -> dict[str, int]:
        """All counts so far, in the order in which they began; ``add`` of them gives the same again."""
        return dict(self._counts)

    def most(self, limit: int = MAX_NAMES) -> dict[str, int]:
        """The names with the highest counts, then all others in one."""
        return most_omitted([self._counts], limit)


def most_omitted(counts: Iterable[Mapping[str, int]], limit: int) -> dict[str, int]:
    """The sums of several counts: the highest by name, equal ones in order of the name, then all others in one."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    others = total.pop(OTHERS, 0)
    ordered = sorted((name for name in total if total[name]), key=lambda name: (-total[name], name))
    others += sum(total[name] for name in ordered[limit:])
    return {name: total[name] for name in ordered[:limit]} | ({OTHERS: others} if others else {})


def samples_passed(omitted: Mapping[str, int]) -> dict[str, int]:
    """How many samples each step passed unchanged because they are of another kind, by its name."""
    return {name.removeprefix(PASSED): count for name, count in omitted.items() if name.startswith(PASSED)}
