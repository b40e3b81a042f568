"""What a source lists: read each time that it is asked for, or, of a site, crawled once in a run and held packed."""

from collections.abc import Iterator

from stoker.pipelines.partition import PackedRows
from stoker.pipelines.source import MORE, Context, Listed, ListedSource


class Listing:
    """The candidates of a source, in little memory. After a crawl ``is_cut_short`` tells whether it has seen all."""

    is_cut_short = False

    def __init__(self, source: ListedSource) -> None:
        self._source = source
        self._packed: PackedRows[Listed] | None = None

    def identities(self, context: Context) -> Iterator[Listed]:
        """See ListedSource. Raises what that raises."""
        if not self._source.is_crawled:
            yield from self._source.identities(context)
            return
        if self._packed is None:
            self._packed = PackedRows(self._source.identities(context), Listed)
        for one in self._packed:
            if one == MORE:
                self.is_cut_short = True
            else:
                yield one
