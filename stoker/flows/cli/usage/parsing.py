"""argparse with flags before and after the subcommand, one line for what is wrong, and the nearest right name.

Flags that all commands share are declared for the whole and for each subcommand. argparse lets the defaults of a
subcommand replace what was given before it, so they have none: ``Parser.parse_args`` adds them at the end.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

USAGE = 2  # exit code for wrong usage


class Parser(argparse.ArgumentParser):
    """A command's parser: a mistake ends the program with one line and exit code 2.

    Args:
        shared: defaults of the flags that may stand before and after the subcommand, by their attributes.
        options: of argparse.ArgumentParser.
    """

    def __init__(self, *, shared: Mapping[str, object] | None = None, **options: Any) -> None:  # Any: argparse's own
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter} | options, allow_abbrev=False)
        self._shared = dict(shared or {})
        self._words: list[str] = []
        self.instead: dict[str, str] = {}  # of shared flags that mean nothing here, by attribute: what does it
        self.more_help: Callable[[Sequence[str]], str] | None = None  # of the words given; behind the options

    def parse_args(  # type: ignore[override]  # the namespace is always a new one
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """The arguments, with the defaults of shared flags. Ends the program for wrong usage."""
        arguments: argparse.Namespace
        arguments, extra = self.parse_known_args(args)
        command = self.subcommands().get(getattr(arguments, "command", None) or "", self)
        if extra:
            command.error(f"unexpected argument {extra[0]!r}")
        for name, default in self._shared.items():
            if not hasattr(arguments, name):
                setattr(arguments, name, default)
            elif all(name != action.dest for action in command._actions):
                flag = next(action.option_strings[-1] for action in self._actions if action.dest == name)
                instead = f"; {command.instead[name]}" if name in command.instead else ""
                command.error(f"{flag} means nothing to this command{instead}")
        return arguments

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # Any: argparse has overloads
        """As argparse's. An unknown flag is refused first, before what is missing because of it."""
        self._words = words = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown_flags(words)
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """End the program with one line and exit code 2."""
        from stoker.flows.report.format import visible

        command = self.prog.removeprefix("stoker").strip()
        hint = "" if "did you mean" in message else f"; `{self.prog} --help` shows what it takes"
        self.exit(USAGE, f"stoker: {f'{command}: ' if command else ''}{visible(message)}{hint}\n")

    def _print_message(self, message: str, file: Any = None) -> None:  # Any: argparse's own protocol
        """As argparse's, which says nothing where a help or a version cannot be written."""
        if message:
            file = file or sys.stderr
            file.write(message)
            file.flush()

    def format_help(self) -> str:
        """As argparse's, with what depends on the other words."""
        more = self.more_help(self._words) if self.more_help else ""
        return super().format_help() + (f"\n{more}" if more else "")

    def subcommands(self) -> Mapping[str, "Parser"]:
        """The parsers of the subcommands, by name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found: Mapping[str, Parser] = action.choices
                return found
        return {}

    def _refuse_unknown_flags(self, words: Sequence[str]) -> None:
        """Name the nearest flag of this parser; a parser with subcommands looks no further than the subcommand."""
        position = 0
        while position < len(words) and words[position] != "--":
            word = words[position]
            position += 1
            if len(word) < 2 or word[0] != "-" or self._negative_number_matcher.match(word):
                if self.subcommands():
                    return
                continue
            name = word.partition("=")[0]
            action = self._option_string_actions.get(name) or self._option_string_actions.get(word[:2])
            if action is None or (word.startswith("--") and name not in self._option_string_actions):
                flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
                self.error(f"unknown option {name}{nearest(name, flags)}")
            if action.nargs is None and "=" not in word:
                position += 1  # its value

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"no command is called {value!r}{nearest(str(value), choices)}")
        expected = f"expected one of: {', '.join(choices)}"
        raise argparse.ArgumentError(action, f"{value!r}{nearest(str(value), choices) or f'; {expected}'}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about a wrong name; "" where nothing is near.

    >>> nearest("ingset", ["ingest", "index"]), nearest("x", ["ingest"])
    ("; did you mean 'ingest'?", '')
    """
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of a flag.

    >>> whole_number(1)("12")
    12
    """
    expected = f"expected a whole number {f'from {least} to {most}' if most is not None else f'of {least} or more'}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: {expected}") from None
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text!r}: {expected}")
        return value

    return parse


def positive_number(text: str) -> float:
    """The type of a flag.

    >>> positive_number("0.5")
    0.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def network_like(text: str) -> str:
    """The type of a flag: a network, or one on a device, of which the consumption is known.

    >>> network_like("resnet50@h100")
    'resnet50@h100'
    """
    from stoker.storage.errors import StokerError
    from stoker.training.feeding.consumption import parse_like

    try:
        parse_like(text)
    except StokerError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
