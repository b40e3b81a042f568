"""What a shell completes: commands, flags, choices, and names that are known without importing anything heavy."""

import argparse
from collections.abc import Callable, Iterable

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter

from stoker.flows.cli.usage import parts
from stoker.flows.cli.usage.parsing import Parser

_PREFECT = "prefect"


def complete(parser: Parser) -> None:
    """Answer the shell and end the program, if it was a shell that asked."""
    for command in parser.subcommands().values():
        for action in command._actions:
            completer = _completer(action, parser)
            if completer is not None:
                action.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks
    argcomplete.autocomplete(parser)


def _completer(action: argparse.Action, parser: Parser) -> Callable[..., Iterable[str]] | None:
    metavar = str(action.metavar or "")
    if metavar in ("RECIPE", "FILE"):
        found: Callable[..., Iterable[str]] = FilesCompleter(("toml",))
        return found
    if metavar == "FOLDER":
        return DirectoriesCompleter()
    if metavar == "MODEL":
        return lambda **_: parts.names("model")
    if metavar == "NAME" and action.dest == "name" and not action.option_strings:
        return lambda **_: [*parser.subcommands(), *(name for kind in parts.KINDS for name in parts.names(kind))]
    if "CORPUS" in metavar:
        more = [_PREFECT] if _PREFECT in metavar else []
        return lambda parsed_args, **_: [*more, *_corpora(parsed_args)]
    return None


def _corpora(arguments: argparse.Namespace) -> list[str]:
    """The corpora of a store that is a folder; of one in S3 none, as every key pressed would ask the server."""
    from stoker.flows.settings import load
    from stoker.storage.errors import StokerError
    from stoker.storage.stores.directory import DirectoryStore
    from stoker.storage.versions import catalog

    flags = {name: getattr(arguments, name, None) for name in ("home", "store")}
    try:
        store = load(flags, config=getattr(arguments, "config", None) or "").open_store()
        return catalog.corpora(store) if isinstance(store, DirectoryStore) else []
    except StokerError:  # the command itself says what is wrong
        return []
