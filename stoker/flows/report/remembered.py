"""What a corpus remembers of its candidates, as one line for the terminal and the web page."""

from stoker.pipelines.rejected import OutcomeClass
from stoker.pipelines.stages.remembering.counting import Remembered
from stoker.storage.versions.memory.outcome_class import KEPT


def memory_text(remembered: Remembered) -> str:
    """The candidates by what their outcome depends on, those due again, of an older recipe, or gone at the source.

    >>> memory_text(Remembered({"kept": 7, "moment": 2, "recipe": 1}, due=2, older_recipe=3))
    'remembered: 7 kept; rejected by the moment 2, the recipe 1; due again: 2; made by an older recipe: 3'
    """
    classes = remembered.classes
    rejected = ", ".join(
        f"{OutcomeClass(name).depends_on} {count:,}" for name, count in classes.items() if name != KEPT
    )
    parts = [f"{classes.get(KEPT, 0):,} kept"]
    parts += [f"rejected by {rejected}"] if rejected else []
    parts += [f"due again: {remembered.due:,}"]
    parts += [f"made by an older recipe: {remembered.older_recipe:,}"] if remembered.older_recipe else []
    if remembered.vanished:
        days = dict.fromkeys((remembered.vanished_first[:10], remembered.vanished_last[:10]))
        parts += [f"no more at the source: {remembered.vanished:,}, since {' to '.join(days)}"]
    parts += [f"answered with 404 or 410 last: {remembered.unanswered:,}"] if remembered.unanswered else []
    return "remembered: " + "; ".join(parts)
