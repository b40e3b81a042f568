"""`stoker urls`: where the tars of a packed version are, for `webdataset` and other loaders."""

from argparse import Namespace

from stoker.flows.cli.gc import seconds_of
from stoker.flows.cli.output import print_json, print_text
from stoker.flows.logs import note
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.storage.errors import NotFound, StorageRefused
from stoker.storage.plural import plural
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.memory.taken_out import count_taken_out
from stoker.storage.versions.tar_store import store_of_tars

_MAX_S = 7 * 86_400  # that a signature of S3 may be valid


def urls(arguments: Namespace) -> int:
    """Print the URLs, one a line. Raises StorageRefused for a view: its tars hold more samples than it has."""
    store = load_settings(arguments).open_store(reading=True)
    manifest = load_manifest(store, arguments.corpus)
    if not manifest.is_packed:
        raise StorageRefused(
            f"{manifest.reference}: its tars hold {plural(manifest.masked, 'sample')} that it leaves out, which only "
            f"Stoker's readers know; `stoker pack {manifest.corpus}` makes a version whose tars hold its samples alone"
        )
    splits = _splits(manifest, arguments.split)
    tars = store_of_tars(store, manifest)
    valid_s = _valid_s(tars, arguments.presign)
    shards = [shard for shard in manifest.shards if shard.split in splits]
    found = [(shard, _url(tars, shard.key, valid_s)) for shard in shards]
    if arguments.json:
        rows = [
            {"split": shard.split, "url": url, "samples": shard.samples, "size": shard.size, "sha256": shard.sha256}
            for shard, url in found
        ]
        print_json({"reference": manifest.reference, "tars": rows})
    else:
        print_text("\n".join(url for _, url in found))
    if gone := count_taken_out(store, shards):
        note(
            f"{plural(gone, 'sample')} of it taken out since by `stoker forget`: whoever reads tars gets them, unless "
            "they were purged; name a newer version"
        )
    return 0


def _splits(manifest: Manifest, split: str | None) -> list[str]:
    if split is None or split in manifest.splits:
        return [split] if split is not None else list(manifest.splits)
    raise NotFound(f"{manifest.reference} has no split {split[:80]!r}; there are: {', '.join(manifest.splits)}")


def _valid_s(tars: Store, age: str | None) -> int | None:
    if age is None:
        return None
    if not isinstance(tars, S3Store):
        raise UsageError(f"urls --presign: {tars.url} is not in S3: its files need no signature")
    seconds = round(seconds_of(age, "--presign"))
    if not 1 <= seconds <= _MAX_S:
        raise UsageError(f"urls --presign {age}: expected 1s to 7d")
    return seconds


def _url(tars: Store, key: str, valid_s: int | None) -> str:
    if valid_s is not None and isinstance(tars, S3Store):
        return tars.presigned(key, valid_s=valid_s)
    path = tars.path(key)
    return f"{tars.url}/{key}" if path is None else str(path.absolute())
