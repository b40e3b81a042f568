"""Subcommands that run something. Each function gets the parsed arguments and returns the exit code."""

import ipaddress
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from stoker.flows import signals, start
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings

if TYPE_CHECKING:
    from stoker.storage.versions.manifest import Manifest


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def up(arguments: Namespace) -> int:
    """Run all services until interrupted, or start them in the background."""
    from stoker.flows import running
    from stoker.flows.services.up import HOW_TO_OPEN, addresses, run_services, start_in_background

    settings = load_settings(arguments)
    if not ipaddress.ip_address(settings.web_host).is_loopback:
        _report(
            f"the page listens at {settings.web_host}: without TLS before it, the owner's token is sent in clear text"
        )
    if arguments.detach:
        print(addresses(start_in_background(settings)))
        _report(f"{HOW_TO_OPEN}\nin the background; `stoker down` ends it")
    elif not run_services(settings, _report):
        _report("`stoker up` is running already")
        print(addresses(running.load(settings.home)))
        _report(HOW_TO_OPEN)
    return 0


def down(arguments: Namespace) -> int:
    """End all services."""
    from stoker.flows.services.up import stop_services

    settings = load_settings(arguments)
    stopped = stop_services(settings, _report)
    _report(f"stopped; data stay in {settings.home}" if stopped else "nothing was running")
    return 0


def ingest(arguments: Namespace) -> int:
    """Make a version of a recipe's corpus."""
    from stoker.pipelines.recipe import load

    settings = load_settings(arguments, arguments.recipe)
    manifest, new = start.run_ingest(settings, load(arguments.recipe), trusted=arguments.trust)
    _print_version(manifest, new=new)
    return 0


def _print_version(manifest: "Manifest", *, new: bool) -> None:
    from stoker.flows.report.format import size_text

    splits = ", ".join(f"{name} {split.samples:,}" for name, split in manifest.splits.items())
    print(f"{manifest.reference}: {manifest.samples:,} samples ({splits}), {size_text(manifest.size)}")
    rejected = ", ".join(f"{reason} {count:,}" for reason, count in sorted(manifest.rejected.items()))
    if rejected:
        print(f"left out of {manifest.read:,}: {rejected}")
    if not new:
        _report("nothing changed since this version, so no new one was made")
    _report(f"next: stoker show {manifest.reference}")


def verify(arguments: Namespace) -> int:
    """Read a version again and print what differs from its manifest."""
    from rich.console import Console

    from stoker.flows.cli.show import print_verification
    from stoker.storage.versions.manifest import load_manifest

    settings = load_settings(arguments)
    reference = load_manifest(settings.open_store(reading=True), arguments.corpus).reference
    result = start.run_verification(settings, reference)
    print_verification(result, reference, Console())
    return 1 if result.problems else 0


def train(arguments: Namespace) -> int:
    """Train a model on a version."""
    from stoker.flows.report.format import paragraphs

    settings, options = load_settings(arguments), training_options(arguments)
    signals.set_next_step("the same command with --resume goes on")
    result = start.run_training(settings, arguments.model, arguments.corpus, options, resume=arguments.resume)
    from stoker.flows.train import metrics_text

    run = f"{result['run']}: {arguments.model} on {result['reference']}, {result['steps']:,} steps"
    print(f"{run}: {metrics_text(result['metrics'])}")
    if result["sample"]:
        print(paragraphs(result["sample"]))
    _report(f"metrics: {result['folder']} (metrics.jsonl, TensorBoard)")
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
    return options


def demo(arguments: Namespace) -> int:
    """Run the whole pipeline on real input."""
    from stoker.flows.demo import run

    return run(load_settings(arguments))
