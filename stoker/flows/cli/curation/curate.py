"""`stoker curate`: other rules for the newest version, decided from records alone; with --dry-run only told."""

import tomllib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from stoker.flows.cli.curation.trial_page import example_sections, fate_of, fate_of_witness, pictures_of
from stoker.flows.cli.output import check_new_page, print_json, published_json, write_page
from stoker.flows.logs import note
from stoker.flows.report.format import percent_text, splits_text
from stoker.flows.report.terminal import Sheet
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.storage.plural import plural

if TYPE_CHECKING:
    from stoker.pipelines.recipe import Recipe
    from stoker.pipelines.stages.views.trial import Example, Trial
    from stoker.storage.stores.store import Store

_SHOWN = 8  # combinations of rules
_OWN = {  # what Stoker decides before and after the rules of a recipe, in the place of a rule's name
    "elders": "samples that keep the split of earlier versions, which is not that of their group's name",
    "one_split": "samples that would not lie in another split than one of the same content",
    "tombstones": "samples taken out of the corpus for good (stoker forget)",
    "unique_keys": "samples whose key another one has",
}


def curate(arguments: Namespace) -> int:
    """Make a view of the newest version by other rules, or tell what they would take."""
    from stoker.pipelines.stages.curate import Judging
    from stoker.pipelines.stages.pinning import pinned
    from stoker.pipelines.stages.views.curate_again import curate_again
    from stoker.pipelines.stages.views.trial import trial
    from stoker.storage.versions.manifest import load_manifest

    if arguments.page and not arguments.dry_run:
        raise UsageError("curate: --page shows what --dry-run tells; give both")
    if arguments.page:
        check_new_page("curate", arguments.page)
    settings = load_settings(arguments)
    store = settings.open_store(reading=arguments.dry_run)
    recipe = _recipe(store, arguments)
    recipe = pinned(recipe, settings.context(recipe.root), store)
    scratch = settings.home / "scratch"
    judging = Judging(elders=True, resplit=arguments.resplit, mend_leaks=arguments.mend_leaks)
    if arguments.dry_run:
        tried = trial(recipe, load_manifest(store, recipe.corpus), store, scratch, judging)
        if arguments.json:
            print_json(asdict(tried))
        else:
            print_trial(tried, Sheet(Console()))
        if arguments.page:
            write_page(
                "curate",
                arguments.page,
                "trial.html",
                tried=tried,
                sections=list(example_sections(tried)),
                fate_of=fate_of,
                fate_of_witness=fate_of_witness,
                pictures=pictures_of(tried, store),
            )
        return 0
    curated = curate_again(recipe, store, scratch, judging=judging)
    manifest = curated.published.manifest
    if arguments.json:
        counts = {"left": curated.dropped, "came": curated.added, "moved": curated.moved}
        told = published_json(manifest, new=curated.published.new)
        print_json(told | {"before": curated.before.reference} | counts)
        return 0
    if not curated.published.new:
        print(f"{manifest.reference}: {plural(manifest.samples, 'sample')}")
        note("these rules change nothing, so no version was made")
        return 0
    splits = splits_text(manifest.splits)
    print(f"{manifest.reference}: {plural(manifest.samples, 'sample')} ({splits}), made of {curated.before.reference}")
    moved = f", {curated.moved:,} moved to another split" if curated.moved else ""
    print(f"{curated.dropped:,} left, {curated.added:,} came{moved}")
    if arguments.set or not _is_file(arguments.what):
        note("write these rules into the recipe, too: the next ingest of it decides by its own")
    note(f"next: stoker diff {curated.before.reference} {manifest.reference}")
    return 0


def _is_file(text: str) -> bool:
    return text.endswith(".toml") or Path(text).is_file()


def _recipe(store: "Store", arguments: Namespace) -> "Recipe":
    """The recipe of the newest version with the rules that are asked for. Raises UsageError, RecipeError."""
    from stoker.pipelines.published import recipe_in
    from stoker.pipelines.recipe import load
    from stoker.pipelines.stages.views.curate_again import recipe_of
    from stoker.storage.versions.catalog import parse_reference
    from stoker.storage.versions.manifest import load_manifest

    if _is_file(arguments.what):
        written = load(Path(arguments.what))
        manifest, document, root = load_manifest(store, written.corpus), dict(written.document), written.root
    else:
        corpus, version = parse_reference(arguments.what)
        if version is not None:
            raise UsageError(f"curate {arguments.what}: the newest version is curated; name the corpus, {corpus!r}")
        manifest, root = load_manifest(store, corpus), Path.cwd()
        document = dict(recipe_in(manifest, root=root).document)
    document["rules"] = _with_options(document.get("rules", []), arguments.set, arguments.without)
    return recipe_of(manifest, document, root)


def _with_options(rules: list[dict[str, Any]], changes: list[str], without: list[str]) -> list[dict[str, Any]]:
    """The rules of a recipe with ``RULE.OPTION=VALUE`` changes; a rule that is not among them comes last.

    >>> _with_options([{"name": "a", "x": 1}, {"name": "b"}], ["a.x=2", "c.y='z'"], ["b"])
    [{'name': 'a', 'x': 2}, {'name': 'c', 'y': 'z'}]
    """
    made = [dict(rule) for rule in rules]
    for name in without:
        if not any(rule.get("name") == name for rule in made):
            raise UsageError(f"--without {name}: the recipe has no such rule; it has {_names(made)}")
        made = [rule for rule in made if rule.get("name") != name]
    for text in changes:
        place, equals, value = text.partition("=")
        name, _, option = place.partition(".")
        if not (name and ((option and equals) or (not equals and not option))):
            raise UsageError(f"--set {text}: expected RULE.OPTION=VALUE, for example exact_duplicates.conflicts='keep'")
        named = [one for one in made if one.get("name") == name]
        if len(named) > 1:
            raise UsageError(
                f"--set {text}: there are {len(named)} rules {name}; change one in a recipe, and curate by it"
            )
        if not named:
            named = [{"name": name}]
            made += named
        if option:
            named[0][option] = _value(value)
    return made


def _names(rules: list[dict[str, Any]]) -> str:
    return ", ".join(str(rule.get("name")) for rule in rules) or "none"


def _value(text: str) -> Any:  # Any: a TOML value
    """A value of TOML; what is none is a text.

    >>> _value("0.7"), _value("true"), _value("largest")
    (0.7, True, 'largest')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def print_trial(tried: "Trial", sheet: Sheet) -> None:
    """Print what rules would take."""
    sheet.title(f"{tried.reference}, if these rules decided", "nothing was written")
    sheet.facts(
        [
            ("samples now", f"{tried.samples:,}"),
            ("would leave", f"{tried.leaving:,}"),
            ("would come", f"{tried.returning:,}" + (f" that {tried.reference} left out" if tried.returning else "")),
            *([("would move", f"{tried.moving:,} to another split")] if tried.moving else []),
            ("samples then", f"{tried.after:,}"),
        ]
    )
    sheet.heading("What each rule would take")
    asked = [rule for rule in tried.rules if rule.rule not in _OWN]
    rows = [
        (
            rule.rule,
            f"{sum(rule.dropped.values()):,}",
            f"{rule.of_version:,}",
            f"{rule.alone:,}",
            f"{rule.moved:,}",
            _reasons(rule.dropped),
        )
        for rule in asked
    ]
    sheet.table(("rule*", "drops>", "held now>", "alone>", "moves>", "reasons*"), rows)
    sheet.note(f"held now: so many of those are in {tried.reference}, and would leave it")
    sheet.note("alone: so many it would drop if it were the only rule")
    if any(rule.moved for rule in asked):
        sheet.note("moves: so many it would put into another split than their group's name gives")
    for rule in tried.rules:
        if rule.rule in _OWN:
            sheet.say(f"{_OWN[rule.rule]}: {sum(rule.dropped.values()) or rule.moved:,}")
    if len(tried.together) > 1:
        sheet.heading("Samples by the rules that would take them, each asked alone")
        combinations = [(" + ".join(names), f"{count:,}") for names, count in tried.together[:_SHOWN]]
        sheet.table(("rules*", "samples>"), combinations, heads=False)
    sheet.heading("Splits")
    shares = [(name, percent_text(asked / 100), percent_text(reached / 100)) for name, asked, reached in tried.splits]
    sheet.table(("split", "asked>", "reached>"), shares)
    for heading, examples in example_sections(tried):
        sheet.heading(heading)
        if any(one.similarity is not None for one in examples):
            sheet.note("the number: how similar it is to the sample that it is like; 1 is equal")
        sheet.facts(row for one in examples for row in _example(one))


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in dropped.items()) or "–"


def _example(example: "Example") -> Iterator[tuple[str, str]]:
    """Lines about a sample: its key, why, and what it is about. Keys are long, so that each has a line of its own."""
    similarity = "" if example.similarity is None else f"{example.similarity:.3f}"
    yield similarity or example.reason or "moves", example.key
    yield "", fate_of(example)
    if example.witness:
        yield "", f"like {example.witness}, which {fate_of_witness(example)}"
    if example.stays not in ("", example.witness):
        yield "", f"stays: {example.stays}"
    if about := example.excerpt or " · ".join(str(value) for value in example.record.values()):
        yield "", about
