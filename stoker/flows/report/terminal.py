"""Tables, bars and headings for a terminal of 80 columns, a pipe or a file. Foreign text cannot act in them."""

import io
from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stoker.flows.report import format as text_format

WIDTH = 100  # wider terminals get no wider tables: eyes lose the line


class Sheet:
    """Writes to a console: every text goes through ``visible``, none is read as markup."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, WIDTH)
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
        """A verdict."""
        self._put(Text(text_format.visible(text), style=f"bold {style}"))

    def facts(self, rows: Iterable[tuple[str, str]], *, style: str = "dim") -> None:
        """Names and values; long values are wrapped beside their names."""
        table = self._table()
        table.add_column(no_wrap=True, style=style)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(_text(name), _text(value))
        self._put(table)

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[Text | str]], *, heads: bool = True) -> None:
        """Rows under heads; a head that ends with ``>`` is of numbers, with ``…`` of texts that may be cut, and with
        ``*`` of texts that are wrapped."""
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
            table.add_row(*(one if isinstance(one, Text) else _text(one) for one in row))
        self._put(table)

    def bar(self, share: float, width: int, style: str = "yellow") -> Text:
        """A bar, its whole width a share of 1."""
        drawn = text_format.bar(share, width)
        return Text("#" * len(drawn) if self._plain else drawn, style=style)

    def histogram(self, counts: Iterable[int]) -> Text:
        """Columns of one line's height."""
        drawn = text_format.sparkline(list(counts))
        if self._plain:
            drawn = drawn.translate(str.maketrans("▁▂▃▄▅▆▇█", ".,:;=+*#"))
        return Text(drawn, style="yellow")

    def _table(self, heads: bool = False) -> Table:
        return Table(box=None, show_header=heads, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)

    def _put(self, what: Text | Table | Padding) -> None:
        shown = Padding(what, (0, 0, 0, 2), expand=False) if isinstance(what, Table) else what
        self._console.print(shown, markup=False, highlight=False, emoji=False, width=self._width)


def _text(value: str) -> Text:
    return Text(text_format.visible(value))
