"""Whether the bodies of URLs that are partitions have changed: one request each, and none of the bodies is sent."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Context
from stoker.pipelines.stages.remembering.outcomes import RecordReader, fetched_at
from stoker.pipelines.web.links import normalise
from stoker.pipelines.web.measured import size_in, validators_in
from stoker.pipelines.web.policy import EarlierResponse
from stoker.storage.versions.manifest import Part

_log = logging.getLogger(__name__)


def ask_whole(
    read: Iterable[tuple[str, str, Part, str]], reader: RecordReader, context: Context, *, older_than: timedelta
) -> tuple[frozenset[str], int]:
    """The names of partitions whose bodies are others now, and how many were asked for.

    One whose server does not answer so is told, and counts as it was.

    Args:
        read: name and URL of each partition, its last part, and its name there.
        reader: of the records of parts, which say what the server gave.
        context: with the clock and the client.
        older_than: those are asked for that were fetched so long ago; and those of which that is not known.
    """
    asked: list[tuple[str, str, EarlierResponse, int | None]] = []
    for name, url, part, there in read:
        row = reader.first_fetched(part, there)
        at = fetched_at(row)
        if at is None or at <= context.now() - older_than:
            asked.append((name, url, EarlierResponse(validators_in(row), normalise(url)), size_in(row)))
    with ThreadPoolExecutor(context.web.threads) as pool:
        answers = list(pool.map(lambda one: context.web.has_changed(one[1], one[2], size=one[3]), asked))
    for (_, url, *_), answer in zip(asked, answers, strict=True):
        if isinstance(answer, Rejected):
            _log.warning("%s: %s (%s); what it held stays", url, answer.reason, answer.detail)
    return frozenset(one[0] for one, answer in zip(asked, answers, strict=True) if answer is True), len(asked)
