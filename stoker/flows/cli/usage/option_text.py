"""Options in lines for a terminal, or for a pipe, where none is wrapped."""

import shutil
import sys
import textwrap
from collections.abc import Iterator

from stoker.flows.cli.usage.parts import Option
from stoker.flows.report.format import visible

_WIDTH = 100  # columns, at most


def option_lines(option: Option) -> Iterator[str]:
    """An option: its name, type and default, and below it what it means."""
    default = "needed" if option.default is None else f"default {option.default}"
    yield from wrapped(f"{option.name}: {option.type}; {default}", indent="      ", first="  ")
    if option.meaning:
        yield from wrapped(visible(option.meaning), indent="      ", first="      ")


def wrapped(text: str, *, indent: str = "", first: str = "") -> list[str]:
    """Lines for a terminal; one line elsewhere."""
    if not sys.stdout.isatty():
        return [first + text]
    width = min(shutil.get_terminal_size().columns, _WIDTH)
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
