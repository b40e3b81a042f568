"""Tables, bars and headings for a terminal, a pipe or a file. Control characters in untrusted text are replaced."""

import io
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stoker.flows.report import format as text_format

WIDTH = 100  # tables are no wider on wider terminals: long lines are hard to follow
_UNLIMITED = 1_000_000  # columns: in a pipe or a file, addresses and checksums stay whole


class Sheet:
    """Writes a report to a console. Every text goes through ``visible``; none is read as markup."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_terminal = console.is_terminal
        if not self._is_terminal:
            console.width = _UNLIMITED  # rich prints no wider than its console
        self._width = min(console.width, WIDTH) if self._is_terminal else _UNLIMITED
        self._plain = not console.encoding.lower().startswith("utf")
        if self._plain and isinstance(console.file, io.TextIOWrapper):
            console.file.reconfigure(errors="replace")  # a title in Chinese must not end the report

    def title(self, text: str, aside: str = "") -> None:
        """The first line of a report."""
        line = Text(text_format.visible(text), style="bold")
        if aside:
            line.append(f"   {text_format.visible(aside)}", style="dim not bold")
        self._put(line)

    def heading(self, text: str) -> None:
        """The first line of a section."""
        self._put(Text(""))
        self._put(Text(text_format.visible(text), style="bold"))

    def say(self, text: str) -> None:
        """A paragraph."""
        self._put(Text(text_format.visible(text)))

    def note(self, text: str) -> None:
        """A small line below a table."""
        self._put(Padding(Text(text_format.visible(text), style="dim"), (0, 0, 0, 2), expand=False))

    def mark(self, text: str, style: str) -> None:
        """A result, in colour."""
        self._put(Text(text_format.visible(text), style=f"bold {style}"))

    def facts(self, rows: Iterable[tuple[str, str]], *, style: str = "dim") -> None:
        """A table of names and values; long values are wrapped beside their names."""
        table = self._table()
        table.add_column(no_wrap=True, style=style)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(_text(name), _text(value))
        self._put(table)

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[Text | str]], *, heads: bool = True) -> None:
        """A table with column heads.

        The last character of a head sets the column's format: ``>`` right-aligned numbers, ``…`` texts that may be cut,
        ``*`` texts that are wrapped.
        """
        table = self._table(heads)
        for head in columns:
            name = head.rstrip(">…*")
            if head.endswith(">"):
                table.add_column(name, justify="right", no_wrap=True)
            elif head.endswith("…"):
                table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=self._width // 3)
            elif head.endswith("*"):
                table.add_column(name, overflow="fold", ratio=1)
            else:
                table.add_column(name, no_wrap=True)
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else _text(cell) for cell in row))
        self._put(table)

    def bar(self, share: float, width: int, style: str = "yellow") -> Text:
        """A bar, its whole width a share of 1."""
        characters = text_format.bar(share, width)
        return Text("#" * len(characters) if self._plain else characters, style=style)

    def histogram(self, counts: Iterable[int]) -> Text:
        """A histogram of one line's height."""
        characters = text_format.sparkline(list(counts))
        if self._plain:
            characters = characters.translate(str.maketrans("▁▂▃▄▅▆▇█", ".,:;=+*#"))
        return Text(characters, style="yellow")

    def _table(self, heads: bool = False) -> Table:
        return Table(box=None, show_header=heads, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)

    def _put(self, part: Text | Table | Padding) -> None:
        if isinstance(part, Table):
            part = Padding(part, (0, 0, 0, 2), expand=False)
        if self._is_terminal:
            self._console.print(part, markup=False, highlight=False, emoji=False, width=self._width)
            return
        with self._console.capture() as captured:
            self._console.print(part, markup=False, highlight=False, emoji=False, width=self._width, crop=False)
        # Without the blanks that fill a table's last column: one long cell would make every line as long.
        self._console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _text(value: str) -> Text:
    return Text(text_format.visible(value))
