"""Reject reasons: why a candidate did not become a sample."""

import re
from dataclasses import dataclass

# Reason → meaning. A source, step or rule of another package adds its own through its class variable ``reasons``.
REASONS = {
    # fetching
    "robots": "robots.txt forbids it",
    "opted_out": "the owner asks not to use it for machine learning",
    "gone": "the server says it does not exist (404, 410)",
    "forbidden": "the server refuses it (401, 403 and other 4xx)",
    "unreachable": "no answer after all attempts",
    "timeout": "the answer, or decoding, took too long",
    "too_large": "more bytes, or more memory to decode them, than allowed",
    "redirects": "too many or unsafe redirects",
    "private_address": "a private network address, which STOKER_ALLOW_PRIVATE does not name",
    "bad_url": "not an http(s) URL",
    "bad_row": "a row of a list that cannot be read",
    "empty": "no bytes or no text at all",
    # decoding
    "not_an_image": "the bytes are no image, whatever the name says",
    "not_a_video": "the bytes are no video, or hold no video stream",
    "unsupported_format": "a format that is not decoded here",
    "truncated": "the data ends too early",
    "corrupt": "the data does not decode",
    "lost": "a piece of the source is missing or damaged; how many candidates it held is not known",
    "too_many_pixels": "more pixels than allowed",
    "hdr": "high dynamic range, which the recipe rejects",
    "animated": "several frames or pages, which the recipe rejects",
    "not_utf8": "the text is not UTF-8",
    # fitness
    "too_small": "fewer pixels than asked for",
    "aspect_ratio": "longer and thinner than asked for",
    "too_short": "less text or video than asked for",
    "too_long": "more text or video than asked for",
    "wrong_language": "another language than asked for",
    "no_label": "no label was found",
    # wiki pages
    "redirect": "a redirect to another page",
    "namespace": "not in a namespace that was asked for",
    "sha1_mismatch": "the page's text differs from its own checksum",
    # the whole corpus
    "duplicate_key": "another sample has this identity",
    "exact_duplicate": "the same content as another sample",
    "label_conflict": "the same or nearly the same content stands under another label too",
    "near_duplicate": "nearly the same content as another sample",
    "split_conflict": "close to samples of two different splits",
    "forgotten": "taken down on request",
}

LOSS = "lost"  # a version with such rejects is not whole, and the command that made it says so and fails
_REASON = re.compile(r"[a-z][a-z0-9_]{1,39}")
MAX_DETAIL = 300


@dataclass(frozen=True, slots=True)
class Rejected:
    """Returned for a sample that is rejected: a result that is counted, not an error.

    Args:
        reason: a short lower_snake word; manifests count rejects by it.
        detail: free text for people, truncated to 300 characters.

    >>> Rejected("too_small", "16x16")
    Rejected(reason='too_small', detail='16x16')
    """

    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if not _REASON.fullmatch(self.reason):
            raise ValueError(f"reject reason {self.reason!r}: expected a short lower_snake word")
        if len(self.detail) > MAX_DETAIL:
            object.__setattr__(self, "detail", self.detail[: MAX_DETAIL - 1] + "…")
