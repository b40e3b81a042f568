# PYTHON_ARGCOMPLETE_OK
"""The command line: its parser, and the exit code of a call.

Imports nothing heavy, so `stoker --help` answers at once. Each subcommand names its function beside its parser, as
``module:function``; only the module of the subcommand that is called is imported.
"""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from stoker.flows import logs, signals
from stoker.flows.cli.models.arguments import add_model_commands
from stoker.flows.cli.studies.arguments import add_study
from stoker.flows.cli.usage.examples import EXAMPLES
from stoker.flows.cli.usage.parsing import Parser, network_like, positive_number, whole_number
from stoker.flows.settings import RUNNERS, UsageError, asks_for_completion, prepare_environment
from stoker.release import __version__
from stoker.storage.errors import StokerError

DONE, REFUSED, USAGE = 0, 1, 2
_OF_THIS_MACHINE = {  # what is no fault of ours, by number: what helps
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space: the quota is used up",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "check owner and permissions",
    errno.EPERM: "check owner and permissions",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "look where the links lead",
    errno.ENOTDIR: "check the path",
    errno.EIO: "check the disk",
    errno.EBADF: "check where the output goes",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
}
_LONGEST_PATH = 200  # characters, in a line


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 refused, 2 wrong usage, 130 SIGINT, 143 SIGTERM."""
    try:
        with signals.handled(until_exit=True), logs.restored():
            return _run_or_refuse(argv)
    except KeyboardInterrupt as interrupt:  # also one that comes while the handlers are set, or taken away
        return _ended(str(interrupt))


def _run_or_refuse(argv: Sequence[str] | None) -> int:
    try:
        return _run(argv)
    except StokerError as error:
        logs.error(str(error))
        if signals.received() is None:
            return USAGE if isinstance(error, UsageError) else REFUSED
        return _ended()
    except BrokenPipeError:  # the reader of our output ended: `stoker show digits | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt as interrupt:
        return _ended(str(interrupt))
    except OSError as error:
        if signals.received() is not None:
            return _ended()
        if error.errno not in _OF_THIS_MACHINE:
            raise
        return _refused_by_this_machine(error)
    except BaseException:  # what a signal breaks may break as anything: Prefect raises errors of its own
        if signals.received() is None:
            raise
        return _ended()


def _run(argv: Sequence[str] | None) -> int:
    with signals.on_signal(signals.end_now):  # nothing was begun: imports are not to be interrupted by an exception
        top = parser()
        if asks_for_completion():
            from stoker.flows.cli.usage.completion import complete

            complete(top)
        arguments = top.parse_args(argv)
        prepare_environment()
        module, _, name = arguments.run.partition(":")
        function = getattr(import_module(module), name)
    logs.configure(level=arguments.log_level or "warning", format=arguments.log_format or "text")
    code: int = function(arguments)
    sys.stdout.flush()
    return code


def _refused_by_this_machine(error: OSError) -> int:
    """One line about what a file system refused: standard output on a full disk, a path that is too long."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "standard output or a file"
    if len(where) > _LONGEST_PATH:
        where = f"{where[:_LONGEST_PATH]}… ({len(where)} characters)"
    logging.getLogger(__name__).debug("%s", where, exc_info=error)
    logs.error(f"{where}: {error.strerror}; {_OF_THIS_MACHINE[error.errno or 0]}, and run again")
    try:
        sys.stdout.flush()
    except OSError:  # what is left could not be written either, and the interpreter would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return REFUSED


def _ended(next_step: str = "") -> int:
    logs.error(signals.ending(next_step))
    return signals.exit_code()


# Flags that every command has, before or after its name, and their values where they are not given.
_SHARED: Mapping[str, object] = {"home": None, "config": None, "store": None, "log_level": None, "log_format": None}


def parser() -> Parser:
    """All subcommands and options."""
    home = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    home.add_argument("--home", metavar="FOLDER", help="folder of everything kept on this machine (.stoker)")
    text = "a file of settings, read in place of stoker.toml here and your own"
    home.add_argument("--config", metavar="FILE", help=text)
    level = home.add_mutually_exclusive_group()
    text = "only results and errors"
    level.add_argument("-q", "--quiet", dest="log_level", action="store_const", const="error", help=text)
    text = "also what is done: each request tried again, each object written"
    level.add_argument("-v", "--verbose", dest="log_level", action="store_const", const="debug", help=text)
    home.add_argument("--log-format", choices=logs.FORMATS, help="of lines on standard error; json: an object each")
    store = Parser(add_help=False, parents=[home], argument_default=argparse.SUPPRESS)
    store.add_argument("--store", metavar="URL", help="where the corpora are: s3://bucket/prefix or a folder")
    top = Parser(
        prog="stoker",
        description="Collects training data, cleans it, publishes it in versions, and streams it into training.",
        epilog="Settings come from flags, STOKER_* variables and stoker.toml, in this order; see README.",
        parents=[store],
        shared=_SHARED,
    )
    top.add_argument("--version", action="version", version=f"stoker {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, parent: Parser, run: str) -> Parser:
        examples = "".join(f"\n  {line}" for line in EXAMPLES.get(name, ()))
        epilog = f"examples:{examples}" if examples else None
        command = commands.add_parser(name, help=text, description=text, parents=[parent], epilog=epilog)
        if name != "schedule":  # which declares its own
            command.add_argument("--json", action="store_true", help="the result as JSON, for programs")
        command.set_defaults(run=run)
        return command

    _add_services(add, home)
    _add_recipes(add, store)
    _add_curation(add, store)
    _add_schedule(add, store)
    _add_index(add, store)
    _add_inspection(add, store)
    _add_upkeep(add, store)
    _add_train(add, store)
    add_study(add, store)
    add_model_commands(add, store)
    _add_stream(add, store)
    text = "all names, or every option of a source, step, rule, model or command"
    add("help", text, home, run="stoker.flows.cli.help:show_help").add_argument("name", nargs="?", metavar="NAME")
    add("demo", "run the whole pipeline on real input, on this machine", home, run="stoker.flows.cli.commands:demo")
    return top


class _Add(Protocol):
    """Adds a subcommand; ``run`` is its function as ``module:function``."""

    def __call__(self, name: str, text: str, parent: Parser, run: str) -> Parser: ...


_CORPUS_HELP = "a corpus's newest version, or version V of it"
_TRUST_HELP = "the recipe may read files outside of its folder: you wrote it, or looked through it"


def _add_services(add: _Add, home: Parser) -> None:
    text = "start the S3 server, Prefect, the web page and the scheduler on this machine"
    up = add("up", text, home, run="stoker.flows.cli.commands:up")
    up.instead["store"] = "set STOKER_STORE, or store in stoker.toml: the page and scheduled runs read it, too"
    up.add_argument("--detach", action="store_true", help="run in the background; `stoker down` ends it")
    text = "open the web page of `stoker up` in your browser, signed in: all of it, a corpus, or Prefect's page"
    opened = add("open", text, home, run="stoker.flows.cli.open:open_page")
    opened.add_argument("target", nargs="?", default="", metavar="prefect|CORPUS[@V]", help="(the list of corpora)")
    text = "print the link instead, for a browser elsewhere; whoever has it is taken for you"
    opened.add_argument("--print", action="store_true", help=text)
    add("down", "end what `stoker up` started", home, run="stoker.flows.cli.commands:down")


def _add_recipes(add: _Add, store: Parser) -> None:
    text = "write one of Stoker's own recipes into this folder, to start from; without a name, list them"
    example = add("example", text, store, run="stoker.flows.cli.example:example")
    example.add_argument("name", nargs="?", default="", metavar="NAME", help="digits, film or handbook")
    text = "check a recipe, its files, schedule and store without fetching anything"
    check = add("check", text, store, run="stoker.flows.cli.check:check")
    check.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    text = "read the first N candidates and show what would become of each; stores nothing"
    check.add_argument("--sample", type=whole_number(1, 1000), metavar="N", help=text)
    text = "make a version of a recipe's corpus; run again to resume"
    ingest = add("ingest", text, store, run="stoker.flows.cli.commands:ingest")
    ingest.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    ingest.add_argument("--runner", choices=RUNNERS, help="what runs the partitions (threads)")
    ingest.add_argument("--workers", metavar="N", help="partitions at the same time (one per core)")
    text = "ask again for what was rejected, for any reason or these, but for what its owner keeps out"
    ingest.add_argument("--retry-failed", nargs="?", const="", metavar="REASON,...", help=text)
    text = "ask again whether what is kept has changed; recipe: make what an older recipe made anew by this one"
    ingest.add_argument("--refresh", nargs="?", const="kept", choices=("kept", "recipe"), help=text)
    text = "with --refresh: about so many are received of what is kept, the longest not seen first"
    ingest.add_argument("--refresh-megabytes", type=whole_number(1, 10**9), metavar="N", help=text)
    ingest.add_argument(
        "--older-than", metavar="AGE", help="with --refresh: of what was seen last so long ago, e.g. 7d"
    )
    for command in (check, ingest):
        command.add_argument("--trust", action="store_true", help=_TRUST_HELP)


def _add_curation(add: _Add, store: Parser) -> None:
    text = "decide anew, by other rules, which samples the newest version holds; nothing is fetched or copied"
    curate = add("curate", text, store, run="stoker.flows.cli.curation.curate:curate")
    curate.add_argument("what", metavar="RECIPE|CORPUS", help="a TOML file, or a corpus with the rules that it has")
    text = "an option of a rule, such as near_duplicate_texts.similarity=0.7; a rule that is not there is added"
    curate.add_argument("--set", action="append", default=[], metavar="RULE.OPTION=VALUE", help=text)
    curate.add_argument("--without", action="append", default=[], metavar="RULE", help="leave this rule out")
    text = "tell what each rule would take, with examples, and write nothing"
    curate.add_argument("--dry-run", action="store_true", help=text)
    text = "its examples as one HTML file, too, with small pictures in it"
    curate.add_argument("--page", type=Path, metavar="OUT.html", help=text)
    text = "give splits anew: samples that were trained on may come into another one"
    curate.add_argument("--resplit", action="store_true", help=text)
    text = "of equal contents in several splits drop those in the larger ones"
    curate.add_argument("--mend-leaks", action="store_true", help=text)
    text = "write a view's samples into shards of their own, for readers that know no masks: the next version"
    pack = add("pack", text, store, run="stoker.flows.cli.curation.pack:pack")
    pack.add_argument("corpus", metavar="CORPUS[@V]", help="the newest version of a corpus")
    pack.add_argument("--compact", action="store_true", help="also where nothing is masked: into fewer, fuller shards")
    text = "print where the tars of a packed version are, for webdataset and other loaders"
    urls = add("urls", text, store, run="stoker.flows.cli.curation.urls:urls")
    urls.add_argument("corpus", metavar="CORPUS[@V]", help=_CORPUS_HELP)
    urls.add_argument("--split", metavar="SPLIT", help="of this split alone")
    text = "of a store in S3: URLs that anybody can read for so long, such as 12h; at most 7d"
    urls.add_argument("--presign", metavar="AGE", help=text)


def _add_schedule(add: _Add, store: Parser) -> None:
    text = "ingest a recipe at set times, as long as `stoker up` runs; list, pause, resume, remove schedules"
    schedule = add("schedule", text, store, run="stoker.flows.cli.schedule:schedule")
    schedule.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE", help="a TOML file")
    schedule.add_argument("--cron", metavar="LINE", help='minute hour day month weekday, e.g. "0 3 * * *"')
    schedule.add_argument("--interval", metavar="TIME", help="e.g. 90s, 15m, 6h, 1d")
    schedule.add_argument("--timezone", metavar="NAME", help="of the cron line, e.g. Europe/Berlin (UTC)")
    text = "each run asks whether what is kept has changed, as ingest --refresh does"
    schedule.add_argument("--refresh", action="store_true", help=text)
    schedule.add_argument(
        "--older-than", metavar="AGE", help="with --refresh: of what was seen last so long ago, e.g. 7d"
    )
    schedule.add_argument("--train", metavar="MODEL", help="also train this model on every new version of the corpus")
    schedule.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of that training")
    schedule.add_argument("--trust", action="store_true", help=_TRUST_HELP)
    text = "how often a run is tried again that failed for a reason which may pass (2)"
    schedule.add_argument("--retries", type=whole_number(0, 10), metavar="N", help=text)
    schedule.add_argument("--retry-wait", metavar="TIME", help="how long to wait before that (10m)")
    text = "tell this address of a failure and of the recovery: any of Apprise's, e.g. mailto://...; none: nobody"
    schedule.add_argument("--notify", action="append", metavar="URL", help=text)
    schedule.add_argument("--notify-versions", action="store_true", help="also tell it of each new version")
    schedule.add_argument("--json", action="store_true", help="the list as JSON, for programs")
    change = schedule.add_mutually_exclusive_group()
    change.add_argument("--list", action="store_true", help="show the schedules, and when each runs next")
    for verb in ("pause", "resume", "remove"):
        change.add_argument(f"--{verb}", metavar="NAME", help=f"{verb} the schedule of this name")


def _add_index(add: _Add, store: Parser) -> None:
    text = "make a version of existing WebDataset tars, indexed in place"
    index = add("index", text, store, run="stoker.flows.cli.index:index")
    text = "a folder, s3://bucket/prefix, or tars of one: .../train-{000..127}.tar"
    index.add_argument("urls", metavar="URL", nargs="+", help=text)
    index.add_argument("--as", dest="name", metavar="NAME", help="name of the corpus (the last folder's)")
    text = "split of all tars, or NAME=PATTERN for those that match (from file and folder names, else train)"
    index.add_argument("--split", action="append", default=[], metavar="NAME", help=text)
    text = "where a key ends in a member's name: at its first dot, as in WebDataset, or its last"
    index.add_argument("--key", choices=("first", "last"), default="first", help=text)
    text = "take of at most N damaged tars what lies before the damage, and list them (0)"
    index.add_argument("--skip-damaged", type=int, default=0, metavar="N", help=text)
    text = "read all tars, also those that are known by size and time: a disk may have altered one"
    index.add_argument("--again", action="store_true", help=text)
    index.add_argument("--to", metavar="STORE", help="where the indexes and the version are written (the store)")
    index.add_argument("--workers", metavar="N", help="tars read at the same time (one per core)")


def _add_inspection(add: _Add, store: Parser) -> None:
    text = "the corpora and their newest versions"
    add("list", text, store, run="stoker.flows.cli.inspect:list_corpora")
    text = "what a version holds, and what was rejected"
    show = add("show", text, store, run="stoker.flows.cli.inspect:show")
    show.add_argument("corpus", metavar="CORPUS[@V]", help=_CORPUS_HELP)
    text = "list each candidate that was rejected: reason, key, URL and detail, with tabs between them"
    show.add_argument("--rejected", action="store_true", help=text)
    show.add_argument("--reason", metavar="REASON", default="", help="list those that were rejected for this reason")
    text = 'only samples for which this is true: an SQL expression over their records, e.g. "width < 512"'
    show.add_argument("--where", metavar="EXPR", help=text)
    show.add_argument("--by", metavar="COLUMN", default="", help="count samples by the values of this column")
    text = "list samples by this column of their records, largest first; +COLUMN: smallest first"
    show.add_argument("--sort", metavar="COLUMN", default="", help=text)
    text = "ask a version in SQL: SELECT over the tables samples, rejected and outcomes"
    sql = add("sql", text, store, run="stoker.flows.cli.curation.query:sql")
    sql.add_argument("corpus", metavar="CORPUS[@V]", help=_CORPUS_HELP)
    sql.add_argument("query", metavar="SELECT", help="one SELECT of DuckDB's SQL; it has no access to files or network")
    form = sql.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="all rows as CSV")
    form.add_argument("--parquet", type=Path, metavar="FILE", help="write all rows to this file, which must be new")
    text = "what changed between two versions: stoker diff digits@1 digits@2"
    diff = add("diff", text, store, run="stoker.flows.cli.inspect:diff")
    diff.add_argument("older", metavar="CORPUS[@V]")
    diff.add_argument("newer", metavar="CORPUS[@V]")
    text = "what became of a candidate, and why"
    why = add("why", text, store, run="stoker.flows.cli.inspect:why")
    why.add_argument("corpus", metavar="CORPUS[@V]")
    why.add_argument("text", metavar="KEY-or-URL", help="its key, URL, page's URL or SHA-256, or a local file's path")


_FORGOTTEN_BY = {
    "url": "samples of this URL",
    "key": "the sample with this key",
    "page": "samples of this page",
    "host": "samples whose URL or page is of this host, such as example.org, at any port that is not given",
    "author": "samples of this author, as their records name it",
    "sha256": "samples whose fetched bytes, or content, have this SHA-256",
}


def _add_upkeep(add: _Add, store: Parser) -> None:
    text = "list objects in the store that nothing needs; with --delete, remove them"
    gc = add("gc", text, store, run="stoker.flows.cli.gc:gc")
    gc.add_argument("corpora", metavar="CORPUS", nargs="*", help="(all, and what writes that never ended left behind)")
    gc.add_argument("--delete", action="store_true", help="remove what is older than --older-than")
    gc.add_argument("--older-than", metavar="AGE", default="24h", help="e.g. 90m, 24h, 7d (24h)")
    gc.add_argument("--raw", action="store_true", help="also raw parts that would spare the next ingest a fetch")
    text = "take samples out of a corpus, at once and for good: a version without them, and they stay out"
    forget = add("forget", text, store, run="stoker.flows.cli.upkeep.forget:forget")
    forget.add_argument("corpus", metavar="CORPUS", help="a corpus")
    for kind, text in _FORGOTTEN_BY.items():
        forget.add_argument(f"--{kind}", action="append", default=[], metavar=kind.upper(), help=text)
    text = 'a file with a URL, or a kind and a value ("host example.org"), in each line'
    forget.add_argument("--list", action="append", default=[], type=Path, metavar="FILE", help=text)
    text = "why, such as the number of a request; it is kept with the record, which holds hashes alone"
    forget.add_argument("--reason", default="", metavar="TEXT", help=text)
    text = "also remove the bytes of all that was ever taken out of the corpus, from all of its versions and raw parts"
    forget.add_argument("--purge", action="store_true", help=text)
    text = "with --purge, in a bucket that keeps old versions of objects: remove those too, of the whole corpus"
    forget.add_argument("--versions", action="store_true", help=text)
    forget.add_argument("--dry-run", action="store_true", help="only say how many samples of which versions are meant")
    forget.add_argument("--yes", action="store_true", help="do it; nothing takes it back")
    text = "delete a version, or a whole corpus; its number is never used again, and gc frees what it alone needed"
    delete = add("delete", text, store, run="stoker.flows.cli.upkeep.delete:delete")
    delete.add_argument(
        "corpus", metavar="CORPUS[@V]", help="version V of a corpus, or all versions and what it remembers"
    )
    delete.add_argument("--yes", action="store_true", help="do it; nothing takes it back")
    text = "read a whole version again and check every checksum and count"
    verify = add("verify", text, store, run="stoker.flows.cli.commands:verify")
    verify.add_argument("corpus", metavar="CORPUS[@V]", help=_CORPUS_HELP)
    verify.add_argument("--repair", action="store_true", help="write again what can be derived from other objects")


def _add_train(add: _Add, store: Parser) -> None:
    """Every option of training is a flag; a model's own options go by --set. No model is imported, nor torch."""
    from stoker.flows.cli.usage.parts import training_options

    text = "train a model on a corpus: stoker train cnn digits"
    train = add("train", text, store, run="stoker.flows.cli.commands:train")
    train.add_argument("model", metavar="MODEL", help="cnn, lstm, ...; `stoker train MODEL --help` shows its options")
    train.add_argument("corpus", metavar="CORPUS[@V]", help=_CORPUS_HELP)
    train.add_argument("--resume", action="store_true", help="continue from the last checkpoint of the same run")
    for option in training_options():
        flag = f"--{option.name.replace('_', '-')}"
        text = f"{option.meaning.rstrip('.')} ({option.default})".replace("%", "%%")
        choices = option.choices or None
        train.add_argument(flag, dest=f"option_{option.name}", metavar="VALUE", help=text, choices=choices)
    train.add_argument("--held-out", dest="option_held_out", help=argparse.SUPPRESS)  # old name of --eval-split
    train.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the model")
    train.more_help = _models_help


def _models_help(words: Sequence[str]) -> str:
    """The own options of the model that was named; else all models."""
    from stoker.flows.cli.usage import parts
    from stoker.flows.cli.usage.option_text import option_lines

    models = parts.names("model")
    named = next((word for word in words if word in models), None)
    if named is None:
        lines = [f"  {name:<12} {parts.summary('model', name)}" for name in models]
        return "\n".join(["models:", *lines, "  stoker train MODEL --help shows the options of one\n"])
    part = parts.describe("model", named)
    defaults = ", ".join(f"{name} {value}" for name, value in part.defaults.items())
    lines = [line for option in part.options for line in option_lines(option)]
    own = [f"  its defaults for the options above: {defaults}"] if defaults else []
    return "\n".join([f"options of {named}, by --set NAME=VALUE:", *lines, *own, ""])


def _add_stream(add: _Add, store: Parser) -> None:
    count = whole_number(1)
    text = "print samples in the order of training; with --bench, measure how fast they can be fed"
    stream = add("stream", text, store, run="stoker.flows.cli.streaming:stream")
    stream.add_argument("corpus", metavar="CORPUS[@V]", help=_CORPUS_HELP)
    stream.add_argument("--split", metavar="NAME", help="(train, or the first split)")
    stream.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="of the order (0)")
    stream.add_argument("--window", type=count, default=8, metavar="N", help="shards shuffled together (8)")
    stream.add_argument("--stored-order", action="store_true", help="not shuffled")
    stream.add_argument("--limit", type=whole_number(0), default=0, metavar="N", help="samples to print (all)")
    stream.add_argument("--bench", action="store_true", help="measure reading, decoding and both, and name the limit")
    stream.add_argument("--rate", type=positive_number, metavar="N", help="can it feed N samples/s? exit code 1: no")
    text = "can it feed this network on a GPU, as resnet50@h100, or here, as lenet@here? exit code 1: no"
    stream.add_argument("--like", type=network_like, metavar="NETWORK[@GPU]", help=text)
    stream.add_argument("--batch-size", type=count, default=128, metavar="N", help="(128)")
    stream.add_argument(
        "--size", type=whole_number(1, 16384), default=224, metavar="N", help="pixels of the random crops (224)"
    )
    stream.add_argument(
        "--workers", type=whole_number(1, 999), default=2, metavar="N", help="threads that read and decode (2)"
    )
    stream.add_argument("--seconds", type=positive_number, default=10.0, metavar="N", help="how long to measure (10)")


if __name__ == "__main__":
    sys.exit(main())
