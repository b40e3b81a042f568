"""What a source lists: read each time that it is asked for, or, of a site, crawled once in a run and held packed."""

import json
from collections.abc import Iterator

from stoker.pipelines.partition import PackedTexts
from stoker.pipelines.source import MORE, Context, Listed, ListedSource
from stoker.pipelines.stages.remembering.planned import batches

_BATCH = 1024  # candidates that are packed together


class Listing:
    """The candidates of a source, in little memory. After a crawl ``is_cut_short`` tells whether it has seen all."""

    is_cut_short = False

    def __init__(self, source: ListedSource) -> None:
        self._source = source
        self._packed: PackedTexts | None = None

    def identities(self, context: Context) -> Iterator[Listed]:
        """See ListedSource. Raises what that raises."""
        if not self._source.is_crawled:
            yield from self._source.identities(context)
            return
        if self._packed is None:
            packed = PackedTexts()
            for some in batches(self._source.identities(context), _BATCH):
                packed.append(json.dumps(some))
            self._packed = packed
        for text in self._packed:
            for one in (Listed(*values) for values in json.loads(text)):
                if one == MORE:
                    self.is_cut_short = True
                else:
                    yield one
