"""`stoker forget`: take samples out of a corpus, and keep them out."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.flows.cli.output import print_json, print_text
from stoker.flows.logs import note
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.storage.errors import StorageRefused
from stoker.storage.plain_file import open_plain
from stoker.storage.plural import plural
from stoker.storage.versions.memory.tombstones import KINDS

if TYPE_CHECKING:
    from stoker.pipelines.stages.forgetting.forget import Forgetting
    from stoker.pipelines.stages.forgetting.purge import Purge
    from stoker.storage.stores.store import Store

_MAX_LIST = 256 * 2**20  # bytes of a file of --list
_SHOWN = 5


def forget(arguments: Namespace) -> int:
    """Take samples out, or tell which would be. Exit code 1 where --yes is missing."""
    from stoker.pipelines.stages.forgetting.forget import forget as take_out
    from stoker.pipelines.stages.forgetting.purge import purge

    asked = [*_flags(arguments), *(one for path in arguments.list for one in read_list(path))]
    if not asked and not arguments.purge:
        raise UsageError(f"forget: nothing is named; give one of {', '.join(f'--{kind}' for kind in KINDS)} or --list")
    only_tell = arguments.dry_run or not arguments.yes
    settings = load_settings(arguments)
    store = settings.open_store(reading=only_tell)
    told = take_out(store, arguments.corpus, asked, dry_run=only_tell, reason=arguments.reason) if asked else None
    if told and not arguments.json:
        _print(told, done=not only_tell, purged=arguments.purge)
    purged = None
    if arguments.purge and only_tell:
        note("the bytes of all that was ever taken out would be removed from the store, of all versions")
    elif arguments.purge:
        purged = purge(store, arguments.corpus, all_versions=arguments.versions, scratch=settings.home / "scratch")
    if arguments.json:
        content = _json(told, done=not only_tell) if told else {"corpus": arguments.corpus, "done": not only_tell}
        print_json(content | ({"purge": _purge_json(purged)} if purged else {}))
    elif purged:
        _print_purge(store, purged)
    if only_tell and not arguments.dry_run:
        raise StorageRefused(f"{arguments.corpus}: nothing was done; --yes does it, and nothing takes it back")
    return 0


def _flags(arguments: Namespace) -> Iterator[tuple[str, str]]:
    for kind in KINDS:
        yield from ((kind, value) for value in getattr(arguments, kind))


def read_list(path: Path) -> Iterator[tuple[str, str]]:
    """Kind and value of each line of a file: "host example.org", or a URL alone. Raises UsageError."""
    try:
        with open_plain(path) as file:
            payload = file.read(_MAX_LIST + 1)
        if len(payload) > _MAX_LIST:
            raise UsageError(f"forget: {path}: more than the {_MAX_LIST:,} bytes that are read of a list")
        lines = payload.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"forget: {path}: {error.strerror}; expected a file with a URL in each line") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"forget: {path}: not UTF-8 at byte {error.start:,}") from error
    for number, line in enumerate(lines, 1):
        kind, _, value = line.strip().partition(" ")
        if not kind:
            continue
        if not value and "://" in kind:
            yield "url", kind
        elif kind in KINDS and value:
            yield kind, value
        else:
            raise UsageError(
                f"forget: {path}, line {number}: {line.strip()[:80]!r}; expected a URL, or one of {', '.join(KINDS)}, "
                "a space and a value"
            )


def _print(told: "Forgetting", *, done: bool, purged: bool) -> None:
    verb = "taken out" if done else "would be taken out"
    if told.samples:
        counts = ", ".join(
            f"{told.corpus}@{version} {count:,}" for version, count in sorted(told.samples.items(), reverse=True)
        )
        print(f"samples that {'were' if done else ''} {verb}, by version: {counts}".replace("  ", " "))
    else:
        print(f"no sample of {told.corpus} is meant")
    if told.view:
        print(f"{told.view.reference}: {plural(told.view.samples, 'sample')}, without them")
    for kind, value in told.unknown[:_SHOWN]:
        print_text(f"no sample has {kind} {value}; it {'stays' if done else 'would stay'} out in future")
    if len(told.unknown) > _SHOWN:
        print(f"and {len(told.unknown) - _SHOWN:,} more that no sample has")
    if told.may_return:
        note(
            f"{plural(len(told.may_return), 'sample')} left out as near-duplicates or copies of these may come back: "
            f"{_first(told.may_return)}; forget them too, by --key, if they are meant"
        )
    if told.copies:
        note(
            f"{plural(len(told.copies), 'sample')} of other names with the same bytes "
            f"{'stay' if done else 'would stay'}, in older versions too: {_first(told.copies)}; forget them too, "
            "by --key or --sha256, if they are meant"
        )
    if done and told.samples and not purged:
        note("their bytes are still in the store, in shards, raw parts and older versions: --purge removes them")


def _first(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + ", ..." * (len(keys) > _SHOWN)


def _print_purge(store: "Store", purged: "Purge") -> None:
    receipt = purged.receipt
    if not purged.new:
        print(f"{purged.corpus}: the store holds nothing any more of what was taken out")
    if not purged.key:
        return
    versions = ", ".join(f"{version} {count:,}" for version, count in receipt["versions"].items())
    print(f"purged: {plural(receipt['candidates'], 'candidate')}; samples by version: {versions or 'none'}")
    print(f"written anew without them: {plural(len(receipt['objects']), 'object')}")
    if receipt["runs"]:
        print(f"training runs that read these versions: {', '.join(receipt['runs'])}")
    print(f"receipt: {store.url}/{purged.key}")
    for place in receipt["unreached"]:
        note(f"not reached: {place}")


def _purge_json(purged: "Purge") -> dict[str, object]:  # JSON values
    return {"new": purged.new, "record": purged.key, "receipt": purged.receipt}


def _json(told: "Forgetting", *, done: bool) -> dict[str, object]:  # JSON values
    return {
        "corpus": told.corpus,
        "done": done,
        "samples": {f"{told.corpus}@{version}": count for version, count in told.samples.items()},
        "view": told.view.reference if told.view else None,
        "may_return": list(told.may_return),
        "copies": list(told.copies),
        "asked": [{"kind": kind, "value": value} for kind, value in told.asked],
        "unknown": [{"kind": kind, "value": value} for kind, value in told.unknown],
    }
