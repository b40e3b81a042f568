"""`stoker sql`, and `stoker show` with --where, --by or --sort: samples by an SQL query."""

import contextlib
import itertools
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console

from stoker.flows.cli.output import print_json, print_text
from stoker.flows.logs import note
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.storage.errors import NotFound
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.queries.duck import BadQuery

if TYPE_CHECKING:
    import pyarrow as pa

    from stoker.storage.stores.store import Store
    from stoker.storage.versions.manifest import Manifest
    from stoker.storage.versions.version import Version

_MAX_ROWS = 100  # on a terminal
_LEAST, _GAP, _MARGIN = 8, 2, 4  # characters: of a column there, between two, beside the table
_SHOWN = ("url", "page_url", "title", "caption")  # columns that tell a sample, beside its key: those that there are


def sql(arguments: Namespace) -> int:
    """Print or write the rows of a query."""
    from stoker.storage.plural import plural
    from stoker.storage.versions.version import Version

    if arguments.json and (arguments.csv or arguments.parquet):
        raise UsageError("sql: --json, --csv and --parquet are three forms of the same rows; choose one")
    if arguments.parquet and arguments.parquet.exists():
        raise UsageError(f"sql: --parquet {arguments.parquet}: exists already; name a new file")
    store = load_settings(arguments).open_store(reading=True)
    manifest = load_manifest(store, arguments.corpus)
    rows = Version(store, manifest).sql(arguments.query)
    with _values_of(manifest, rows):
        if arguments.parquet:
            _write(rows, arguments.parquet)
            print(f"{arguments.parquet}: {plural(rows.num_rows, 'row')}")
        elif arguments.csv:
            print_text(_csv(rows), end="")
        elif arguments.json:
            _print_json(manifest, rows)
        else:
            _print_rows(rows)
    return 0


@contextlib.contextmanager
def _values_of(manifest: "Manifest", rows: "pa.Table") -> Iterator[None]:
    """Refuse values that Python or Parquet has no form for, such as dates of the year 20000. Raises BadQuery."""
    import pyarrow as pa

    try:
        yield
    except (OverflowError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_boolean)
        doubted = [field.name for field in rows.schema if not any(is_plain(field.type) for is_plain in plain)]
        asked = ", ".join(f"CAST({name} AS VARCHAR)" for name in doubted[:3])
        raise BadQuery(
            f"{manifest.reference}: a value cannot be written: {error}; ask for it as text: {asked}"
        ) from None


def show_samples(store: "Store", manifest: "Manifest", arguments: Namespace) -> int:
    """Print samples, or how many there are, of which an expression is true. Raises BadQuery, NotFound."""
    from stoker.storage.plural import plural
    from stoker.storage.versions.version import Version

    version = Version(store, manifest)
    rows = version.sql(_query(version, arguments))
    with _values_of(manifest, rows):
        if arguments.json:
            _print_json(manifest, rows)
            return 0
        _print_rows(rows)
    if not arguments.by:
        counted = version.sql(f"SELECT count(*) AS n FROM samples{_where(arguments)}")["n"][0].as_py()  # noqa: S608
        note(f"{manifest.reference}: {counted:,} of {plural(manifest.samples, 'sample')}")
    return 0


def _query(version: "Version", arguments: Namespace) -> str:
    by, sort = arguments.by, arguments.sort.lstrip("+-")
    for name in filter(None, (by, sort)):
        if name not in version.columns:
            from stoker.plugins import suggestion

            raise NotFound(f"{version.manifest.reference}: no column {name!r}; {suggestion(name, version.columns)}")
    where = _where(arguments)
    if by:
        order = "samples DESC, 1" if not sort else f"{_direction(arguments.sort)}, 1"
        if sort and sort != by:
            raise UsageError(f"show: --by {by} counts by that column; --sort {by} lists its values in order")
        share = "round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS percent"
        return f"SELECT {_name(by)}, count(*) AS samples, {share} FROM samples{where} GROUP BY 1 ORDER BY {order}"  # noqa: S608
    told = [name for name in _SHOWN if name in version.columns][:1]
    columns = dict.fromkeys(("key", "split", *([sort] if sort else ()), *told))
    order = f"{_direction(arguments.sort)} NULLS LAST, key" if sort else "key"
    return f"SELECT {', '.join(map(_name, columns))} FROM samples{where} ORDER BY {order}"  # noqa: S608


def _where(arguments: Namespace) -> str:
    """A WHERE clause, of an expression that is checked to be one."""
    from stoker.pipelines.tables.deciding.sql import columns_in

    if arguments.where is None:
        return ""
    try:
        columns_in(arguments.where)
    except BadQuery as error:
        raise BadQuery(f"--where: {error}") from None
    return f" WHERE (\n{arguments.where}\n)"


def _direction(sort: str) -> str:
    return f"{_name(sort.lstrip('+-'))} {'ASC' if sort.startswith('+') else 'DESC'}"


def _name(column: str) -> str:
    quoted = column.replace('"', '""')
    return f'"{quoted}"'


def _print_json(manifest: "Manifest", rows: "pa.Table") -> None:
    print_json({"reference": manifest.reference, "columns": rows.column_names, "rows": rows.to_pylist()})


def _print_rows(rows: "pa.Table") -> None:
    """A table on a terminal, of its first rows; all rows, with tabs between columns, elsewhere."""
    from stoker.flows.report.format import visible
    from stoker.flows.report.terminal import WIDTH, Sheet
    from stoker.storage.plural import plural

    if not sys.stdout.isatty():
        batches = (batch.to_pylist() for batch in rows.to_batches(1024))
        first: list[dict[str, Any]] = next(batches, [])  # Any: values; before the heads: an error stands alone
        print("\t".join(visible(name) for name in rows.column_names))
        for batch in itertools.chain([first], batches):
            for row in batch:
                print("\t".join(visible(_text(value)) for value in row.values()))
        return
    names = [visible(name) for name in rows.column_names]
    cells = [[visible(_text(value)) for value in row.values()] for row in rows.slice(0, _MAX_ROWS).to_pylist()]
    console = Console()
    widths = _widths(names, cells, min(console.width, WIDTH) - _MARGIN)
    Sheet(console).table([f"{name}…" for name in names[: len(widths)]], [_cut(row, widths) for row in cells])
    if rows.num_rows > _MAX_ROWS:
        note(f"{rows.num_rows - _MAX_ROWS:,} more rows; in a pipe all are printed")
    if left := names[len(widths) :]:
        note(f"{plural(len(left), 'more column')}: {', '.join(left)}; a pipe, --csv and --json have all")
    if any(cell_len(cell) > width for row in cells for cell, width in zip(row, widths, strict=False)):
        note("values that end in … are longer; a pipe, --csv and --json have them whole")


def _widths(names: list[str], cells: list[list[str]], width: int) -> list[int]:
    """How wide each column is printed, of the first ones that fit side by side: values are cut, names are not."""
    most = max(width // 3, 1)
    wanted = [min(most, max(map(cell_len, column))) for column in zip(names, *cells, strict=True)]
    least = [min(one, max(_LEAST, cell_len(name))) for one, name in zip(wanted, names, strict=True)]
    while len(least) > 1 and sum(least) + _GAP * len(least) > width:
        least.pop()
    for limit in range(most, _LEAST, -1):
        widths = [max(low, min(one, limit)) for one, low in zip(wanted, least, strict=False)]
        if sum(widths) + _GAP * len(widths) <= width:
            return widths
    return least


def _cut(row: list[str], widths: list[int]) -> list[str]:
    return [
        cell if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"
        for cell, width in zip(row, widths, strict=False)
    ]


def _text(value: object) -> str:
    from stoker.flows.report.json_text import json_text

    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    return json_text(value, indent=None).strip('"')


def _csv(rows: "pa.Table") -> str:
    """The rows as CSV; nested values as JSON."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(rows.column_names)
    writer.writerows([_text(value) for value in row.values()] for row in rows.to_pylist())
    return text.getvalue()


def _write(rows: "pa.Table", path: Path) -> None:
    """Write a Parquet file at once, never half of one."""
    import pyarrow.parquet as pq

    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        pq.write_table(rows, part)
        os.link(part, path)
    except FileExistsError:
        raise UsageError(f"sql: --parquet {path}: exists already; name a new file") from None
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        reason = os.strerror(error.errno or 0)
        raise UsageError(f"sql: --parquet {path}: {path.parent}: {reason}; name a file in another folder") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
