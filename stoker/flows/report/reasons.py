"""What reasons mean, and at which stage of the road from candidate to sample each one stands."""

from collections.abc import Iterable, Mapping

from stoker.pipelines.registry import Component, find
from stoker.pipelines.rejected import REASONS
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.step import Step
from stoker.storage.errors import StokerError

# In the order of the road. What a step of another package refuses for a reason of its own counts as unfit.
STAGES = {
    "fetch": "could not be fetched",
    "decode": "could not be read",
    "fit": "not what was asked for",
    "corpus": "left out by rules",
}
_FETCH = "robots opted_out gone forbidden unreachable timeout too_large redirects private_address bad_url empty"
_DECODE = "not_an_image not_a_video unsupported_format truncated corrupt too_many_pixels not_utf8 sha1_mismatch"
_CORPUS = "duplicate_key exact_duplicate label_conflict near_duplicate split_conflict forgotten"
_STAGE_OF = {
    **dict.fromkeys(_FETCH.split(), "fetch"),
    **dict.fromkeys(_DECODE.split(), "decode"),
    **dict.fromkeys(_CORPUS.split(), "corpus"),
}


def stage_of(reason: str) -> str:
    """The stage at which a reason ends a candidate's road.

    >>> stage_of("robots"), stage_of("near_duplicate"), stage_of("too_small")
    ('fetch', 'corpus', 'fit')
    """
    return _STAGE_OF.get(reason, "fit")


def meanings(sources: Iterable[str], steps: Iterable[str], rules: Iterable[str]) -> Mapping[str, str]:
    """Every known reason with its meaning: the vocabulary, and what these parts of a recipe add to it.

    A part that this installation does not have adds nothing: a version can be looked at where it was not made.
    """
    known = dict(REASONS)
    for name in sources:
        known |= _reasons(Source, name)
    for name in steps:
        known |= _reasons(Step, name)
    for name in rules:
        known |= _reasons(Rule, name)
    return known


def _reasons(kind: type[Component], name: str) -> Mapping[str, str]:
    try:
        return find(kind, name).reasons
    except (StokerError, ImportError):
        return {}
