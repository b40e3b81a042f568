"""What a round remembers of candidates that vanished, and whether a version is to have them.

A kept candidate that the source has no more gets one more outcome, at the time when that was seen first; one that is
there again the next. Both leave it kept: that decides about the sample is only whether the recipe keeps or drops what
vanished. What is dropped stays in its raw part, so that it costs nothing to bring it back.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from stoker.pipelines.memory.missing import Missing
from stoker.pipelines.recipe import Memory
from stoker.pipelines.stages.remembering.outcomes import Earlier
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.outcome_class import KNOWN, VANISHED
from stoker.storage.versions.memory.outcomes import Outcome

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Vanishing:
    """One round's part in it.

    Args:
        corpus: name of the corpus.
        memory: what the recipe says.
        missing: what the source has no more; None: it was not listed to its end.
        former: the word of the recipe by which the ledger head before counted; "": none did.
    """

    corpus: str
    memory: Memory
    missing: Missing | None
    former: str

    @property
    def word(self) -> str:
        """The word by which candidates are counted after the round, see ``Ledger.vanished``."""
        return self.former if self.missing is None else self.memory.vanished

    @property
    def marked(self) -> tuple[str, ...]:
        """The candidates that get an outcome."""
        return (*self.missing.new, *self.missing.returned) if self.missing else ()

    @property
    def counted_again(self) -> tuple[str, ...]:
        """The candidates of which it is decided whether a version has them."""
        if self.missing and self.former != self.memory.vanished:
            return (*self.marked, *self.missing.before)
        return self.marked if self.memory.vanished == "drop" else ()

    @property
    def drops(self) -> bool | None:
        """Whether candidates that vanished are left out; None: those that are stay so, and no others."""
        if self.missing is None and self.former != self.memory.vanished:
            return None
        return self.memory.vanished == "drop"

    def outcomes(self, earlier: Earlier, at: datetime, asked: Collection[str]) -> Iterator[Outcome]:
        """The outcomes of all ``marked``, but for those that the round asked for.

        Args:
            earlier: what was known of them.
            at: the time of the round.
            asked: identities of which the round has other outcomes.
        """
        missing = self.missing or Missing()
        for reason, identities in ((VANISHED, missing.new), (KNOWN, missing.returned)):
            for identity in identities:
                before = None if identity in asked else earlier.last_kept(identity)
                if before is not None:
                    yield replace(before, definite=False, reason=reason, at=earlier.after(identity, at), tries=1)

    def tell(self, moved: Collection[str], *, are_spared: bool = False) -> None:
        """Log what changed, but for candidates that ``moved``: those are there under other names.

        ``are_spared``: of those that vanished was told that they stay.
        """
        if self.missing is None:
            return
        new = [identity for identity in self.missing.new if identity not in moved]
        for identities, text in (
            (() if are_spared else new, "not there any more at the source, and " + self._stay(len(new))),
            (self.missing.returned, "there again at the source"),
        ):
            if identities:
                _log.warning("%s: %s %s", self.corpus, _count(len(identities)), text)

    def _stay(self, count: int) -> str:
        plural = count != 1
        if self.memory.vanished == "keep":
            return "stay" if plural else "stays"
        return "go" if plural else "goes"

    def are_too_many(self, before: Sequence[Part], after: Sequence[Part]) -> bool:
        """Whether more are left out now than the recipe allows in one run; it is logged."""
        held = sum(part.counted.kept for part in before)
        fallen = sum(len(part.vanished) for part in after) - sum(len(part.vanished) for part in before)
        if fallen * 100 <= self.memory.vanished_percent * held:
            return False
        _log.warning(
            "%s: %s of %s that it holds vanished at the source at once, more than the recipe's memory.vanished_percent "
            "= %g: they stay, until it has them again or the recipe allows it",
            self.corpus,
            _count(fallen).removesuffix(" is").removesuffix(" are"),
            f"{held:,}",
            self.memory.vanished_percent,
        )
        return True


def tell_nothing_there(corpus: str) -> None:
    """Log that a source has nothing of what the corpus holds: it is more likely broken than empty."""
    _log.warning("%s: the source has none of the samples that the corpus holds; none counts as vanished", corpus)


def _count(samples: int) -> str:
    return "1 sample is" if samples == 1 else f"{samples:,} samples are"
