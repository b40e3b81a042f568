"""The subcommands that only look: list, show, diff, why. Each prints to stdout and returns the exit code."""

from argparse import Namespace

from rich.console import Console

from stoker.flows.start import manifest_of, settings_of


def list_command(arguments: Namespace) -> int:
    """The corpora of the store."""
    from stoker.flows.cli.show import list_corpora

    list_corpora(settings_of(arguments).open_store(), Console())
    return 0


def show_command(arguments: Namespace) -> int:
    """A version, for a person or as JSON."""
    import json

    from stoker.flows.cli.show import show, show_json

    manifest = manifest_of(settings_of(arguments).open_store(), arguments.corpus)
    if arguments.json:
        print(json.dumps(show_json(manifest), indent=1, ensure_ascii=False))
    else:
        show(manifest, Console())
    return 0


def diff_command(arguments: Namespace) -> int:
    """What changed between two versions."""
    from stoker.flows.cli.show import diff

    store = settings_of(arguments).open_store()
    diff(manifest_of(store, arguments.older), manifest_of(store, arguments.newer), store, Console())
    return 0


def why_command(arguments: Namespace) -> int:
    """What became of a candidate."""
    from stoker.flows.cli.show import why
    from stoker.pipelines.stages.why import find_lineages
    from stoker.storage.errors import NotFound

    store = settings_of(arguments).open_store()
    manifest = manifest_of(store, arguments.corpus)
    if manifest.is_indexed:
        raise NotFound(
            f"{manifest.reference}: others wrote its tars, so what became of a candidate is unknown; what is in it: "
            f"stoker stream {manifest.reference} --json"
        )
    lineages = find_lineages(store, manifest, arguments.text)
    if not lineages:
        raise NotFound(
            f"{manifest.reference}: its sources never offered {arguments.text!r}; "
            "expected a sample's key, URL, page's URL or SHA-256"
        )
    why(lineages, Console())
    return 0
