"""Preview: the first candidates of a recipe's source and what would become of each, as ingest decides it.

Nothing is stored. The source reads as it does in ingest, under the same robots.txt, rates and limits, but one request
after the other; rules are not applied, because they need the whole corpus.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from stoker.pipelines.recipe import Recipe
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Context
from stoker.pipelines.stages.ingest import REPEATED, apply_steps
from stoker.pipelines.stages.trust import check_paths
from stoker.storage.shards.sample import Sample


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would become of a candidate: ``rejected`` is None for one that is kept, ``by`` names what rejects it."""

    sample: Sample
    rejected: Rejected | None = None
    by: str = ""


def preview(recipe: Recipe, context: Context, count: int) -> Iterator[Outcome]:
    """The outcomes of the source's first candidates, at most ``count``, each as soon as it is known.

    Raises RecipeError, OutsideRecipe among them, SourceError, TooLargeForPreview among them.
    """
    check_paths(recipe, context)
    seen: set[str] = set()
    web = replace(context.web, threads=1)  # nothing is fetched far ahead of what is shown
    with tempfile.TemporaryDirectory(prefix="stoker-") as scratch, ExitStack() as stack:
        candidates = recipe.source.preview(replace(context, web=web, scratch=Path(scratch), downloads=Path(scratch)))
        stack.callback(getattr(candidates, "close", lambda: None))  # a generator still has files of the scratch folder
        for candidate in islice(candidates, count):
            sample, rejected, by = apply_steps(recipe, candidate)
            if rejected is None and sample.key in seen:
                rejected, by = REPEATED, "stoker"
            if rejected is None:
                seen.add(sample.key)
            yield Outcome(sample, rejected, by)
