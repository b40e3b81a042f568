"""The classes of outcomes: what must change before a candidate may have another one."""

from enum import StrEnum

KEPT = "kept"  # the class of an outcome that is no reject
KNOWN = "known"  # the reason in a raw part of what was known, and was found as it was: it is no reject
# The reason of the newest attempt of a kept candidate that its source does not have any more, since the time of that
# attempt; and of those that a version leaves out for it.
VANISHED = "vanished"
MOVED = "moved"  # the reason of the last outcome of a file whose sample goes by another name now
GONE = "gone"  # the reason where a server says that there is nothing (404, 410)


class OutcomeClass(StrEnum):
    """What it depends on that a candidate was rejected: what must change before another outcome is possible."""

    MOMENT = "moment"  # of the web or a machine: a server that is down, a file that is gone
    SLOW_MOMENT = "slow_moment"  # what a server refuses: it changes, but seldom
    SETTING = "setting"  # limits and permissions of this run, decoders that are installed
    RECIPE = "recipe"  # options of the source, a step or a rule
    BYTES = "bytes"  # the input itself is not what it should be
    OWNER = "owner"  # the owner asked for it

    @property
    def depends_on(self) -> str:
        """The class in plain words, behind "it depends on"."""
        return _DEPENDS_ON[self]


_DEPENDS_ON = {
    OutcomeClass.MOMENT: "the moment",
    OutcomeClass.SLOW_MOMENT: "the moment, and changes seldom",
    OutcomeClass.SETTING: "a setting",
    OutcomeClass.RECIPE: "the recipe",
    OutcomeClass.BYTES: "its bytes",
    OutcomeClass.OWNER: "the owner's word",
}

CLASSES = (KEPT, *(one.value for one in OutcomeClass))  # of the column ``class`` of outcomes
