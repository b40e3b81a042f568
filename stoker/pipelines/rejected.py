"""Reject reasons: why a candidate did not become a sample, and what that depends on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.storage.versions.memory.outcome_class import KNOWN
from stoker.storage.versions.memory.outcome_class import OutcomeClass as OutcomeClass  # named here for plug-ins


@dataclass(frozen=True, slots=True)
class Reason:
    """What a reject reason means, as a phrase, and the class of outcomes that have it.

    Where a reason is declared, a text alone stands for one that depends on the recipe: see ``declared``.
    """

    meaning: str
    outcome_class: OutcomeClass = OutcomeClass.RECIPE


UNKNOWN = Reason("")  # of a plug-in that is not installed


def declared(reasons: Mapping[str, str | Reason]) -> dict[str, Reason]:
    """The reasons that a source, step or rule declares.

    >>> declared({"too_dark": "darker than asked for"})["too_dark"].outcome_class.depends_on
    'the recipe'
    """
    return {word: reason if isinstance(reason, Reason) else Reason(reason) for word, reason in reasons.items()}


OUTCOME_CLASS = "outcome_class"  # column of records: the class of a reject where its reason's is another
PASSING = "final once its partition is done"  # ends the detail of a fault that depends on the moment


def class_of(record: Mapping[str, object], reasons: Mapping[str, Reason]) -> OutcomeClass:
    """The class of a reject, from its record in a raw part: what it states, if it states one, else that of its reason.

    Parts written before records stated it tell it in their details.

    >>> class_of({"reason": "truncated", "detail": f"cut after 9 of 10 bytes; {PASSING}"}, REASONS)
    <OutcomeClass.MOMENT: 'moment'>
    >>> class_of({"reason": "gone", "detail": "HTTP 410"}, REASONS)
    <OutcomeClass.SLOW_MOMENT: 'slow_moment'>
    """
    reason, detail = str(record["reason"]), str(record.get("detail") or "")
    own = reasons.get(reason, UNKNOWN).outcome_class
    if detail.endswith(PASSING):
        own = OutcomeClass.MOMENT
    elif (reason, detail) == ("gone", "HTTP 410"):
        own = OutcomeClass.SLOW_MOMENT
    return next((outcome_class for outcome_class in OutcomeClass if outcome_class == record.get(OUTCOME_CLASS)), own)


# A source, step or rule of another package adds its own through its class variable ``reasons``.
REASONS: Mapping[str, Reason] = {
    # fetching
    "robots": Reason("robots.txt forbids it", OutcomeClass.SLOW_MOMENT),
    "opted_out": Reason("the owner asks not to use it for machine learning", OutcomeClass.OWNER),
    "gone": Reason("the server says it does not exist (404, 410)", OutcomeClass.MOMENT),
    "forbidden": Reason("the server refuses it (401, 403 and other 4xx)", OutcomeClass.SLOW_MOMENT),
    "unreachable": Reason("no answer after all attempts", OutcomeClass.MOMENT),
    "timeout": Reason("the answer, or decoding, took too long", OutcomeClass.MOMENT),
    "too_large": Reason("more bytes, or more memory to decode them, than allowed", OutcomeClass.SETTING),
    "redirects": Reason("too many or unsafe redirects", OutcomeClass.MOMENT),
    "private_address": Reason(
        "a private network address, which STOKER_ALLOW_PRIVATE does not name", OutcomeClass.SETTING
    ),
    "bad_url": Reason("not an http(s) URL", OutcomeClass.BYTES),
    "bad_row": Reason("a row of a list that cannot be read", OutcomeClass.BYTES),
    "empty": Reason("no bytes or no text at all", OutcomeClass.BYTES),
    # decoding
    "not_an_image": Reason("the bytes are no image, whatever the name says", OutcomeClass.BYTES),
    "not_a_video": Reason("the bytes are no video, or hold no video stream", OutcomeClass.BYTES),
    "unsupported_format": Reason("a format that is not decoded here", OutcomeClass.SETTING),
    "truncated": Reason("the data ends too early", OutcomeClass.BYTES),
    "corrupt": Reason("the data does not decode", OutcomeClass.BYTES),
    "lost": Reason(
        "a piece of the source is missing or damaged; how many candidates it held is not known", OutcomeClass.BYTES
    ),
    "too_many_pixels": Reason("more pixels than allowed", OutcomeClass.RECIPE),
    "hdr": Reason("high dynamic range, which the recipe rejects", OutcomeClass.RECIPE),
    "animated": Reason("several frames or pages, which the recipe rejects", OutcomeClass.RECIPE),
    "not_utf8": Reason("the text is not UTF-8", OutcomeClass.BYTES),
    # fitness
    "too_small": Reason("fewer pixels than asked for", OutcomeClass.RECIPE),
    "aspect_ratio": Reason("longer and thinner than asked for", OutcomeClass.RECIPE),
    "too_short": Reason("less text or video than asked for", OutcomeClass.RECIPE),
    "too_long": Reason("more text or video than asked for", OutcomeClass.RECIPE),
    "wrong_language": Reason("another language than asked for", OutcomeClass.RECIPE),
    "vanished": Reason("the source does not have it any more", OutcomeClass.SLOW_MOMENT),
    "moved": Reason("it lies under another name now", OutcomeClass.BYTES),
    "no_label": Reason("no label was found", OutcomeClass.RECIPE),
    # wiki pages
    "redirect": Reason("a redirect to another page", OutcomeClass.RECIPE),
    "namespace": Reason("not in a namespace that was asked for", OutcomeClass.RECIPE),
    "sha1_mismatch": Reason("the page's text differs from its own checksum", OutcomeClass.BYTES),
    # the whole corpus
    "duplicate_key": Reason("another sample has this identity", OutcomeClass.RECIPE),
    "exact_duplicate": Reason("the same content as another sample", OutcomeClass.RECIPE),
    "label_conflict": Reason("the same or nearly the same content stands under another label too", OutcomeClass.RECIPE),
    "near_duplicate": Reason("nearly the same content as another sample", OutcomeClass.RECIPE),
    "split_conflict": Reason("close to samples of two different splits", OutcomeClass.RECIPE),
    "forgotten": Reason("taken down on request", OutcomeClass.OWNER),
}

OF_RULES = frozenset(
    ("exact_duplicate", "label_conflict", "near_duplicate", "split_conflict")
)  # decided by rules alone
LOSS = "lost"  # a version with such rejects is not whole, and the command that made it says so and fails
_REASON = re.compile(r"[a-z][a-z0-9_]{1,39}")
MAX_DETAIL = 300


@dataclass(frozen=True, slots=True)
class Rejected:
    """Returned for a sample that is rejected: a result that is counted, not an error.

    Args:
        reason: a short lower_snake word; manifests count rejects by it.
        detail: free text for people, truncated to 300 characters.
        outcome_class: where it is another than that of its reason, such as for a body that was cut on the way.

    >>> Rejected("too_small", "16x16")
    Rejected(reason='too_small', detail='16x16')
    """

    reason: str
    detail: str = ""
    outcome_class: OutcomeClass | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _REASON.fullmatch(self.reason):
            raise ValueError(f"reject reason {self.reason!r}: expected a short lower_snake word")
        if self.reason == KNOWN:
            raise ValueError(f"reject reason {KNOWN!r}: the word stands for candidates that are no rejects, unchanged")
        if len(self.detail) > MAX_DETAIL:
            object.__setattr__(self, "detail", self.detail[: MAX_DETAIL - 1] + "…")
