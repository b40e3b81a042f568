"""Subcommands that only read: list, show, diff, why. Each prints to stdout and returns the exit code."""

from argparse import Namespace

from rich.console import Console

from stoker.flows.start import load_settings
from stoker.storage.versions.manifest import load_manifest


def list_corpora(arguments: Namespace) -> int:
    """Print the corpora of the store."""
    from stoker.flows.cli.show import print_corpora

    print_corpora(load_settings(arguments).open_store(reading=True), Console())
    return 0


def show(arguments: Namespace) -> int:
    """Print a version's report, for a person or as JSON."""
    import json

    from stoker.flows.cli.show import print_version, version_json

    manifest = load_manifest(load_settings(arguments).open_store(reading=True), arguments.corpus)
    if arguments.json:
        print(json.dumps(version_json(manifest), indent=1, ensure_ascii=False))
    else:
        print_version(manifest, Console())
    return 0


def diff(arguments: Namespace) -> int:
    """Print what changed between two versions."""
    from stoker.flows.cli.show import print_difference

    store = load_settings(arguments).open_store(reading=True)
    print_difference(load_manifest(store, arguments.older), load_manifest(store, arguments.newer), store, Console())
    return 0


def why(arguments: Namespace) -> int:
    """Print what became of a candidate."""
    from stoker.flows.cli.show import print_lineages
    from stoker.pipelines.stages.why import find_lineages
    from stoker.storage.errors import NotFound

    store = load_settings(arguments).open_store(reading=True)
    manifest = load_manifest(store, arguments.corpus)
    if manifest.is_indexed:
        raise NotFound(
            f"{manifest.reference}: Stoker did not write its tars, so what became of a candidate is unknown; what is "
            f"in it: stoker stream {manifest.reference} --json"
        )
    lineages = find_lineages(store, manifest, arguments.text)
    if not lineages:
        raise NotFound(
            f"{manifest.reference}: its sources never offered {arguments.text!r}; "
            "expected a sample's key, URL, page's URL or SHA-256"
        )
    print_lineages(lineages, Console())
    return 0
