"""The command line: what can be asked, and how an answer or an error ends the process.

Imports nothing heavy: `stoker --help` answers at once. Each subcommand is a function of ``stoker.flows.cli.commands``.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from stoker import __version__
from stoker.flows.settings import RUNNERS, UsageError
from stoker.storage.errors import StokerError

_WHERE = dict.fromkeys(("list", "show", "diff", "why"), "stoker.flows.cli.inspect") | {
    "gc": "stoker.flows.cli.gc",
    "stream": "stoker.flows.cli.streaming",
    "index": "stoker.flows.cli.index",
}
DONE, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 refused, 2 wrong usage, 130 interrupted."""
    arguments = parser().parse_args(argv)
    try:
        module = import_module(_WHERE.get(arguments.command, "stoker.flows.cli.commands"))
        code: int = getattr(module, f"{arguments.command}_command")(arguments)
        sys.stdout.flush()
    except StokerError as error:
        print(f"stoker: {_one_line(str(error))}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else REFUSED
    except KeyboardInterrupt as interrupt:
        next_step = str(interrupt) or "the same command resumes"
        print(f"stoker: interrupted; {next_step}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output had enough: `stoker show digits | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _one_line(text: str) -> str:
    """An error's message, with nothing in it that a terminal would obey: it may quote a web server or a file."""
    from stoker.flows.report.format import visible

    return visible(text)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="stoker",
        description="Mines training data, washes it, and feeds it to deep networks.",
        epilog="Settings come from flags, STOKER_* variables and stoker.toml, in this order; see README.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"stoker {__version__}")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--home", metavar="FOLDER", help="folder of everything kept on this machine (.stoker)")
    stored = argparse.ArgumentParser(add_help=False, parents=[where])
    stored.add_argument("--store", metavar="URL", help="where corpora lie: s3://bucket/prefix or a folder")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, words: str, parent: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, description=words, parents=[parent], allow_abbrev=False)

    one = command("up", "start the S3 server, Prefect, the web page and the scheduler on this machine", where)
    one.add_argument("--detach", action="store_true", help="in the background; `stoker down` ends them")
    command("down", "end what `stoker up` started", where)
    _add_recipes(command, stored)
    _add_index(command, stored)
    _add_looking(command, stored)
    one = command("train", "train a model on a corpus: stoker train cnn digits", stored)
    one.add_argument("model", metavar="MODEL", help="cnn, lstm, or another file of stoker/training/models")
    one.add_argument("corpus", metavar="CORPUS[@V]", help="the newest version, or that of a number")
    one.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the same run")
    _add_training(one)
    _add_stream(command, stored)
    one = command("demo", "the whole road on real input, on this machine", where)
    return top


class _Command(Protocol):
    def __call__(self, name: str, words: str, parent: argparse.ArgumentParser) -> argparse.ArgumentParser: ...


def _add_recipes(command: _Command, stored: argparse.ArgumentParser) -> None:
    one = command("check", "check a recipe without fetching anything", stored)
    one.add_argument("recipe", type=Path, metavar="RECIPE", help="a file in TOML")
    one = command("ingest", "make a version of a recipe's corpus; run again to resume", stored)
    one.add_argument("recipe", type=Path, metavar="RECIPE", help="a file in TOML")
    one.add_argument("--runner", choices=RUNNERS, help="what runs the partitions (threads)")
    one.add_argument("--workers", metavar="N", help="partitions at the same time (one per core)")
    one = command("schedule", "ingest a recipe by itself, as long as `stoker up` runs; list, pause, remove", stored)
    one.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE", help="a file in TOML")
    one.add_argument("--cron", metavar="LINE", help='minute hour day month weekday, e.g. "0 3 * * *"')
    one.add_argument("--interval", metavar="TIME", help="e.g. 90s, 15m, 6h, 1d")
    one.add_argument("--timezone", metavar="NAME", help="of the cron line, e.g. Europe/Berlin (UTC)")
    one.add_argument("--train", metavar="MODEL", help="also train this model on every new version of the corpus")
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of that training")
    change = one.add_mutually_exclusive_group()
    change.add_argument("--list", action="store_true", help="what is scheduled, and when it runs next")
    for verb in ("pause", "resume", "remove"):
        change.add_argument(f"--{verb}", metavar="NAME", help=f"{verb} what is scheduled under this name")


def _add_training(one: argparse.ArgumentParser) -> None:
    """The options of every training as flags; those of a model, which is not imported here, by --set."""
    import dataclasses

    from stoker.training.run.options import TrainOptions

    for option in dataclasses.fields(TrainOptions):
        flag = f"--{option.name.replace('_', '-')}"
        words = f"{option.default} unless the model says otherwise"
        one.add_argument(flag, dest=f"option_{option.name}", metavar="VALUE", help=words)
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the model")


def _add_stream(command: _Command, stored: argparse.ArgumentParser) -> None:
    one = command("stream", "samples in the order of training; with --bench, how fast they can be fed", stored)
    one.add_argument("corpus", metavar="CORPUS[@V]", help="the newest version, or that of a number")
    one.add_argument("--split", metavar="NAME", help="train unless the version has none")
    one.add_argument("--seed", type=int, default=0, metavar="N", help="of the order (0)")
    one.add_argument("--window", type=int, default=8, metavar="N", help="shards shuffled among each other (8)")
    one.add_argument("--stored-order", action="store_true", help="not shuffled")
    one.add_argument("--limit", type=int, default=0, metavar="N", help="samples that are printed (all of an epoch)")
    one.add_argument("--json", action="store_true", help="as JSON, for programs")
    one.add_argument("--bench", action="store_true", help="measure reading, decoding and both, and say what limits")
    one.add_argument("--rate", type=float, metavar="N", help="can it feed N samples/s? exit code 1: no")
    one.add_argument("--batch-size", type=int, default=128, metavar="N", help="(128)")
    one.add_argument("--size", type=int, default=224, metavar="PIXELS", help="of the random crops of images (224)")
    one.add_argument("--workers", type=int, default=2, metavar="N", help="threads that read and decode (2)")
    one.add_argument("--seconds", type=float, default=10.0, metavar="N", help="how long to measure (10)")


def _add_index(command: _Command, stored: argparse.ArgumentParser) -> None:
    one = command("index", "make a version of WebDataset tars that others wrote; they stay where they are", stored)
    words = "a folder, s3://bucket/prefix, or tars of one: .../train-{000..127}.tar"
    one.add_argument("urls", metavar="URL", nargs="+", help=words)
    one.add_argument("--as", dest="name", metavar="NAME", help="of the corpus (the last folder's)")
    words = "of all tars, or NAME=PATTERN of those that match (what their names or folders say, else train)"
    one.add_argument("--split", action="append", default=[], metavar="NAME", help=words)
    one.add_argument("--to", metavar="STORE", help="where the indexes and the version go (the store)")
    one.add_argument("--workers", metavar="N", help="tars read at the same time (one per core)")


def _add_looking(command: _Command, stored: argparse.ArgumentParser) -> None:
    command("list", "the corpora and their newest versions", stored)
    one = command("show", "what a version holds, and what was refused", stored)
    one.add_argument("corpus", metavar="CORPUS[@V]", help="the newest version, or that of a number")
    one.add_argument("--json", action="store_true", help="as JSON, for programs")
    one = command("diff", "what changed between two versions: stoker diff digits@1 digits@2", stored)
    one.add_argument("older", metavar="CORPUS[@V]")
    one.add_argument("newer", metavar="CORPUS[@V]")
    one = command("why", "what became of a candidate, and why", stored)
    one.add_argument("corpus", metavar="CORPUS[@V]")
    one.add_argument("text", metavar="KEY-or-URL", help="its key, URL, page's URL or SHA-256")
    one = command("gc", "what lies in the store that no version needs; with --delete, remove it", stored)
    one.add_argument("corpora", metavar="CORPUS", nargs="*", help="(all, and what is left of writes that never ended)")
    one.add_argument("--delete", action="store_true", help="remove what is older than --older-than")
    one.add_argument("--older-than", metavar="AGE", default="24h", help="e.g. 90m, 24h, 7d (24h)")
    one.add_argument("--raw", action="store_true", help="also raw parts that the next ingest would not fetch again")
    one.add_argument("--json", action="store_true", help="as JSON, for programs")
    one = command("verify", "read everything of a version again and check every checksum and count", stored)
    one.add_argument("corpus", metavar="CORPUS[@V]")


if __name__ == "__main__":
    sys.exit(main())
