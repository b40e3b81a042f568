"""`stoker check`: is a recipe right, and is there all that it needs? With --sample, what its candidates become."""

import shutil
import sys
import textwrap
from argparse import Namespace
from collections import Counter
from typing import TYPE_CHECKING, Any

from stoker.flows import start
from stoker.flows.cli.output import print_json, print_text
from stoker.flows.logs import note
from stoker.flows.schedules.timetable import check_cron, check_timezone, parse_interval
from stoker.flows.start import load_settings
from stoker.pipelines.errors import RecipeError

if TYPE_CHECKING:
    from stoker.pipelines.recipe import Recipe
    from stoker.pipelines.source import Context
    from stoker.pipelines.stages.preview import Outcome

_WIDTH = 80  # columns, where the terminal does not tell
_MIN_WIDTH = 20  # columns of an outcome, however narrow the terminal is


def check(arguments: Namespace) -> int:
    """Print what a recipe is made of, or what is wrong with it."""
    from stoker.pipelines.recipe import load
    from stoker.pipelines.registry import name_of
    from stoker.pipelines.stages.pinning import pinned
    from stoker.storage.stores.urls import check_access

    settings = load_settings(arguments, arguments.recipe)
    recipe = load(arguments.recipe)
    start.check_trust(settings, recipe, trusted=arguments.trust)
    context = settings.context(recipe.root, trusted=arguments.trust)
    start.check_source(recipe, context, str(arguments.recipe))
    _check_schedule(recipe, str(arguments.recipe))
    store = settings.open_store()
    check_access(store)
    pinned(recipe, context, store)  # the files and versions that rules name are there
    read = list(recipe.source.describe_input(context))
    steps, rules = [name_of(step) for step in recipe.steps], [name_of(rule) for rule in recipe.rules]
    if arguments.json:
        names = {"recipe": arguments.recipe, "corpus": recipe.corpus, "source": name_of(recipe.source)}
        content = names | {"reads": read, "steps": steps, "rules": rules, "splits": recipe.splits}
        if arguments.sample is not None:
            content["candidates"] = _sample_json(recipe, context, arguments.sample)
        print_json(content)
        return 0
    print_text(f"{arguments.recipe}: corpus {recipe.corpus}, source {name_of(recipe.source)}")
    for line in read:
        print_text(line if line.startswith("not read: ") else f"reads {line}")
    print(f"steps: {', '.join(steps) or 'none'}")
    print(f"rules: {', '.join(rules) or 'none'}")
    print(f"splits: {', '.join(f'{name} {percent:g} %' for name, percent in recipe.splits.items())}")
    if arguments.sample is not None:
        _print_sample(recipe, context, arguments.sample)
    return 0


def _check_schedule(recipe: "Recipe", where: str) -> None:
    """Refuse a time at which `stoker schedule` could not start a run."""
    try:
        if recipe.schedule.cron:
            check_cron(recipe.schedule.cron)
        check_timezone(recipe.schedule.timezone)
        parse_interval(recipe.schedule.retry_wait)
    except RecipeError as error:
        raise RecipeError(f"{where}: schedule: {error}") from None


def _print_sample(recipe: "Recipe", context: "Context", count: int) -> None:
    """Print the first candidates, as they come."""
    from stoker.pipelines.source import TooLargeForPreview
    from stoker.pipelines.stages.preview import preview
    from stoker.storage.plural import plural

    width = shutil.get_terminal_size((_WIDTH, 24)).columns if sys.stdout.isatty() else 0
    counts = Counter[str]()
    print()
    try:
        for number, outcome in enumerate(preview(recipe, context, count), 1):
            for line in _lines(number, outcome, width):
                print(line, flush=True)
            counts[outcome.rejected.reason if outcome.rejected else "kept"] += 1
    except TooLargeForPreview as error:
        note(f"no more is shown: {error}")
    rejected = ", ".join(f"{reason} {times}" for reason, times in sorted(counts.items()) if reason != "kept")
    total = plural(counts.total(), "candidate")
    print(f"\n{total}: {counts['kept']} kept, {counts.total() - counts['kept']} rejected", end="")
    print(f" ({rejected})" if rejected else "")
    rules = "; the rules, which need the whole corpus, were not applied" if recipe.rules else ""
    note(f"nothing was stored{rules}")


def _sample_json(recipe: "Recipe", context: "Context", count: int) -> list[dict[str, Any]]:  # Any: JSON values
    """The outcomes of the first candidates."""
    from stoker.pipelines.source import TooLargeForPreview
    from stoker.pipelines.stages.preview import preview

    candidates: list[dict[str, Any]] = []  # Any: JSON values
    try:
        for outcome in preview(recipe, context, count):
            sample, rejected = outcome.sample, outcome.rejected
            fields = {name: len(payload) for name, payload in sample.fields.items()}
            about = {"key": sample.key, "outcome": "rejected" if rejected else "kept"}
            # As in the output of `stoker why`: empty for one that is kept.
            why = {
                "reason": rejected.reason if rejected else "",
                "detail": rejected.detail if rejected else "",
                "by": outcome.by,
            }
            more = {"fields": fields, "measures": sample.measures, "record": sample.record}
            candidates.append(about | why | more)
    except TooLargeForPreview as error:
        note(f"no more is shown: {error}")
    return candidates


def _lines(number: int, outcome: "Outcome", width: int) -> list[str]:
    """A candidate's outcome, and where it comes from, at most ``width`` columns wide; 0: a line each."""
    from stoker.flows.report.format import visible

    sample, rejected = outcome.sample, outcome.rejected
    if rejected is None:
        word, text = "kept", _content(outcome)
    else:
        word = "rejected"
        text = f"{rejected.reason} (by {outcome.by}){f': {rejected.detail}' if rejected.detail else ''}"
    origin = sample.record.get("url") or sample.record.get("page_url") or sample.record.get("title") or ""
    start = f"{number:>4} {word:<9} "
    most = max(1, width - len(start)) if width else 0
    said = visible(f"{sample.key}: {text}")
    # The outcome is wrapped, since it says what to do; the address may be cut.
    lines = [*(textwrap.wrap(said, max(most, _MIN_WIDTH)) if width else [said]), visible(origin, most=most)]
    return [(start if place == 0 else " " * len(start)) + line for place, line in enumerate(lines)]


def _content(outcome: "Outcome") -> str:
    """Fields, size, shape and label of a sample that is kept."""
    from stoker.flows.report.format import size_text
    from stoker.storage.plural import plural

    measures, record = outcome.sample.measures, outcome.sample.record
    facts = [" and ".join(sorted(outcome.sample.fields))]
    if "width" in measures:
        facts[0] += f" {measures['width']}x{measures['height']}"
    if "words" in measures:
        facts.append(plural(int(measures["words"]), "word"))
    facts.append(size_text(measures["size"]))
    if record.get("label") not in (None, ""):
        facts.append(f"label {record['label']}")
    return ", ".join(facts)
