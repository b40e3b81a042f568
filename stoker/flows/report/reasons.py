"""The stage of the pipeline that a reject reason belongs to."""

# In the order of the pipeline. A reason of another package's step belongs to "fit".
STAGES = {
    "fetch": "could not be fetched",
    "decode": "could not be read",
    "fit": "not what was asked for",
    "corpus": "rejected by rules",
}
_FETCH = (
    "robots opted_out gone forbidden unreachable timeout too_large redirects private_address bad_url outside vanished"
)
_DECODE = (
    "empty bad_row unreadable not_an_image not_a_video unsupported_format truncated corrupt lost too_many_pixels "
    "not_utf8 sha1_mismatch"
)
_CORPUS = "duplicate_key exact_duplicate label_conflict near_duplicate split_conflict forgotten"
_STAGE_OF = {
    **dict.fromkeys(_FETCH.split(), "fetch"),
    **dict.fromkeys(_DECODE.split(), "decode"),
    **dict.fromkeys(_CORPUS.split(), "corpus"),
}


def stage_of(reason: str) -> str:
    """The stage at which a candidate with this reason is rejected.

    >>> stage_of("robots"), stage_of("near_duplicate"), stage_of("too_small")
    ('fetch', 'corpus', 'fit')
    """
    return _STAGE_OF.get(reason, "fit")
