"""Subcommands that run something. Each function gets the parsed arguments and returns the exit code."""

import ipaddress
from argparse import Namespace
from typing import TYPE_CHECKING

from stoker.flows import logs, signals, start
from stoker.flows.cli.output import print_json, published_json
from stoker.flows.logs import note
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.pipelines.rejected import LOSS, OF_RULES

if TYPE_CHECKING:
    from stoker.flows.settings import Settings
    from stoker.pipelines.recipe import Recipe
    from stoker.storage.versions.manifest import Manifest

_SHOWN_LOSSES = 3


def up(arguments: Namespace) -> int:
    """Run all services until interrupted, or start them in the background."""
    from stoker.flows import running
    from stoker.flows.services.up import HOW_TO_OPEN, addresses, run_services, start_in_background

    if arguments.json and not arguments.detach:
        raise UsageError("up: --json goes with --detach")
    settings = load_settings(arguments)
    if not ipaddress.ip_address(settings.web_host).is_loopback:
        note(f"the page listens at {settings.web_host}: without TLS before it, the owner's token is sent in clear text")
    if arguments.detach:
        services = start_in_background(settings)
    elif run_services(settings, note):
        return 0
    else:
        note("`stoker up` is running already")
        services = running.load(settings.home)
    if arguments.json:
        found = {name: {"url": process.url, "pid": process.pid} for name, process in services.running.items()}
        print_json({"home": settings.home, "services": found})
    else:
        print(addresses(services))
    note(HOW_TO_OPEN)
    if arguments.detach:
        note("in the background; `stoker down` ends it")
    return 0


def down(arguments: Namespace) -> int:
    """End all services."""
    from stoker.flows.services.up import stop_services

    settings = load_settings(arguments)
    stopped = stop_services(settings, note)
    if arguments.json:
        print_json({"home": settings.home, "stopped": stopped})
    note(f"stopped; data stay in {settings.home}" if stopped else "nothing was running")
    return 0


def ingest(arguments: Namespace) -> int:
    """Make a version of a recipe's corpus."""
    from stoker.flows.cli.gc import seconds_of
    from stoker.pipelines.recipe import load

    settings = load_settings(arguments, arguments.recipe)
    recipe = load(arguments.recipe)
    again = _reasons(recipe, arguments.retry_failed)
    if arguments.refresh == "kept":
        check_can_refresh(recipe, "ingest")
    if arguments.refresh_megabytes is not None:
        _check_remembers(recipe, "--refresh-megabytes")
    for flag, value in (("--older-than", arguments.older_than), ("--refresh-megabytes", arguments.refresh_megabytes)):
        if value is not None and arguments.refresh != "kept":
            raise UsageError(f"ingest: {flag}: it says how kept samples are asked for again; add --refresh")
    manifest, new = start.run_ingest(
        settings,
        recipe,
        trusted=arguments.trust,
        again=again,
        refresh=arguments.refresh,
        older_than_s=seconds_of(arguments.older_than or "0s"),
        max_megabytes=arguments.refresh_megabytes,
    )
    if arguments.json:
        print_json(published_json(manifest, new=new))
    else:
        _print_version(manifest)
    if not new:
        note("nothing changed since this version, so no new one was made")
    if LOSS in manifest.rejected:
        logs.error(_loss(settings, manifest))
        return 1
    note(f"next: stoker show {manifest.reference}")
    return 0


def _reasons(recipe: "Recipe", text: str | None) -> list[str] | None:
    """The reasons behind --retry-failed: [] for all, None without the flag. Raises UsageError for one that is none."""
    from stoker.flows.cli.usage.parsing import nearest
    from stoker.pipelines.registry import reasons_of

    if text is None:
        return None
    _check_remembers(recipe, "--retry-failed")
    known = reasons_of({name: recipe.document.get(name) for name in ("source", "steps")})
    words = [word for word in text.split(",") if word]
    for word in words:
        if word in OF_RULES or (word not in known and word in reasons_of(recipe.document)):
            raise UsageError(
                f"ingest: --retry-failed: {word!r} is decided by a rule, and anew by each run that changes any"
            )
        if word not in known:
            hint = nearest(word, known) or "; write --retry-failed=REASON,... with reasons of `stoker show CORPUS`"
            raise UsageError(f"ingest: --retry-failed: no reason is called {word!r}{hint}")
    return words


def check_can_refresh(recipe: "Recipe", command: str) -> None:
    """Raise UsageError where nothing of the recipe's source can be asked whether it has changed."""
    from stoker.pipelines.source import Source

    # Partitions may be the bodies of URLs.
    if type(recipe.source).url_of_whole is Source.url_of_whole:
        _check_remembers(recipe, "--refresh", command)


def _check_remembers(recipe: "Recipe", flag: str, command: str = "ingest") -> None:
    from stoker.pipelines.source import ListedSource

    if not (isinstance(recipe.source, ListedSource) and recipe.source.is_listed):
        raise UsageError(
            f"{command}: {flag}: this recipe's source lists no candidates, so none is asked for by itself; delete the "
            "marker CORPUS/raw/PART/part.json of a part to read it again"
        )


def _loss(settings: "Settings", manifest: "Manifest") -> str:
    """What the source lost, with the first of its pieces."""
    from itertools import islice

    from stoker.flows.report.refusals import all_refusals
    from stoker.flows.report.samples import SampleReader
    from stoker.storage.plural import plural

    refusals = all_refusals(SampleReader(settings.open_store(reading=True)), manifest, reason=LOSS)
    details = "; ".join(refusal.detail for refusal in islice(refusals, _SHOWN_LOSSES))
    return (
        f"{manifest.reference} is not whole: {plural(manifest.rejected[LOSS], 'piece')} of the source could not be "
        f"read: {details}. All: stoker show {manifest.reference} --reason {LOSS}"
    )


def _print_version(manifest: "Manifest") -> None:
    from stoker.flows.report.format import size_text, splits_text
    from stoker.storage.plural import plural

    splits = splits_text(manifest.splits)
    print(f"{manifest.reference}: {plural(manifest.samples, 'sample')} ({splits}), {size_text(manifest.size)}")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(manifest.rejected.items()))
    if reasons:
        print(f"rejected {sum(manifest.rejected.values()):,} of {manifest.read:,}: {reasons}")


def verify(arguments: Namespace) -> int:
    """Read a version again and print what differs from its manifest."""
    from rich.console import Console

    from stoker.flows.cli.show import print_verification
    from stoker.storage.versions.manifest import load_manifest

    settings = load_settings(arguments)
    reference = load_manifest(settings.open_store(reading=True), arguments.corpus).reference
    result, repaired = start.run_verification(settings, reference, repair=arguments.repair)
    if arguments.json:
        problems = list(result.problems)
        counts = {"shards": result.shards, "samples": result.samples, "size": result.size}
        lost = {"lost_originals": list(result.lost_originals)} if result.lost_originals else {}
        done = {name: list(keys) for name, keys in vars(repaired).items()} if arguments.repair else {}
        print_json({"reference": reference, "intact": not problems, **counts, "problems": problems} | lost | done)
    else:
        print_verification(result, reference, Console(), repaired)
    return 1 if result.problems else 0


def train(arguments: Namespace) -> int:
    """Train a model on a version."""
    from stoker.flows.report.format import paragraphs

    settings, options = load_settings(arguments), training_options(arguments)
    signals.set_next_step("the same command with --resume goes on")
    result = start.run_training(settings, arguments.model, arguments.corpus, options, resume=arguments.resume)
    if not result:
        return 0  # another rank than the first of `torchrun`, which tells all
    if arguments.json:
        print_json({"model": arguments.model, **result})
        return 0
    from stoker.flows.train import left_out_text, metrics_text
    from stoker.storage.plural import plural

    run = f"{result['run']}: {arguments.model} on {result['reference']}, {plural(result['steps'], 'step')}"
    print(f"{run}: {metrics_text(result['metrics'])}")
    if result["sample"]:
        print(paragraphs(result["sample"]))
    for entry in result["left_out"]:
        note(f"left out of {entry['split']}: {entry['reason']}: {left_out_text(entry)}")
    note(f"metrics: {result['folder']} (metrics.jsonl, TensorBoard)")
    return 0


def training_options(arguments: Namespace) -> dict[str, str]:
    """The options of a training, from its own flags and from --set."""
    options = {
        name.removeprefix("option_"): value
        for name, value in vars(arguments).items()
        if name.startswith("option_") and value is not None
    }
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {text}: expected NAME=VALUE, for example --set width=32")
        options[name] = value
    if "held_out" in options:
        note("held_out is now called eval_split, the split to evaluate on; --hold-out 10% holds out a share")
    return options


def demo(arguments: Namespace) -> int:
    """Run the whole pipeline on real input."""
    from stoker.flows.demo import run

    return run(load_settings(arguments), as_json=arguments.json)
