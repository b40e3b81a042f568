"""`stoker help`: all names, or every option of a source, step, rule, model or command."""

import dataclasses
from argparse import Namespace
from collections.abc import Iterator

from stoker.flows.cli.output import print_json
from stoker.flows.cli.usage import parts
from stoker.flows.cli.usage.option_text import option_lines, wrapped
from stoker.flows.cli.usage.parsing import nearest
from stoker.flows.cli.usage.parts import Part
from stoker.flows.report.format import paragraphs, visible
from stoker.flows.settings import UsageError


def show_help(arguments: Namespace) -> int:
    """Print all names in groups, or all about one. Raises UsageError for a name that is not there."""
    from stoker.flows.cli.cli import parser

    commands = parser().subcommands()
    known = {kind: parts.names(kind) for kind in parts.KINDS}
    if not arguments.name:
        rows = {f"{kind}s": {name: parts.summary(kind, name) for name in known[kind]} for kind in parts.KINDS}
        groups = {"commands": {name: command.description or "" for name, command in commands.items()}} | rows
        if arguments.json:
            print_json(groups)
        else:
            _print_groups(groups)
        return 0
    if arguments.name in commands:
        text = commands[arguments.name].format_help()
        if arguments.json:
            print_json({"command": arguments.name, "help": text})
        else:
            print(text, end="")
        return 0
    found = [parts.describe(kind, arguments.name) for kind in parts.KINDS if arguments.name in known[kind]]
    if not found:
        every = [*commands, *(name for kind in parts.KINDS for name in known[kind])]
        hint = nearest(arguments.name, every) or "; `stoker help` lists all names"
        raise UsageError(f"help: nothing is called {arguments.name!r}{hint}")
    if arguments.json:
        print_json([dataclasses.asdict(part) for part in found] if len(found) > 1 else dataclasses.asdict(found[0]))
    else:
        print("\n\n".join("\n".join(_lines(part)) for part in found))
    return 0


def _print_groups(groups: dict[str, dict[str, str]]) -> None:
    widest = max(len(name) for names in groups.values() for name in names)
    for group, names in groups.items():
        print(f"{group.capitalize()}")
        for name, text in names.items():
            for line in wrapped(visible(text), indent=" " * (widest + 4), first=f"  {name:<{widest}}  "):
                print(line)
        print()
    print("stoker help NAME tells all about one of them.")


def _lines(part: Part) -> Iterator[str]:
    yield f"{part.name} ({part.kind})"
    for paragraph in paragraphs(part.text).split("\n\n"):
        yield ""
        yield from wrapped(" ".join(paragraph.split()))
    if part.options:
        yield ""
        yield "Options"
        for option in part.options:
            yield from option_lines(option)
    if part.defaults:
        defaults = ", ".join(f"{name} {value}" for name, value in part.defaults.items())
        yield ""
        yield from wrapped(f"Its defaults for options of every training (stoker help train): {defaults}")
    if part.example:
        yield ""
        yield "Example"
        yield from (f"  {line}".rstrip() for line in paragraphs(part.example).splitlines())
