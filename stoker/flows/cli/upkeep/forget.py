"""`stoker forget`: take samples out of a corpus, and keep them out."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.flows.cli.output import print_json
from stoker.flows.logs import note
from stoker.flows.report.format import plural
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.storage.errors import StorageRefused
from stoker.storage.plain_file import open_plain
from stoker.storage.versions.memory.tombstones import KINDS

if TYPE_CHECKING:
    from stoker.pipelines.stages.forgetting.forget import Forgetting

_MAX_LIST = 256 * 2**20  # bytes of a file of --list
_SHOWN = 5


def forget(arguments: Namespace) -> int:
    """Take samples out, or tell which would be. Exit code 1 where --yes is missing."""
    from stoker.pipelines.stages.forgetting.forget import forget as take_out

    asked = [*_flags(arguments), *(one for path in arguments.list for one in read_list(path))]
    if not asked:
        raise UsageError(f"forget: nothing is named; give one of {', '.join(f'--{kind}' for kind in KINDS)} or --list")
    only_tell = arguments.dry_run or not arguments.yes
    store = load_settings(arguments).open_store(reading=only_tell)
    told = take_out(store, arguments.corpus, asked, dry_run=only_tell)
    if arguments.json:
        print_json(_json(told, done=not only_tell))
    else:
        _print(told, done=not only_tell)
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


def _print(told: "Forgetting", *, done: bool) -> None:
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
        print(f"no sample has {kind} {value}; it {'stays' if done else 'would stay'} out in future")
    if len(told.unknown) > _SHOWN:
        print(f"and {len(told.unknown) - _SHOWN:,} more that no sample has")
    if done and told.samples:
        note("their bytes are still in the store: in shards, raw parts and older versions")


def _json(told: "Forgetting", *, done: bool) -> dict[str, object]:  # JSON values
    return {
        "corpus": told.corpus,
        "done": done,
        "samples": {f"{told.corpus}@{version}": count for version, count in told.samples.items()},
        "view": told.view.reference if told.view else None,
        "asked": [{"kind": kind, "value": value} for kind, value in told.asked],
        "unknown": [{"kind": kind, "value": value} for kind, value in told.unknown],
    }
