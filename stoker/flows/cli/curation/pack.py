"""`stoker pack`: the newest version in shards of its own, where it is a view."""

from argparse import Namespace

from stoker.flows.cli.output import print_json, published_json
from stoker.flows.logs import note
from stoker.flows.report.format import size_text
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.storage.plural import plural


def pack(arguments: Namespace) -> int:
    """Make the next version of the samples of the newest one, packed."""
    from stoker.pipelines.stages.views.pack_again import pack_again
    from stoker.storage.versions import catalog

    settings = load_settings(arguments)
    store = settings.open_store()
    corpus, version = catalog.parse_reference(arguments.corpus)
    newest = max(catalog.versions(store, corpus), default=None)
    if version is not None and newest is not None and version != newest:
        raise UsageError(
            f"pack {arguments.corpus}: only the newest version is packed, which is {corpus}@{newest}; the next "
            "one would hold what an old one held"
        )
    published = pack_again(store, corpus, settings.home / "scratch", compact=arguments.compact)
    manifest = published.manifest
    if arguments.json:
        print_json(published_json(manifest, new=published.new))
        return 0
    print(f"{manifest.reference}: {plural(manifest.samples, 'sample')}, {size_text(manifest.size)}")
    if not published.new:
        note("it is packed already, so no version was made")
    return 0
