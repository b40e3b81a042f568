"""Tars that were cut between two members of a sample, as far as the members of other samples tell."""

from collections.abc import Sequence


def why_cut(fields: Sequence[frozenset[str]]) -> str:
    """Why the last sample of a tar without an end mark lacks members, by the fields of all samples; "" if it need not.

    Whoever wrote or copied the tar was stopped. WebDataset reads such a sample, and a training then misses its fields.

    >>> why_cut([frozenset({"jpg", "txt"}), frozenset({"jpg"})])
    'has jpg alone, and others jpg txt: the tar was cut short here'
    >>> why_cut([frozenset({"jpg", "txt"}), frozenset({"jpg"}), frozenset({"jpg"})])
    ''
    """
    if not fields:
        return ""
    last, others = fields[-1], set(fields[:-1])
    larger = [other for other in others if last < other]
    if last in others or not larger:
        return ""
    most = max(larger, key=lambda other: (len(other), sorted(other)))
    return f"has {' '.join(sorted(last))} alone, and others {' '.join(sorted(most))}: the tar was cut short here"
