"""A count with its noun, for messages."""


def plural(count: float, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "shard"), plural(1200, "shard"), plural(2, "category"), plural(0.5, "shard")
    ('1 shard', '1,200 shards', '2 categories', '0.5 shards')
    """
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun}"
